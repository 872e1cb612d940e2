"""Rollout's stage on the loop: every decision is written once, whatever is restarted, cut or committed in vain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.rollout.deciding import Deciding, turns
from services.runtime.errors import Retry
from services.runtime.loop import Loop
from services.runtime.memory import ManualClock, MemorySink, MemorySource
from services.runtime.models import BATCH, Lineup, Moved, Registered, State, decode_event
from services.runtime.records import Outgoing, Record
from services.runtime.waiting import Wait
from tests.duels import EXAMPLES, MODELS, NEW, Model, Tailed, World, registered
from tests.loops import Place, Recording, Ticking

DECIDED = ["2 canary", "2 champion", "2 retired", "1 champion"]


@pytest.fixture(scope="module")
def world() -> World:
    """Return a world in which a version rises and falls."""
    world = World({1: Model(1.5), 2: Model(NEW, bad_from=4000)}, online=Model(1.6), canary_examples=1000)
    world.say(registered(1), Moved(BATCH, 1, "champion", "ann@desk", "first"), registered(2))
    world.run(5500)
    assert world.states() == ["1 champion", "2 shadow", *DECIDED]
    return world


class Run(Place):
    """The examples of a world, read by rollout's own loops; of `models` there is what came before the examples."""

    def __init__(self, data: Path, world: World) -> None:
        super().__init__(data, topics=(EXAMPLES,))
        self.world = world
        first = [record for record in world.log.read(MODELS) if b'"registered"' in record.value]
        given = [Moved(BATCH, 1, "champion", "ann@desk", "first"), Moved(BATCH, 2, "shadow", "rollout", "its turn")]
        for value in [*(record.value for record in first), *map(msgspec.json.encode, given)]:
            self.log.append(Outgoing(MODELS, value, None, 0))
        for record in world.sent:
            self.log.append(Outgoing(EXAMPLES, record.value, None, 0, record.headers))

    def rollout(self, sink: MemorySink | None = None, **more: Any) -> Loop:
        models, clock, self.clock = Tailed(self.log), ManualClock(), Ticking()
        self.stage = Deciding(self.world.stream, models, clock, Wait(clock))
        return self.loop(self.stage, sink, **more)

    def decided(self) -> list[str]:
        events = [decode_event(record.value) for record in self.log.read(MODELS)[4:]]
        return [f"{event.version} {event.state}" for event in events if isinstance(event, Moved)]


@pytest.fixture
def run(tmp_path: Path, world: World) -> Run:
    return Run(tmp_path, world)


def test_a_decision_is_in_the_transaction_of_its_examples(run: Run) -> None:
    """Its record and the offsets of what it was made of are committed together."""
    sink = Recording(run.log)
    run.rollout(sink, batch=1).run(count=len(run.world.sent))
    decisive = [(values, offsets) for values, offsets in sink.done if any(b'"moved"' in value for value in values)]
    assert run.decided() == DECIDED
    assert [sum(b'"moved"' in value for value in values) for values, _ in decisive] == [1, 1, 2]
    assert all(offsets for _, offsets in decisive)


def test_every_cut_gives_the_same_records(run: Run) -> None:
    """Batches of any size, decisions that follow each other within one as well: the same records, with their keys."""
    run.rollout(batch=1).run(count=len(run.world.sent))
    other = Run(run.data / "other", run.world)
    other.rollout(batch=1000).run(count=len(run.world.sent))
    assert moves(run) == moves(other)
    assert [key for key, _ in moves(run)] == [b"batch@2/2", b"batch@2/3", b"batch@2/4", b"batch@1/2"]


def moves(run: Run) -> list[tuple[bytes | None, bytes]]:
    return [(r.key, r.value) for r in run.log.read(MODELS)[4:] if r.key != b"weights"]


@pytest.mark.parametrize("every", [1, 7])
def test_a_restart_at_any_time_decides_nothing_twice(run: Run, every: int) -> None:
    """A process that ends after every few records, with its snapshot or without: what it folds again is silent."""
    while run.committed(EXAMPLES) < len(run.world.sent):
        loop = run.rollout(batch=1)
        loop.run(count=min(every, len(run.world.sent) - run.committed(EXAMPLES)))
        if run.committed(EXAMPLES) % 2:
            loop.close()
    assert run.decided() == DECIDED


def test_a_failed_commit_is_made_up_for(run: Run) -> None:
    """A decision whose transaction failed comes with the next one, once."""
    for _ in run.world.sent:
        run.log.fail_next = 1
        loop = run.rollout(batch=1)
        loop.run(count=1)
        loop.close()
    assert run.decided() == DECIDED


def test_a_second_instance_takes_over(run: Run) -> None:
    """It has the partition's state from snapshot and log, and goes on where the first one was."""
    run.rollout(batch=1).run(count=30)
    run.rollout(source=MemorySource(run.log)).run(count=len(run.world.sent) - 30)
    assert run.decided() == DECIDED


class Away(Tailed):
    """`models` that can't be read to its end for some time."""

    def __init__(self, run: Run, times: int) -> None:
        super().__init__(run.log)
        self.times = times

    def rest(self) -> Sequence[Record]:
        if self.times:
            self.times -= 1
            raise Retry("models is not read up to its end")
        return self.new()


def test_nothing_is_decided_blindly(run: Run) -> None:
    """While `models` can't be read to its end no decision goes out, and nothing is lost."""
    wait = Wait(ManualClock())
    stage = Deciding(run.world.stream, Away(run, 3), ManualClock(), wait)
    run.loop(stage, batch=1).run(count=len(run.world.sent))
    assert run.decided() == DECIDED


def test_a_turn_waits_as_well(run: Run) -> None:
    """It says what it waits for, and goes on."""
    run.log.append(Outgoing(MODELS, msgspec.json.encode(Moved(BATCH, 2, "retired", "ann@desk", "no")), None, 0))
    run.log.append(Outgoing(MODELS, msgspec.json.encode(registered(3)), None, 0))
    clock = ManualClock()
    wait = Wait(clock)
    stage = Deciding(run.world.stream, Away(run, 1), clock, wait)
    stage.open(0, None)
    assert stage.extra() == []
    assert wait.why == "models is not read up to its end"
    clock.sleep(1)
    [out] = stage.extra()
    assert (out.key, out.topic, out.partition) == (b"batch@3/1", MODELS, 0)
    assert wait.why is None


def test_a_former_champion_blocks_nobodys_turn() -> None:
    """It is a shadow for the sake of a rollback, and is compared with nobody."""
    lineup = Lineup("made:0")
    for event in (*map(registered, (1, 2, 3)), *(Moved(BATCH, n, "champion", "ann@desk", "so") for n in (1, 2))):
        lineup.fold(event)
    assert [(moved.version, moved.state) for moved in turns(lineup)] == [(3, "shadow")]


def turned(*events: Registered | Moved) -> list[str]:
    """Return whose turn it is after these."""
    lineup = Lineup("made:0")
    for event in events:
        lineup.fold(event)
    moves = turns(lineup)
    for moved in moves:
        lineup.fold(moved)
    assert turns(lineup) == []
    return [f"{moved.version} {moved.state}" for moved in moves]


@pytest.mark.parametrize("state", ["shadow", "canary"])
def test_what_an_alert_asked_for_goes_first(state: State) -> None:
    """Before what is compared now, which retires for it, and before what is newer; beside those of other alerts."""
    urgent = [registered(number, by=f"alert:loss-{number}") for number in (2, 3)]
    compared = Moved(BATCH, 1, state, "rollout", "its turn")
    assert turned(registered(1), compared, registered(2)) == []
    assert turned(registered(1), compared, urgent[0]) == ["1 retired", "2 shadow"]
    assert turned(registered(1), urgent[0], registered(3)) == ["1 retired", "2 shadow"]
    assert turned(registered(1), compared, *urgent, registered(4)) == ["1 retired", "2 retired", "3 shadow"]
    other = registered(1, by="alert:loss-1")
    assert turned(other, compared, *urgent) == ["2 retired", "3 shadow"]
    shadows = [Moved(BATCH, number, "shadow", "rollout", "its turn") for number in (2, 3)]
    assert turned(other, compared, *urgent, *shadows, registered(4, by="alert:loss-4")) == []
    assert turned(other, compared, registered(4)) == []


def test_who_gives_way_is_told_to_whom() -> None:
    """The records name the alert and its version."""
    lineup = Lineup("made:0")
    compared = Moved(BATCH, 1, "canary", "rollout", "so far so good")
    for event in (registered(1), compared, registered(2, by="alert:loss-2")):
        lineup.fold(event)
    gone, risen = turns(lineup)
    assert gone.reason == "gives way to batch@2, which is for alert loss-2"
    assert risen.reason == "registered by alert:loss-2, and no other challenger is compared"


def test_weights_are_told_again_after_a_restart(run: Run) -> None:
    """The transaction that told them may have failed."""
    run.rollout(batch=1).run(count=20)
    state = run.stage.snapshot(0)
    run.stage.extra()
    run.stage.open(0, state)
    run.stage._due = 0.0
    assert [out.key for out in run.stage.extra()] == [b"weights"]
