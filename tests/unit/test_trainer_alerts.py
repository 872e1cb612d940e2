"""The trainer's stage and alerts: one that a training can mend has one, within its budget, and a kill doubles none."""

from pathlib import Path

import pytest

from services.runtime.grammar import BatchRule, Duration
from services.runtime.models import Registered
from services.trainer.settings import LATER
from tests.alerted import alert, resolved
from tests.stored import HOUR
from tests.unit.test_trainer_stage import Run

RULE = BatchRule(alert_examples=5, alerts_per_day=2, cool_down=Duration("4h"))
ASKED = "alert:loss-1"


class Alerted(Run):
    """A trainer without a schedule, of which an alert can ask."""

    def begin(self) -> None:
        self.rule = RULE
        super().begin()


@pytest.fixture
def run(tmp_path: Path) -> Alerted:
    return Alerted(tmp_path)


def test_an_alert_has_a_version_of_its_own(run: Alerted) -> None:
    """Once enough labelled examples are of the time after the change; what is registered names it."""
    run.turn(10)
    assert not run.hand.ready
    run.say(alert())
    run.turn(4)
    assert (run.hand.asked, run.hand.ready) == ([], True)
    run.turn(1)
    assert (run.hand.asked, run.hand.order.since) == ([ASKED], 10 * HOUR)
    run.turn(4)
    assert run.health.report().busy == "trains a version of the batch model"
    run.done()
    run.turn(3)
    assert run.registered() == [Registered("batch", 1, "made:0", 19, 0.25, 0.75, ASKED)]
    assert run.registered()[0].alert == "loss-1"
    run.turn(30)
    assert run.hand.asked == [ASKED]


def test_a_change_is_where_the_detector_says(run: Alerted) -> None:
    """`retrain_from`, where it proposes one."""
    run.turn(30)
    run.say(alert(retrain_from=12 * HOUR))
    run.turn()
    assert run.hand.order.since == 12 * HOUR


def test_a_restart_asks_for_nothing_again(run: Alerted) -> None:
    """A kill before the card stands: it is asked for again, once; after that: never."""
    run.say(alert())
    run.turn(15)
    assert run.hand.asked == [ASKED]
    run.begin()
    run.turn()
    assert run.hand.asked == [ASKED]
    run.done()
    run.begin()
    run.turn(20)
    assert (run.hand.asked, len(run.registered())) == ([], 1)


@pytest.mark.parametrize("status", [LATER, -9])
def test_a_training_that_was_killed_is_for_the_alert_again(run: Alerted, status: int) -> None:
    """After a pause; one whose examples can't be learned from is not."""
    run.say(alert())
    run.turn(15)
    run.train(status)
    run.turn()
    run.clock.sleep(1)
    run.turn()
    assert run.hand.asked == [ASKED, ASKED]
    run.train(1)
    run.turn(20)
    assert run.hand.asked == [ASKED, ASKED]


def test_what_is_held_waits(run: Alerted) -> None:
    """From the command on, until the next says otherwise; a new trainer, late in its reading, heeds it too."""
    run.hold(held=True)
    run.say(alert())
    run.turn(20)
    run.begin()
    run.turn(1)
    assert run.hand.asked == []
    run.hold(held=False)
    run.turn()
    assert run.hand.asked == [ASKED]


def test_what_is_over_asks_for_nothing(run: Alerted) -> None:
    """Resolved before it was heard of, or before there was enough to learn from."""
    run.say(alert(), resolved(alert()), alert(number=0))
    run.turn(20)
    run.begin()
    run.turn(5)
    assert run.hand.asked == []


def test_commands_that_can_t_be_read_hold_it_back(run: Alerted) -> None:
    """Nobody knows what they say; examples go on, and so does the schedule."""
    run.say(alert())
    run.commands.away = True
    run.turn(20)
    assert (run.hand.asked, run.store.extent().rows) == ([], 20)
    run.commands.away = False
    run.turn()
    assert run.hand.asked == [ASKED]


def test_an_alert_goes_before_the_schedule(run: Alerted) -> None:
    """And its version puts off what would be due, as it saw the same examples."""
    run.stage._rule = BatchRule(train_every=Duration("10h"), train_after=20, alert_examples=5)
    run.say(alert())
    run.turn(14)
    run.turn(6)
    assert run.hand.asked == [ASKED]
    run.done()
    run.turn(9)
    assert run.hand.asked == [ASKED]
    run.turn(1)
    assert run.hand.asked == [ASKED, "schedule"]


def test_a_stream_that_wants_none_has_none(run: Alerted) -> None:
    """`on_alert = false`, and a stream without a batch model."""
    run.say(alert())
    for rule in (BatchRule(on_alert=False), None):
        run.stage._rule = rule
        run.turn(15)
    assert run.hand.asked == []
