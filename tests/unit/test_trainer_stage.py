"""The trainer's stage on a loop: what is due is trained once, and what was trained is registered once."""

import logging
from pathlib import Path

import msgspec
import pytest

from services.runtime.alerts import Alert
from services.runtime.artifacts import Artifacts
from services.runtime.commands import Hold
from services.runtime.errors import Retry
from services.runtime.grammar import BatchRule, Duration
from services.runtime.health import Health
from services.runtime.loop import Loop
from services.runtime.memory import MemoryHistory, MemoryLog
from services.runtime.models import Registered
from services.runtime.records import Outgoing, Record
from services.runtime.signing import make_keys
from services.runtime.waiting import Wait
from services.trainer.apprentice import Order
from services.trainer.cards import Card, Cards
from services.trainer.listening import Listening
from services.trainer.registry import Registry
from services.trainer.settings import LATER
from services.trainer.stage import Training
from services.trainer.store import ExampleStore
from services.trainer.storing import opened
from tests.lessons import STREAM
from tests.loops import Place, Ticking
from tests.stored import HOUR, TOPIC, expected, ids, out

MODELS, ALERTS, COMMANDS = "made.models", "made.alerts", "made.commands"
RULE = BatchRule(train_every=Duration("10h"), train_after=6)


class Hand:
    """Trains when the test says so."""

    def __init__(self) -> None:
        self.at_work = self.ready = False
        self.asked: list[str] = []
        self.status: int | None = None

    def prepare(self) -> None:
        self.ready = True

    def ask(self, order: Order) -> None:
        assert not self.at_work, "two at once"
        self.at_work = True
        self.asked.append(order.by)
        self.order = order

    def ended(self) -> int | None:
        status, self.status = self.status, None
        if status is not None:
            self.at_work = False
        return status

    def stop(self) -> None:
        self.at_work = self.ready = False


class Said:
    """A topic as the trainer follows it; one that is `late` has nothing until its end was asked for."""

    def __init__(self, log: MemoryLog, topic: str, *, late: bool) -> None:
        self._log, self._topic, self._late, self._read = log, topic, late, 0
        self.away = False

    def new(self) -> list[Record]:
        return [] if self._late and not self._read else self.rest()

    def rest(self) -> list[Record]:
        if self.away:
            raise Retry(f"{self._topic} is away")
        found = self._log.read(self._topic)[self._read :]
        self._read += len(found)
        return found


class Run(Place):
    """A log of examples, one an hour, and trainers that come and go on it."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, topics=(TOPIC,))
        make_keys(data / "keys")
        self.rows = 0
        self.artifacts = Artifacts(data, "made")
        self.cards = Cards(self.artifacts, "made:0")
        self.rule: BatchRule | None = RULE
        self.begin()

    def begin(self) -> None:
        """Start a trainer, as after a kill if there was one."""
        self.clock, self.hand = Ticking(None), Hand()
        self.store = ExampleStore(str(self.data / "store"), STREAM)
        self.identity = opened(self.store, Wait(self.clock))
        registry = Registry(STREAM, self.artifacts, lambda: MemoryHistory(self.log).read_topic(MODELS))
        cards, self.health = Cards(self.artifacts, "made:0"), Health("trainer", self.clock)
        self.alerts, self.commands = Said(self.log, ALERTS, late=False), Said(self.log, COMMANDS, late=True)
        listening = Listening(self.alerts, self.commands, Wait(self.clock))
        self.stage = Training(self.store, 100, self.rule, cards, registry, self.hand, self.health, listening)
        self.trainer: Loop = self.loop(self.stage)

    def snapshots(self) -> object:  # type: ignore[override]
        found = super().snapshots()
        found._fingerprint = self.identity
        return found

    def turn(self, events: int = 0) -> None:
        """Let so many more events have their labels, and the loop take a few turns."""
        for _ in range(events):
            self.log.append(out(self.rows, 1))
            self.rows += 1
        self.trainer.run(timeout=0.5)

    def train(self, status: int = 0, *, servable: bool = True) -> None:
        """Have the training at hand end: well, with a version of what the table holds."""
        assert self.hand.at_work
        if status == 0:
            self.add(servable=servable)
        self.hand.status = status

    def done(self) -> None:
        """Have the training at hand end well, with a version for whoever has asked."""
        self.add(self.hand.order.by)
        self.hand.status = 0

    def add(self, by: str = "schedule", feature_set: str = "made:0", *, servable: bool = True) -> None:
        given = {"version": self.cards.free(), "by": by, "feature_set": feature_set, "servable": servable}
        self.cards.add(card(newest=(self.rows - 1) * HOUR, rows=self.rows, **given), b"graph")

    def say(self, *alerts: Alert) -> None:
        for alert in alerts:
            self.log.append(Outgoing(ALERTS, msgspec.json.encode(alert), key=alert.key, partition=0))

    def hold(self, *, held: bool) -> None:
        command = Hold(held, "ann@desk", "a test")
        self.log.append(Outgoing(COMMANDS, msgspec.json.encode(command), partition=0))

    def registered(self) -> list[Registered]:
        return [msgspec.json.decode(record.value, type=Registered) for record in self.log.read(MODELS)]


def card(**more: object) -> Card:
    made = {"version": 1, "feature_set": "made:0", "by": "schedule", "table_version": 1, "newest": 0, "rows": 6}
    made |= {"positives": 0.5, "recipe": {"kind": "mlp"}, "epochs": 2, "best_epoch": 1, "temperature": 1.0}
    made |= {"losses": [(0.5, 0.5)], "slices": {}, "reliability": [], "code": "", "columns": 3}
    made |= {"loss": 0.25, "prior_loss": 0.75, "device": "cpu", "torch": "2", "servable": True}
    return Card(**made | more)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_what_is_due_is_trained_and_registered(run: Run) -> None:
    """From `train_after` examples on; the record says what its card says, and goes out once."""
    run.turn(5)
    assert (run.hand.asked, run.hand.ready) == ([], True)
    run.turn(1)
    assert run.hand.asked == ["schedule"]
    run.turn(3)
    assert (run.hand.asked, run.registered()) == (["schedule"], [])
    assert run.health.report().busy == "trains a version of the batch model"
    run.train()
    run.turn()
    assert run.health.report().busy is None
    assert run.registered() == [Registered("batch", 1, "made:0", 9, 0.25, 0.75, "schedule")]
    [record] = run.log.read(MODELS)
    assert (record.key, record.partition) == (b"batch@1", 0)
    run.turn()
    assert (len(run.registered()), run.hand.asked) == (1, ["schedule"])


def test_the_next_is_due_when_enough_is_new(run: Run) -> None:
    """Counted from the newest event that the last one saw, not from when it ended."""
    run.turn(6)
    run.train()
    run.turn(9)
    assert len(run.hand.asked) == 1
    run.turn(1)
    assert len(run.hand.asked) == 2


def test_examples_go_into_the_table_while_it_trains(run: Run) -> None:
    """The fold goes on, and only one training is at work."""
    run.turn(6)
    run.turn(20)
    assert (ids(run.store), run.hand.asked) == (expected(26), ["schedule"])


def test_a_restart_trains_nothing_again(run: Run) -> None:
    """What was trained is told by the cards; what was not is begun by the next trainer."""
    run.turn(6)
    run.begin()
    run.turn()
    assert run.hand.asked == ["schedule"]
    run.train()
    run.begin()
    run.turn()
    assert run.hand.asked == []
    assert [record.version for record in run.registered()] == [1]
    run.begin()
    run.turn(9)
    assert (len(run.registered()), run.hand.asked) == (1, [])


def test_what_was_trained_by_hand_is_registered_and_counts(run: Run) -> None:
    """By whoever did it; and it puts off what would be due."""
    run.turn(5)
    run.add("somebody@somewhere")
    run.turn(1)
    assert [record.by for record in run.registered()] == ["somebody@somewhere"]
    assert run.hand.asked == []


@pytest.mark.parametrize("status", [LATER, -9])
def test_a_training_that_was_killed_is_begun_again(run: Run, status: int) -> None:
    """After a pause, that grows."""
    run.turn(6)
    for begun, pause in enumerate([1, 2, 4], 2):
        run.train(status)
        run.turn()
        assert len(run.hand.asked) == begun - 1
        run.clock.sleep(pause)
        run.turn()
        assert len(run.hand.asked) == begun


def test_examples_that_teach_nothing_are_given_up(run: Run) -> None:
    """Until the next training is due, and with a word."""
    run.turn(6)
    run.train(1)
    run.turn(9)
    assert len(run.hand.asked) == 1
    run.turn(1)
    assert len(run.hand.asked) == 2


def test_a_lost_answer_registers_nothing_twice(run: Run) -> None:
    """A commit that failed is looked up before anything is said again."""
    run.turn(6)
    run.train()
    run.log.fail_next = 2
    run.turn(1)
    run.clock.sleep(10)
    run.turn(1)
    assert [record.version for record in run.registered()] == [1]


def test_what_can_t_be_served_is_not_registered(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A "gru", and a version whose file is not what was signed; both are named, and trained no second time."""
    run.turn(6)
    run.train(servable=False)
    run.turn()
    run.turn(10)
    run.train()
    (run.data / "artifacts" / "made" / "batch" / "2.model").write_bytes(b"another")
    with caplog.at_level(logging.WARNING):
        run.turn()
    assert "batch@2 is not registered: model/made/batch/2: not signed by this installation" in caplog.text
    assert (run.registered(), len(run.hand.asked)) == ([], 2)


def test_versions_of_another_feature_set_are_not_registered(run: Run) -> None:
    """Nor do they count as trained; their numbers are taken all the same."""
    run.turn(5)
    run.add(feature_set="made:1")
    run.turn(1)
    assert (run.registered(), run.hand.asked) == ([], ["schedule"])
    run.train()
    run.turn()
    assert [record.version for record in run.registered()] == [2]


def test_a_file_that_is_no_card_is_named_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """It stops nothing."""
    (run.data / "artifacts" / "made" / "batch").mkdir(parents=True)
    (run.data / "artifacts" / "made" / "batch" / "7.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        run.turn(5)
        run.turn(1)
    assert caplog.text.count("7.json is no card of ours") == 1
    assert run.hand.asked == ["schedule"]
    assert run.cards.free() == 8


def test_an_instance_without_the_partition_does_nothing(run: Run) -> None:
    """Whoever has it trains and registers; the training of one that lost it ends."""
    run.turn(6)
    assert run.hand.at_work
    run.stage.close(0)
    assert (run.hand.at_work, run.stage.extra()) == (False, [])


def test_a_stream_without_a_schedule_registers_what_is_trained_by_hand(tmp_path: Path) -> None:
    """And keeps no process ready."""
    run = Run(tmp_path)
    run.rule = None
    run.begin()
    run.turn(30)
    run.add("somebody@somewhere")
    run.turn()
    assert (run.hand.asked, run.hand.ready, len(run.registered())) == ([], False, 1)


def test_other_records_of_models_say_nothing_of_what_is_registered(run: Run) -> None:
    """Online versions are published there, and versions of the batch model moved."""
    moved = b'{"event":"moved","model":"batch","version":1,"state":"shadow","actor":"a","reason":"b"}'
    for key, value in ((b"batch@1/1", moved), (b"online", b"anything")):
        run.log.append(Outgoing(MODELS, value, key=key, partition=0))
    run.turn(6)
    run.train()
    run.turn()
    assert [record.key for record in run.log.read(MODELS)][2:] == [b"batch@1"]
