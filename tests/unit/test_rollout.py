"""What rollout decides where the truth is known: who is promoted, held back or rolled back, and what people decide."""

import re
from itertools import pairwise
from typing import Any

import pytest

from services.rollout.core import RolloutCore
from services.runtime.models import BATCH, Moved, Weighed, decode_event
from tests.duels import MODELS, NEW, OLD, Model, Row, Tailed, World, record, registered, stream

BETTER = Model(NEW)
EQUAL = Model(OLD)
RUINS = Model(0.3, ("B", 0.05))  # better on average, and worse for one carrier of four


def champion(version: int) -> Moved:
    return Moved(BATCH, version, "champion", "ann@desk", "I want it")


def reigning(models: dict[int, Model], **rule: Any) -> World:
    """Return a world in which version 1 is champion, and the others are registered."""
    world = World(models, **rule)
    world.say(registered(1), champion(1), *(registered(version) for version in models if version != 1))
    return world


# Challengers


def test_a_better_version_becomes_champion() -> None:
    """3 % better: shadow, canary with its share, champion; each decision with its reason and its evidence."""
    world = World({1: BETTER})
    world.say(registered(1))
    world.run(15_000)
    shadow, canary, crowned = world.moves()
    assert [moved.state for moved in (shadow, canary, crowned)] == ["shadow", "canary", "champion"]
    assert {moved.actor for moved in world.moves()} == {"rollout"}
    assert (shadow.share, canary.share, crowned.share) == (0, 0.1, 0)
    assert shadow.reason == "registered by a test, and no other challenger is compared"
    assert canary.reason == "nowhere shown to be worse than online alone on 500 examples as a shadow"
    assert re.fullmatch(
        r"shown to be better than online alone by 0\.0\d+ nats an example \(-?0\.0\d+ to 0\.0\d+, [\d,]+ examples\),"
        r" at odds of 2\d to 1",
        crowned.reason,
    )
    assert crowned.evidence.keys() == {"examples", "mean", "low", "high", "log_wealth"}
    assert crowned.evidence["low"] < crowned.evidence["mean"] < crowned.evidence["high"]
    assert crowned.evidence["log_wealth"] >= 2.99


def test_an_equal_version_is_not_promoted() -> None:
    """A/A: a canary, and out when patience ends; then nothing is asked of it any more."""
    world = World({1: EQUAL}, patience=6000)
    world.say(registered(1))
    world.run(9000)
    assert world.states() == ["1 shadow", "1 canary", "1 retired"]
    assert world.moves()[-1].reason.startswith("not shown to be better than online alone on 6,000 examples: ")


def test_a_worse_version_goes_early() -> None:
    """Shown to be worse, it is served no longer than it takes to show that."""
    world = World({1: Model(2.0)})
    world.say(registered(1))
    world.run(3000)
    last = world.moves()[-1]
    assert last.state == "retired"
    assert last.reason.startswith("shown to be worse than online alone by 0.")
    assert last.evidence["examples"] <= 1000
    assert last.evidence["mean"] < 0


def test_a_ruined_slice_is_named() -> None:
    """It wins on average, and goes all the same; the reason names the slice."""
    world = World({1: RUINS}, online=Model(1.2))
    world.say(registered(1))
    world.run(20_000)
    last = world.moves()[-1]
    assert (last.state, "champion" in world.states(1)) == ("retired", False)
    assert re.match(
        r"held back by carrier=B \(worse by 0\.\d+ nats an example, -?0\.\d+ to 0\.\d+, [\d,]+ examples\); overall",
        last.reason,
    )
    assert "better than online alone" in last.reason
    assert last.evidence["mean"] > 0


def test_a_canary_takes_its_time() -> None:
    """However good, it is champion only after `canary_examples` of its time as one."""
    for needed in (500, 3000):
        world = World({1: Model(0.0)}, online=Model(2.0), canary_examples=needed)
        world.say(registered(1))
        world.run(5000)
        assert world.states(1) == ["shadow", "canary", "champion"]
        found = world.moves(1)[-1].evidence["examples"]
        assert needed + 500 <= found <= needed + 500 + 600, "the examples on their way, and a message"


def test_one_challenger_at_a_time_the_newest_first() -> None:
    """What is registered waits while another is compared; then the newest has its turn, older ones never had theirs."""
    world = World({1: Model(1.1), 2: EQUAL, 3: BETTER})
    world.say(registered(1))
    world.run(200)
    world.say(registered(2), registered(3))
    world.run(4000)
    assert world.states()[:2] == ["1 shadow", "1 canary"]
    assert world.states()[2:5] == ["1 retired", "2 retired", "3 shadow"]
    assert world.moves(2)[0].reason == "batch@3 is newer, and came before its turn"


def test_versions_of_another_feature_set_are_nobodys() -> None:
    """Nothing is decided on what this service can't compare."""
    world = World({})
    world.say(registered(1, "made:other"))
    world.run(1000)
    assert world.log.read(MODELS)[1:] == []


def test_a_challenger_is_held_against_the_champion() -> None:
    """Not against the online model, which it beats easily; when it takes the place, the old champion is a shadow."""
    world = reigning({1: EQUAL, 2: BETTER}, online=Model(3.0))
    world.run(15_000)
    assert world.states(2) == ["shadow", "canary", "champion"]
    assert "than batch@1 by" in world.moves(2)[-1].reason
    assert world.lineup.candidates[1].state == "shadow"


def test_evidence_begins_anew_with_another_champion() -> None:
    """What was shown against the one before says nothing of the next."""
    world = reigning({1: Model(2.0), 2: EQUAL, 3: EQUAL}, online=Model(3.0), canary_examples=4000)
    world.run(3000)
    assert world.states(3) == ["shadow", "canary"]
    core = world.stage._cores[0]
    assert core._versions[3].comparison.better.shown
    world.say(champion(2))
    world.run(1000)
    assert core._versions[3].comparison.rival == 2
    assert core._versions[3].comparison.better.examples < 1000
    assert core._versions[3].comparison.better.shown is None


# The champion


@pytest.mark.parametrize("by", ["rollout", "ann@desk"])
def test_a_champion_that_turns_bad_is_rolled_back(by: str) -> None:
    """Within 1,000 labelled examples the version before it is champion again, whoever promoted it."""
    world = reigning({1: EQUAL, 2: Model(NEW, bad_from=12_000)})
    if by != "rollout":
        world.run(1000)
        world.say(champion(2))
    world.run(11_500 - world.labelled)
    assert world.lineup.champion == 2
    assert world.moves(2)[-1].actor == by
    world.run(1500)
    back = world.moves()[-2:]
    assert [(moved.version, moved.state, moved.actor) for moved in back] == [
        (2, "retired", "rollout"),
        (1, "champion", "rollout"),
    ]
    why = r"(turned worse|much worse than guessing by how frequent the label is), [\d,]+ examples after its promotion;"
    assert re.match(why, back[0].reason)
    assert back[0].evidence["examples"] < (9000 if by == "rollout" else 12_000), "its reign alone"
    assert back[1].reason == f"batch@2 is withdrawn: {back[0].reason}"
    world.run(2000)
    assert len(world.states()) == world.states().index("2 retired") + 2, "once"
    assert world.lineup.champion == 1


def test_what_is_compared_is_what_would_be_served() -> None:
    """A version no better than the online model, which errs elsewhere, is promoted if their mix is."""
    world = World({1: EQUAL}, beside=0.5)
    world.say(registered(1))
    world.run(15_000)
    assert world.states() == ["1 shadow", "1 canary", "1 champion"]
    world = World({1: EQUAL}, beside=0.0, patience=6000)
    world.say(registered(1))
    world.run(9000)
    assert world.states() == ["1 shadow", "1 canary", "1 retired"]
    assert world.moves()[-1].evidence["mean"] == 0


def test_a_champion_that_gets_a_little_worse_is_rolled_back() -> None:
    """It knows more than nothing, and less than the one before it."""
    world = reigning({1: EQUAL, 2: BETTER})
    world.run(1000)
    world.say(champion(2))
    world.run(3000)
    assert world.lineup.champion == 2
    world.models[2] = Model(1.6)
    world.run(6000)
    assert world.lineup.champion == 1
    assert world.moves(2)[-1].reason.startswith("turned worse, ")


def test_a_champion_that_knows_nothing_goes_whatever_its_rival_does() -> None:
    """When all models fail alike none is better than another; guessing by how frequent the label is, is."""
    world = reigning({1: Model(OLD, bad_from=3000)}, online=Model(OLD, bad_from=3000))
    world.run(3500)
    gone = world.moves()[-1]
    assert (gone.state, gone.actor) == ("retired", "rollout")
    assert gone.reason.startswith("much worse than guessing by how frequent the label is, ")


def test_without_a_predecessor_the_online_model_serves_alone() -> None:
    """A first champion is watched against the online model, and withdrawn."""
    world = reigning({1: Model(OLD, bad_from=3000)})
    world.run(4000)
    assert world.states() == ["1 champion", "1 retired"]
    assert "than online alone by" in world.moves()[-1].reason
    assert world.lineup.champion is None


def test_a_slice_that_shows_after_the_promotion_rolls_back() -> None:
    """A person promoted it; the slice is named, and the version goes."""
    world = reigning({1: EQUAL, 2: Model(0.3, ("B", 0.06))})
    world.run(300)
    world.say(champion(2))
    world.run(15_000)
    gone = next(moved for moved in world.moves(2) if moved.state == "retired")
    assert gone.reason.startswith("worse than batch@1 for carrier=B (worse by ")
    assert world.lineup.champion == 1


def test_after_its_patience_a_champion_has_no_predecessor() -> None:
    """The one before it is let go, and the online model is what it is held against from then on."""
    world = reigning({1: EQUAL, 2: Model(NEW, bad_from=9000)}, patience=3000)
    world.run(1000)
    world.say(champion(2))
    world.run(6000)
    assert world.moves(1)[-1].reason == "batch@2 took its place, and has not turned worse within 3,000 examples"
    assert world.lineup.candidates[1].state == "retired"
    world.run(4000)
    assert world.moves(2)[-1].state == "retired"
    assert "than online alone by" in world.moves(2)[-1].reason


def test_a_settled_champion_may_be_worse_in_a_slice() -> None:
    """By then the online model is its rival, and where that is better in a slice, the mix is for it."""
    world = reigning({1: Model(1.0)}, online=Model(1.6), patience=1500)
    world.run(2500)
    world.models[1] = Model(0.1, ("B", 0.08))
    world.run(15_000)
    assert world.states() == ["1 champion"]
    comparison = world.stage._cores[0]._versions[1].comparison
    assert [worse.value for worse in comparison.slices.worse()] == ["B"]


# People and guards


def test_what_a_person_retired_stays_so() -> None:
    """Examples of its time come for long; nothing is decided on it, and it is forgotten."""
    world = World({1: Model(0.0)}, online=Model(2.0), late=1000)
    world.say(registered(1))
    world.run(1500)
    world.say(Moved(BATCH, 1, "retired", "ann@desk", "no"))
    world.run(5000)
    assert world.states(1)[-1] == "retired"
    assert world.moves(1)[-1].actor == "ann@desk"
    assert world.stage._cores[0].weights() == {}


def test_what_a_person_promoted_is_judged_by_what_comes_after(caplog: pytest.LogCaptureFixture) -> None:
    """Evidence of its time as a challenger neither retires a version that a person wants, nor counts as its reign."""
    world = World({1: Model(1.0)}, late=1500, patience=2500)
    world.say(registered(1))
    world.run(900)
    world.say(champion(1))
    caplog.set_level("INFO")
    world.run(2500)
    assert world.states(1) == ["shadow", "champion"], "canary and retired were decided by what was said before"
    assert "left undone, as it is champion by now" in caplog.text


def test_a_slice_of_its_time_as_a_challenger_is_no_reason() -> None:
    """A person promotes a version while labels still come that show what it was: they are no evidence of its reign."""
    world = World({1: Model(OLD, ("B", 0.4))}, late=3000)
    world.say(registered(1))
    world.run(300)
    world.say(champion(1))
    world.models[1] = Model(NEW)
    world.run(6000)
    assert world.states() == ["1 shadow", "1 champion"]


def test_a_decision_that_nobody_sees_is_made_again() -> None:
    """Once `patience` examples have not shown it, and not before."""
    core, batch = RolloutCore(World({}, patience=100).stream), entries(v1="shadow")
    batch[0]["score"] = 0.01
    made = []
    for offset in range(300):
        row = Row(0, offset, "A", 1.0, 0.9, batch)
        made += [core.examples for _ in core.fold([record(stream(patience=100), [row], offset)])]
    assert len(made) in (2, 3)
    assert all(after - before == 101 for before, after in pairwise(made))


def test_a_version_that_comes_back_begins_anew() -> None:
    """Rolled back, then promoted by a person once more: it is watched as one that was never seen."""
    world = reigning({1: EQUAL, 2: Model(OLD, bad_from=3000)})
    world.run(500)
    world.say(champion(2))
    world.run(4500)
    assert world.lineup.champion == 1
    world.models[2] = EQUAL
    world.say(champion(2))
    world.run(3000)
    assert world.lineup.champion == 2


def test_a_withdrawn_champion_is_not_withdrawn_twice() -> None:
    """A guard was quicker: what its examples say of it later moves nobody."""
    world = reigning({1: EQUAL, 2: Model(NEW, bad_from=3000)}, late=2000)
    world.run(500)
    world.say(champion(2))
    world.run(2500)
    world.say(*world.lineup.withdraw(2, "inference", "it answers NaN"))
    world.run(4000)
    assert [moved.actor for moved in world.moves(2)[-2:]] == ["ann@desk", "inference"]
    assert world.lineup.champion == 1


# What examples say of now


def entries(**states: str) -> list[dict[str, Any]]:
    return [
        {"version": int(name[1:]), "score": 0.5, "weight": 0.0, "state": state, "beside": 0.5}
        for name, state in states.items()
    ]


def shown(*rows: tuple[int, int, list[dict[str, Any]]], **rule: Any) -> dict[int, str]:
    """Return the states after messages of one row each: its partition, its offset, its versions."""
    world = World({}, **rule)
    for number, (partition, offset, batch) in enumerate(rows):
        world.fold(record(world.stream, [Row(partition, offset, "A", 1.0, 0.5, batch)], number))
    return {number: version.state for number, version in world.stage._cores[0]._versions.items()}


def test_an_old_row_says_nothing_of_now() -> None:
    """Its label came late: what the newest labelled event of its partition says holds."""
    canary, shadow = entries(v1="canary"), entries(v1="shadow")
    assert shown((0, 5, shadow), (0, 9, canary), (0, 7, shadow), (0, 6, [])) == {1: "canary"}


def test_a_partition_that_is_behind_says_nothing_new() -> None:
    """Others told of it before; what it tells first, it leads with."""
    told = [entries(v1=state) for state in ("shadow", "canary", "champion")]
    behind = [(1, offset, batch) for offset, batch in enumerate(told[:2])]
    led = [(0, offset, batch) for offset, batch in enumerate(told)]
    assert shown(*led, *behind) == {1: "champion"}
    assert shown(*led, *behind, (1, 2, told[2]), (1, 3, [])) == {}


def test_a_champion_makes_way() -> None:
    """For its follower, and for its predecessor where it is gone; whichever version has the lower number."""
    taken = (0, 1, entries(v1="champion", v2="shadow"))
    for low, high in (("v1", "v2"), ("v2", "v1")):
        before = (0, 0, entries(**{low: "shadow", high: "champion"}))
        after = (0, 1, entries(**{low: "champion", high: "shadow"}))
        back = (0, 2, entries(**{high: "champion"}))
        number, other = int(low[1]), int(high[1])
        assert shown(before, after) == {number: "champion", other: "shadow"}
        assert shown(before, after, back) == {other: "champion"}
    assert shown(taken) == {1: "champion", 2: "shadow"}


def test_a_champion_is_held_against_the_newest_before_it() -> None:
    """Of several that were champion, the last is who a rollback would go back to."""
    world = World({})
    reigns = [{"v1": "champion", "v2": "shadow", "v3": "shadow"}, {"v1": "shadow", "v2": "shadow", "v3": "champion"}]
    reigns += [{"v1": "shadow", "v2": "champion", "v3": "shadow"}]
    for at, states in enumerate(reigns):
        world.fold(record(world.stream, [Row(0, at, "A", 1.0, 0.5, entries(**states))], at))
    assert world.stage._cores[0]._versions[2].comparison.rival == 3
    assert world.stage._cores[0]._former() == [3, 1]


def test_a_forgotten_version_may_come_again() -> None:
    """One of which nothing was heard for `patience` examples is new when examples tell of it again."""
    rows = [(0, 1, entries(v1="shadow"))]
    quiet = [(1, offset, []) for offset in range(8)]
    assert shown(*rows, *quiet, patience=6) == {}
    assert shown(*rows, *quiet, (0, 2, entries(v1="shadow")), patience=6) == {1: "shadow"}


# Weights


def test_weights_follow_what_models_are_worth() -> None:
    """Each version that is scored has its weight beside the online model, published when it changed, not too often."""
    world = World({1: Model(0.0)}, online=Model(2.0), rate=1.0)
    world.say(registered(1))
    world.run(1000)
    records = [record for record in world.log.read(MODELS) if record.key == b"weights"]
    weighed = [event for record in records if isinstance(event := decode_event(record.value), Weighed)]
    assert {tuple(one.weights) for one in weighed} == {(1,)}
    assert weighed[-1].weights[1] > 0.9
    assert 5 < len(weighed) == len(records) <= world.clock.time
    world.clock.sleep(2)
    assert world.stage.extra() == []


def test_a_score_that_is_missing_counts_for_nobody() -> None:
    """Rows without a version's score, or without the online model's, are not compared."""
    world = World({1: EQUAL})
    entry = {"version": 1, "score": None, "weight": 0.0, "state": "shadow", "beside": 0.5}
    rows = [Row(0, n, "A", 1.0, 0.5, [entry]) for n in range(5)]
    rows += [Row(0, 5 + n, "A", 1.0, None, [entry | {"score": 0.5}]) for n in range(5)]
    rows += [Row(0, 10, "A", 1.0, 0.5, [entry | {"score": 0.9}])]
    world.fold(record(world.stream, rows, 0))
    version = world.stage._cores[0]._versions[1]
    assert version.comparison is not None
    assert version.comparison.better.examples == 1
    assert 0.5 < version.weight < 0.65


def test_corrections_are_no_evidence() -> None:
    """An example counts once, with its first label."""
    world = World({1: EQUAL})
    entry = {"version": 1, "score": 0.9, "weight": 0.0, "state": "shadow", "beside": 0.5}
    rows = [Row(0, n, "A", 1.0, 0.5, [entry]) for n in range(5)]
    world.fold(record(world.stream, rows, 0))
    before = world.stage.snapshot(0)
    world.fold(record(world.stream, rows, 1, retracts=0.0))
    assert world.stage.snapshot(0) == before


def test_without_versions_nothing_is_kept() -> None:
    """Examples of a stream without a batch model leave no state, and no record is written."""
    world = World({})
    before = world.stage.snapshot(0)
    world.run(1000)
    assert world.stage.snapshot(0) == before
    assert Tailed(world.log).rest() == []


def test_whoever_has_not_the_partition_writes_nothing() -> None:
    """Of several instances one decides; the others wait for their turn."""
    world = World({1: EQUAL})
    world.stage.close(0)
    world.say(registered(1))
    world.clock.sleep(5)
    assert world.stage.extra() == []


def test_what_is_unknown_is_no_evidence() -> None:
    """Rows whose label never came count nowhere."""
    world = World({1: Model(0.0)}, online=Model(2.0))
    world.say(registered(1))
    world.run(1000)
    core = world.stage._cores[0]
    before, weights = core.examples, core.weights()
    unknown = [row._replace(label=None) for row in world._waiting[:50]]
    world.fold(record(world.stream, unknown, len(world.sent)))
    assert (core.examples, core.weights()) == (before, weights)
    world.fold(record(world.stream, world._waiting[:50], len(world.sent)))
    assert core.examples == before + 50
