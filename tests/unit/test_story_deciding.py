"""Which decisions had an example in their evidence: those whose count reaches back to it, and no others."""

import numpy as np
import pytest

from services.replay.online import open_batch
from services.replay.story.deciding import Decisions
from services.replay.story.facts import Decided
from services.runtime.models import BATCH, Moved
from tests.duels import MODELS, OLD, Model, World, registered

BETTER = 0.2


@pytest.fixture(scope="module")
def world() -> World:
    """Return one where a version is much better, and another after it is not, which is held against the first."""
    world = World({1: Model(BETTER), 2: Model(OLD)})
    world.say(registered(1))
    world.run(4000)
    world.say(registered(2))
    world.run(5000)
    return world


def decided(world: World, partition: int, offset: int) -> list[Decided]:
    found = Decisions(world.stream, partition, offset)
    for record in world.sent:
        found.fold(record, open_batch(record))
    return found.written(world.log.read(MODELS))


def rows(world: World) -> list[tuple[int, int, set[int]]]:
    """Return, in the order of the log, each example's place, and the versions that scored it."""
    found = []
    for record in world.sent:
        batch = open_batch(record)
        places = zip(batch.column("partition").to_pylist(), batch.column("offset").to_pylist(), strict=True)
        asked = [{one["version"] for one in row} for row in batch.column("batch").to_pylist()]
        found += [(*place, versions) for place, versions in zip(places, asked, strict=True)]
    return found


def test_each_decision_names_its_evidence(world: World) -> None:
    """Every example of the log, against a count: of the rows that a decision is made of, the first is the first."""
    decisions = [moved for moved in world.moves() if moved.evidence]
    assert [f"{moved.version} {moved.state}" for moved in decisions][:2] == ["1 canary", "1 champion"]
    assert ("retired", 2) in [(moved.state, moved.version) for moved in decisions]
    places = rows(world)
    alone = [place for place, (_, _, versions) in enumerate(places) if 1 in versions]
    evidence = {moved.reason: set(alone[: int(moved.evidence["examples"])]) for moved in decisions[:2]}
    rivals = "online alone", "online alone"
    for place in [*range(0, len(places), 450), *(max(made) + step for made in evidence.values() for step in (0, 1))]:
        partition, offset, _ = places[place]
        found = {one.reason: one for one in decided(world, partition, offset) if one.version == f"{BATCH}@1"}
        assert found.keys() & evidence.keys() == {why for why, made in evidence.items() if place in made}
        for moved, rival in zip(decisions[:2], rivals, strict=True):
            if moved.reason in found:
                one = found[moved.reason]
                assert (one.state, one.rival, one.examples) == (moved.state, rival, moved.evidence["examples"])


def test_the_rival_counts_as_well(world: World) -> None:
    """What a challenger is held against is the champion, on the rows that both answered."""
    gone = next(moved for moved in world.moves(2) if moved.state == "retired")
    both = [(p, o) for p, o, versions in rows(world) if versions >= {1, 2}]
    inside = [decided(world, *place) for place in both[:2]]
    assert [[one.rival for one in found if one.reason == gone.reason] for found in inside] == [[f"{BATCH}@1"]] * 2
    assert isinstance(gone, Moved)
    early = next((p, o) for p, o, versions in rows(world) if versions == {1})
    assert not [one for one in decided(world, *early) if one.version == f"{BATCH}@2"]
    assert np.isfinite(gone.evidence["mean"])
