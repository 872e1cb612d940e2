"""How a partition comes back: a snapshot, a muted fold of what was committed since, and nothing said twice."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.runtime.errors import Unusable
from services.runtime.loop import Loop
from services.runtime.memory import Inline, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Position
from services.runtime.stage import Cores
from tests.loops import Join, Place, Recording, Stateless, Sum, Watched

# Snapshots


def test_clean_restart(place: Place) -> None:
    """After a clean close the next process starts from the snapshot and folds nothing again."""
    place.put(1, 2)
    first = place.loop()
    first.run(count=2)
    first.close()
    place.put(3)
    stage = Watched()
    place.loop(stage).run(count=1)
    assert stage.opened == [(0, b"3")]
    assert stage.seen == [("in", 0, 2)]
    assert place.out() == ["1", "3", "6"]


def test_crash_without_a_snapshot(place: Place) -> None:
    """After a crash with no snapshot all is folded again, muted, and the outputs are those of an undisturbed run."""
    place.put(1, 2)
    place.loop(snapshot_every_s=1000).run(count=2)
    place.put(3)
    stage = Watched()
    place.loop(stage, batch=1).run(count=1)
    assert place.files() == []
    assert stage.opened == [(0, None)]
    assert [offset for _, _, offset in stage.seen] == [0, 1, 2]
    assert place.out() == ["1", "3", "6"]


def test_crash_after_a_snapshot(place: Place) -> None:
    """After a crash the records between the snapshot and the committed offset are folded again, muted."""
    place.put(1, 2)
    first = place.loop(batch=1, snapshot_every_s=1000)
    first.run(count=1)
    first.close()
    place.loop(snapshot_every_s=1000).run(count=1)
    place.put(3)
    stage = Watched()
    place.loop(stage).run(count=1)
    assert stage.opened == [(0, b"1")]
    assert [offset for _, _, offset in stage.seen if offset < 2] == [1]
    assert place.out() == ["1", "3", "6"]


def test_muted_and_live_in_one_poll(place: Place) -> None:
    """Where one poll brings old records and new ones, the old are muted and the new go out."""
    place.put(1, 2)
    place.loop(snapshot_every_s=1000).run(count=2)
    place.put(3, 4)
    sink = Recording(place.log)
    assert place.loop(sink=sink, batch=100).run(count=2) == 2
    assert sink.done == [([b"6", b"10"], {Position("in", 0): 4})]


def test_muted_is_not_counted(place: Place) -> None:
    """Records folded again are not counted as committed."""
    place.put(*range(10))
    place.loop(snapshot_every_s=1000).run(count=10)
    assert place.loop().run(timeout=2) == 0


def test_quiet_partitions(two: Place) -> None:
    """A partition that did not move gets no snapshot, nor does one that already has it."""
    two.put(1, partition=1)
    loop = two.loop(snapshot_every_s=0)
    loop.run(timeout=1)
    assert (two.files(0), two.files(1)) == ([], [f"{1:020d}.snapshot"])
    (two.data / "state" / "stream" / "service" / "1" / f"{1:020d}.snapshot").unlink()
    loop.close()
    assert two.files(1) == []


def test_damaged_snapshot(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged snapshot is passed over with a word in the log, and the outputs are the same as ever."""
    place.put(1, 2)
    first = place.loop()
    first.run(count=2)
    first.close()
    path = place.data / "state" / "stream" / "service" / "0" / f"{2:020d}.snapshot"
    path.write_bytes(path.read_bytes()[:-1])
    place.put(3)
    place.loop().run(count=1)
    assert place.out() == ["1", "3", "6"]
    assert f"snapshot passed over: {path}" in caplog.text


def test_unknown_layout(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A state that its core can't read, though its format is said to be this one, is passed over and folded again."""
    place.put(1, 2)
    first = place.loop()
    first.run(count=2)
    first.close()
    place.snapshots().write(0, {"in": 2}, b"laid out otherwise")
    place.put(3)
    place.loop().run(count=1)
    assert place.out() == ["1", "3", "6"]
    assert "not laid out as this release lays it out: ValueError" in caplog.text


def test_stateless(place: Place) -> None:
    """A stage without a state starts at the committed offset, folds nothing again and leaves no file."""
    place.put("a", "b")
    first = place.loop(Stateless())
    first.run(count=2)
    first.close()
    place.put("c")
    stage = Stateless()
    place.loop(stage, batch=1).run(count=1)
    assert stage.offsets == [2]
    assert place.out() == ["a", "b", "c"]
    assert place.files() == []


def test_stateless_failure(place: Place) -> None:
    """A stage without a state gets the batch of a failed commit again."""
    place.put("a", "b", "c")
    stage = Stateless()
    loop = place.loop(stage, batch=2)
    place.log.fail_next = 1
    loop.run(count=3)
    assert stage.offsets == [0, 1, 0, 1, 2]
    assert place.out() == ["a", "b", "c"]


# Partitions come and go


def test_revoked(two: Place) -> None:
    """A partition that is revoked is saved at its committed offset and closed; the others stay."""
    two.put(1, 2, partition=0)
    two.put(10, partition=1)
    stage = Watched()
    loop = two.loop(stage, snapshot_every_s=1000)
    loop.run(count=3)
    loop.revoked([Position("in", 0)])
    snapshot = two.snapshots().newest(0, {"in": 2})
    assert snapshot is not None
    assert (snapshot.header.offsets, snapshot.state) == ({"in": 2}, b"3")
    assert list(stage.cores) == [1]
    assert two.files(1) == []


def test_lost(place: Place) -> None:
    """A partition that is lost is closed without a snapshot, then and later: it belongs to somebody else."""
    place.put(1)
    stage = Watched()
    loop = place.loop(stage, snapshot_every_s=1000)
    loop.run(count=1)
    loop.lost([Position("in", 0)])
    assert list(stage.cores) == []
    loop.close()
    assert place.files() == []


@pytest.mark.parametrize("leave", [Loop.revoked, Loop.lost])
def test_comes_back(two: Place, leave: Callable[[Loop, Sequence[Position]], None]) -> None:
    """A partition that went away and came back goes on where it was."""
    two.put(1, 2, partition=0)
    loop = two.loop(snapshot_every_s=1000)
    loop.run(count=2)
    leave(loop, [Position("in", 0)])
    two.put(3, partition=0)
    two.put(10, partition=1)
    loop.run(count=4)
    assert (two.out(0), two.out(1)) == (["1", "3", "6"], ["10"])


# Inputs that belong together


def test_two_inputs(pair: Place) -> None:
    """Partition p of each input belongs to the stage's partition p, and each input's offset is committed."""
    pair.put("a", "b", topic="left")
    pair.put("b", topic="right")
    pair.loop(Cores(Join)).run(count=3)
    assert pair.out() == ["b"]
    assert (pair.committed("left"), pair.committed("right")) == (2, 1)


def test_two_inputs_snapshot(pair: Place) -> None:
    """A snapshot says how far each input was read, those that were silent too."""
    pair.put("a", "b", topic="left")
    loop = pair.loop(Cores(Join))
    loop.run(count=2)
    loop.close()
    snapshot = pair.snapshots().newest(0, {"left": 2})
    assert snapshot is not None
    assert snapshot.header.offsets == {"left": 2, "right": 0}


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("ahead", ["left", "right"])
def test_one_input_has_further_to_go(pair: Place, batch: int, ahead: str) -> None:
    """Restoring, the input that arrives first waits for the other: no live record is folded before, none is lost."""
    behind = "left" if ahead == "right" else "right"
    pair.put(*range(9), topic=ahead)
    pair.put(7, 3, topic=behind)
    pair.loop(Cores(Join), snapshot_every_s=1000).run(count=11)
    assert pair.out() in (["7", "3"], ["3", "7"])
    pair.put(1, 2, 5, topic=behind)
    pair.put(9, 10, topic=ahead)
    stage = Watched(Join)
    assert pair.loop(stage, batch=batch).run(count=5, timeout=60) == 5
    old = {(ahead, 0, offset) for offset in range(9)} | {(behind, 0, offset) for offset in range(2)}
    assert set(stage.seen[:11]) == old
    assert sorted(stage.seen) == sorted(set(stage.seen))
    assert sorted(pair.out()) == ["1", "2", "3", "5", "7"]
    assert stage.cores[0].waiting.keys() == {b"0", b"4", b"6", b"8", b"9", b"10"}


def test_one_input_had_nothing_yet(pair: Place) -> None:
    """The first records of an input that was silent before the restart are live, though the other is folded again."""
    pair.put(1, 2, 3, topic="right")
    pair.loop(Cores(Join), snapshot_every_s=1000).run(count=3)
    pair.put(2, 3, topic="left")
    assert pair.loop(Cores(Join), batch=100).run(count=2, timeout=60) == 2
    assert pair.out() == ["2", "3"]


def test_nothing_is_assigned(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A member that gets no partition says so, and goes on."""
    caplog.set_level(logging.INFO)
    place.loop().assigned([])
    assert "assigned nothing" in caplog.text


def test_failure_while_one_input_waits(tmp_path: Path) -> None:
    """Where a commit fails while an input waits for the other of its partition, neither is forgotten: all read on."""
    place = Place(tmp_path, partitions=2, topics=("left", "right"))
    place.put(1, 2, topic="left")
    place.put(*range(2, 10), topic="right")
    place.loop(Cores(Join), snapshot_every_s=1000).run(count=10)
    place.put(10, 11, 12, topic="left", partition=1)
    place.put(10, 11, 12, topic="right", partition=1)
    place.put(5, topic="left")
    place.put(1, topic="right")
    place.log.fail_next = 1
    assert place.loop(Cores(Join), batch=4).run(count=8, timeout=60) == 8
    assert (sorted(place.out(0)), sorted(place.out(1))) == (["1", "2", "5"], ["10", "11", "12"])


def test_run_again_while_one_input_waits(pair: Place) -> None:
    """A run that ends while an input waits for the other can be taken up again."""
    pair.put(1, topic="left")
    pair.put(*range(2, 8), topic="right")
    pair.loop(Cores(Join), snapshot_every_s=1000).run(count=7)
    pair.put(2, topic="left")
    loop = pair.loop(Cores(Join), batch=1)
    loop.run(timeout=0.03)
    assert loop.run(count=1, timeout=60) == 1
    assert pair.out() == ["2"]


def test_extra_waits_for_the_restored(two: Place) -> None:
    """While any partition is restored nothing is asked for beside the fold, though the others are live."""
    two.put(*range(10), partition=0)
    two.loop(snapshot_every_s=1000).run(count=10)
    two.put(1, 2, 3, partition=1)
    stage, sink = Watched(), Recording(two.log)
    two.loop(stage, sink, batch=2).run(count=3, timeout=60)
    restored = next(at for at, (_, partition, offset) in enumerate(stage.seen) if (partition, offset) == (0, 9))
    assert min(stage.seen_at_extra) > restored
    assert stage.seen_at_extra


def test_a_live_partition_goes_on(two: Place) -> None:
    """A partition that is restored does not hold up one that is live."""
    two.put(*range(10), partition=1)
    two.loop(snapshot_every_s=1000).run(count=10)
    two.put(1, 2, 3, partition=0)
    stage = Watched()
    two.loop(stage, batch=4).run(count=3)
    assert two.out(0) == ["1", "3", "6"]
    assert ("in", 1, 9) not in stage.seen


def test_restored_is_said(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The log says which partitions came, and up to where each was restored."""
    caplog.set_level(logging.INFO)
    place.put(1, 2)
    place.loop(snapshot_every_s=1000).run(count=2)
    caplog.clear()
    place.loop().run(timeout=1)
    assert [record.getMessage() for record in caplog.records] == [
        "assigned in[0]",
        "restored partition 0 up to {'in': 2}",
    ]


class Pausing(MemorySource):
    """Remembers which inputs had to wait, and when they were let go."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.calls: list[tuple[str, list[str]]] = []

    def pause(self, positions: Sequence[Position]) -> None:
        self.calls.append(("pause", sorted(position.topic for position in positions)))
        super().pause(positions)

    def resume(self, positions: Sequence[Position]) -> None:
        self.calls.append(("resume", sorted(position.topic for position in positions)))
        super().resume(positions)


def test_waiting_input_is_paused(pair: Place) -> None:
    """The input that waits is paused, so that it is not read over and over, and both read on at the end."""
    pair.put(1, topic="left")
    pair.put(*range(2, 8), topic="right")
    pair.loop(Cores(Join), snapshot_every_s=1000).run(count=7)
    source = Pausing(pair.log)
    parts = (Cores(Join), source, MemorySink(pair.log), pair.snapshots())
    Loop(pair.topics, *parts, batch=3, clock=pair.clock).run(timeout=1)
    assert source.calls.count(("pause", ["left"])) == 2
    assert source.calls[-1] == ("resume", ["left", "right"])


# A partition that comes or goes in the middle of a poll


class Interrupted(MemorySource):
    """A member to whom a rebalance happens after it has taken records, in the same poll."""

    def __init__(self, log: MemoryLog, happens: Callable[["Interrupted"], None]) -> None:
        super().__init__(log)
        self.happens: Callable[[Interrupted], None] | None = happens

    def poll(self, limit: int, timeout: float) -> list[Any]:
        records = super().poll(limit, timeout)
        if records and self.happens:
            happens, self.happens = self.happens, None
            happens(self)
        return records


@pytest.mark.parametrize("leave", ["revoked", "lost"])
def test_taken_then_given_up(two: Place, leave: str) -> None:
    """Records of a partition that went away after they were read, in the same poll, are left to its new owner."""

    def happens(source: Interrupted) -> None:
        del two.log.wanted[0]
        source._leave({0}, getattr(source._listener, leave))

    two.put(1, 2, partition=0)
    two.put(10, partition=1)
    parts = (Cores(Sum), Interrupted(two.log, happens), MemorySink(two.log), two.snapshots())
    Loop(two.topics, *parts, clock=two.clock, writer=Inline()).run(timeout=1)
    assert (two.committed(partition=0), two.out(0), two.out(1)) == (0, [], ["10"])


def test_taken_then_given_back(place: Place) -> None:
    """A partition that went away and came back in one poll is read on from its committed offset: nothing is doubled."""

    def happens(source: Interrupted) -> None:
        source._leave({0}, source._listener.revoked)  # type: ignore[union-attr]
        source._rebalance()

    place.put(1, 2, 3)
    source = Interrupted(place.log, happens)
    parts = (Cores(Sum), source, MemorySink(place.log), place.snapshots())
    Loop(place.topics, *parts, batch=2, clock=place.clock, writer=Inline()).run(timeout=1)
    assert source.happens is None
    assert place.out() == ["1", "3", "6"]


# Snapshots that the stage can't go on from


class Choosy(Watched):
    """A stage that takes some states for unusable."""

    def __init__(self, refused: Sequence[bytes]) -> None:
        super().__init__()
        self.refused = refused

    def open(self, partition: int, state: bytes | None) -> None:
        if state in self.refused:
            raise Unusable("a part of it is missing")
        super().open(partition, state)


@pytest.mark.parametrize(
    ("refused", "taken"), [([], b"6"), ([b"6"], b"3"), ([b"6", b"3"], b"1"), ([b"6", b"3", b"1"], None)]
)
def test_an_unusable_state(
    place: Place, refused: list[bytes], taken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """An older snapshot serves instead, or the log from its beginning; each that was passed over is named."""
    place.put(1, 2, 3)
    place.loop(batch=1, snapshot_every_s=0).run(count=3)
    place.put(4)
    stage = Choosy(refused)
    place.loop(stage).run(count=1)
    assert stage.opened == [(0, taken)]
    assert place.out() == ["1", "3", "6", "10"]
    said = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert said == [
        f"snapshot passed over: that of {{'in': {offset}}}, a part of it is missing"
        for offset in (3, 2, 1)[: len(refused)]
    ]
