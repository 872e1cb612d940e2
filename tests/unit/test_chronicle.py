"""What `models` tells of the past: each decision with its time, and who served when; and two models side by side."""

import msgspec
import numpy as np
import pytest

from infra.commands.models_shown import lines_history
from services.replay.duels import Duel
from services.rollout.evidence import log_losses
from services.runtime.chronicle import Chronicle, Step
from services.runtime.models import BATCH, Event, Moved, Published, Weighed
from services.runtime.records import Record
from tests.duels import MODELS, NEW, Model, Row, World, record, registered


def told(*events: Event) -> Chronicle:
    """Fold events of which each was written a second after the one before."""
    chronicle = Chronicle("made:0")
    for number, event in enumerate(events, 1):
        chronicle.fold(Record(MODELS, 0, number, None, msgspec.json.encode(event), 1000 * number))
    return chronicle


def test_every_decision_is_told_with_its_time() -> None:
    """From where to where, by whom, why; a champion that is followed goes back to the shadow, which is told as well."""
    canary = Moved(BATCH, 2, "canary", "rollout", "so far so good", 0.1, {"mean": 0.01})
    first = Moved(BATCH, 1, "champion", "ann@desk", "first")
    second = Moved(BATCH, 2, "champion", "rollout", "better")
    found = told(registered(1), first, registered(2), canary, second).steps
    assert found == [
        Step(1000, 1, None, "registered", "a test", "trained on 1,000 examples"),
        Step(2000, 1, "registered", "champion", "ann@desk", "first"),
        Step(3000, 2, None, "registered", "a test", "trained on 1,000 examples"),
        Step(4000, 2, "registered", "canary", "rollout", "so far so good", 0.1, {"mean": 0.01}),
        Step(5000, 1, "champion", "shadow", "rollout", "batch@2 took its place"),
        Step(5000, 2, "canary", "champion", "rollout", "better"),
    ]


def test_every_step_of_a_version_names_its_alert() -> None:
    """From its registration to its end, so that what was done for an alert can be looked up."""
    first = Moved(BATCH, 1, "champion", "rollout", "better")
    second = Moved(BATCH, 2, "champion", "rollout", "better")
    steps = told(registered(1, by="alert:loss-1"), first, registered(2), second).steps
    assert [(step.version, step.state, step.alert) for step in steps] == [
        (1, "registered", "loss-1"),
        (1, "champion", "loss-1"),
        (2, "registered", None),
        (1, "shadow", "loss-1"),
        (2, "champion", None),
    ]
    lines, shown = lines_history(steps)
    assert [" (for alert loss-1)  " in line for line in lines] == [True, True, False, True, False]
    assert [step["alert"] for step in shown] == [step.alert for step in steps]  # type: ignore[attr-defined]


def test_since_when_a_version_is_what_it_is() -> None:
    """By the last step of its own."""
    chronicle = told(registered(1), Moved(BATCH, 1, "champion", "ann@desk", "first"), Weighed(BATCH, {1: 0.7}))
    assert chronicle.since(1).time == 2000
    assert chronicle.lineup.weight(1) == 0.7


def test_other_feature_sets_and_unknown_versions_are_no_story() -> None:
    """Nothing is told of what this stream can't score with."""
    chronicle = told(registered(1, "made:1"), Moved(BATCH, 1, "champion", "ann@desk", "first"), registered(2))
    assert [step.version for step in chronicle.steps] == [2]
    assert told(registered(1), registered(1)).steps == told(registered(1)).steps


def test_the_online_model_has_a_time() -> None:
    """When the version that is live was published."""
    chronicle = told(Published("online", 1, "made:0", 1, 0.5), Published("online", 2, "made:0", 2, 0.5), registered(1))
    assert (chronicle.lineup.online, chronicle.online_since) == (2, 2000)


# Two models


@pytest.fixture(scope="module")
def world() -> World:
    world = World({1: Model(), 2: Model(NEW)})
    world.say(registered(1), Moved(BATCH, 1, "champion", "ann@desk", "first"), registered(2))
    world.run(3000)
    return world


def dueled(world: World, first: int | None, second: int | None) -> Duel:
    duel = Duel(world.stream, first, second)
    for found in world.sent:
        duel.fold([found])
    return duel


def test_both_are_held_to_the_same_rows(world: World) -> None:
    """Only what both answered counts; the slices are parts of the whole."""
    duel = dueled(world, 2, 1)
    whole, slices = duel.whole(), duel.slices()
    assert 2500 < whole.examples < 3000, "the first events were scored by version 1 alone"
    assert set(slices) == {("carrier", value) for value in ("A", "B", "C", "none")}
    assert sum(part.examples for part in slices.values()) == whole.examples
    for name in ("first", "second", "online", "served"):
        parts = sum(getattr(part, name) * part.examples for part in slices.values())
        assert parts == pytest.approx(getattr(whole, name) * whole.examples)
    assert duel.comparison.evidence()["mean"] == pytest.approx(whole.second - whole.first)


def test_a_duel_has_two_sides(world: World) -> None:
    """The other way round it is the same with the other sign; the online model is one to be held against."""
    one, other = dueled(world, 2, 1), dueled(world, 1, 2)
    assert (one.whole().first, one.whole().second) == pytest.approx((other.whole().second, other.whole().first))
    assert one.comparison.better.mean == pytest.approx(-other.comparison.better.mean)
    against = dueled(world, 1, None).whole()
    assert against.second == pytest.approx(against.online)


def test_losses_by_hand() -> None:
    """The mean of what each row cost, by each model and by what was served (0.5)."""
    common = {"weight": 0.0, "state": "shadow", "beside": 0.5}
    entries = [{"version": 1, "score": 0.2} | common, {"version": 2, "score": 0.4} | common]
    rows = [Row(0, 0, "A", 1.0, 0.9, entries), Row(0, 1, "B", 0.0, 0.9, entries), Row(0, 2, "B", 0.0, 0.9, entries[:1])]
    world = World({})
    duel = Duel(world.stream, 1, 2)
    duel.fold([record(world.stream, rows, 0)])
    whole = duel.whole()
    expected = [log_losses(np.full(2, score), [1, 0]).mean() for score in (0.2, 0.4, 0.9, 0.5)]
    assert [whole.first, whole.second, whole.online, whole.served] == pytest.approx(expected)
    assert (whole.examples, duel.slices()["carrier", "B"].examples) == (2, 1)
