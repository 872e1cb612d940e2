"""The transactional loop over a log in memory: nothing lost, nothing doubled, and nothing said twice on restart."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.runtime.errors import Retry, Stop
from services.runtime.loop import Loop
from services.runtime.memory import ManualClock, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Outgoing, Position, Record
from services.runtime.snapshots import Snapshots
from services.runtime.stage import Batches, Cores
from services.runtime.transport import Offsets


class Sum:
    """Adds up its partition's numbers, and says the sum after each."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.total = 0

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        return [self._add(int(record.value)) for record in records]

    def _add(self, number: int) -> Outgoing:
        self.total += number
        return Outgoing("out", str(self.total).encode(), partition=self.partition)

    def snapshot(self) -> bytes:
        return str(self.total).encode()

    def restore(self, state: bytes) -> None:
        self.total = int(state)


class Join:
    """Says a name once both inputs have had it, whichever came first."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.waiting: dict[bytes, str] = {}

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        outgoing = []
        for record in records:
            if self.waiting.setdefault(record.value, record.topic) != record.topic:
                del self.waiting[record.value]
                outgoing.append(Outgoing("out", record.value, partition=self.partition))
        return outgoing

    def snapshot(self) -> bytes:
        return b"\n".join(topic.encode() + b" " + name for name, topic in sorted(self.waiting.items()))

    def restore(self, state: bytes) -> None:
        self.waiting = {line.split(b" ")[1]: line.split(b" ")[0].decode() for line in state.splitlines()}


class Watched(Cores[Any]):
    """A stage that remembers what it was asked to do."""

    def __init__(self, build: Callable[[int], Any] = Sum) -> None:
        super().__init__(build)
        self.seen: list[tuple[str, int, int]] = []  # topic, partition, offset of each record folded
        self.batches: list[int] = []
        self.opened: list[tuple[int, bytes | None]] = []
        self.seen_at_extra: list[int] = []
        self.due: list[Outgoing] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def open(self, partition: int, state: bytes | None) -> None:
        self.opened.append((partition, state))
        super().open(partition, state)

    def fold(self, batches: Batches) -> list[Outgoing]:
        self.seen += [(r.topic, r.partition, r.offset) for records in batches.values() for r in records]
        self.batches.append(sum(map(len, batches.values())))
        self.meanwhile()
        return super().fold(batches)

    def extra(self) -> list[Outgoing]:
        self.seen_at_extra.append(len(self.seen))
        due, self.due = self.due, []
        return due


class Stateless:
    """Hands on what it reads, and keeps nothing."""

    stateful = False

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def open(self, partition: int, state: bytes | None) -> None:
        assert (partition, state) == (0, None)

    def close(self, partition: int) -> None:
        del partition

    def fold(self, batches: Batches) -> list[Outgoing]:
        records = [record for records in batches.values() for record in records]
        self.offsets += [record.offset for record in records]
        return [Outgoing("out", record.value, partition=record.partition) for record in records]

    def extra(self) -> list[Outgoing]:
        return []

    def snapshot(self, partition: int) -> None:
        del partition


class Ticking(ManualClock):
    """Time that moves on a little whenever somebody looks, and ends, so that a loop that is stuck fails its test."""

    def now(self) -> float:
        self.time += 0.01
        assert self.time < 90, "the loop makes no progress"
        return self.time


class Place:
    """One log and one data folder, on which loops come and go like processes."""

    def __init__(self, data: Path, partitions: int = 1, topics: Sequence[str] = ("in",)) -> None:
        self.data, self.topics = data, topics
        self.log = MemoryLog(partitions)
        self.clock: ManualClock = Ticking()

    def loop(self, stage: Any = None, sink: MemorySink | None = None, **more: Any) -> Loop:
        sink = sink or MemorySink(self.log)
        parts = (stage or Cores(Sum), MemorySource(self.log), sink, self.snapshots())
        return Loop(self.topics, *parts, clock=self.clock, **more)

    def snapshots(self) -> Snapshots:
        return Snapshots(self.data, "stream", "service", "rule")

    def put(self, *values: object, topic: str = "in", partition: int = 0) -> None:
        for value in values:
            self.log.append(Outgoing(topic, str(value).encode(), partition=partition))

    def out(self, partition: int = 0) -> list[str]:
        return [record.value.decode() for record in self.log.topics[Position("out", partition)]]

    def committed(self, topic: str = "in", partition: int = 0) -> int:
        return self.log.committed.get(Position(topic, partition), 0)

    def files(self, partition: int = 0) -> list[str]:
        return sorted(p.name for p in (self.data / "state" / "stream" / "service" / str(partition)).glob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def two(tmp_path: Path) -> Place:
    return Place(tmp_path, partitions=2)


@pytest.fixture
def pair(tmp_path: Path) -> Place:
    return Place(tmp_path, topics=("left", "right"))


class Recording(MemorySink):
    """Remembers each transaction."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.done: list[tuple[list[bytes], dict[Position, int]]] = []

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        super().commit(outgoing, offsets)
        self.done.append(([out.value for out in outgoing], dict(offsets)))


# Committing


def test_one_transaction_per_batch(place: Place) -> None:
    """The outputs of a batch and the offsets after it are committed together, batch by batch."""
    place.put(1, 2, 3, 4, 5)
    sink = Recording(place.log)
    assert place.loop(sink=sink, batch=2).run(count=5) == 5
    at = Position("in", 0)
    assert sink.done == [([b"1", b"3"], {at: 2}), ([b"6", b"10"], {at: 4}), ([b"15"], {at: 5})]


def test_partitions_have_their_own_cores(two: Place) -> None:
    """Each partition is folded by its own core, in its own order, and one batch may hold several."""
    two.put(1, 2, partition=0)
    two.put(10, 20, partition=1)
    sink = Recording(two.log)
    two.loop(sink=sink).run(count=4)
    assert (two.out(0), two.out(1)) == (["1", "3"], ["10", "30"])
    assert [offsets for _, offsets in sink.done] == [{Position("in", 0): 2, Position("in", 1): 2}]


def test_idle(place: Place) -> None:
    """Where there is nothing to do no transaction is made."""
    sink = Recording(place.log)
    assert place.loop(sink=sink).run(timeout=1) == 0
    assert sink.done == []


def test_extra_goes_out(place: Place) -> None:
    """What is due beside the fold goes out with the next transaction, or in one of its own when nothing was read."""
    stage, sink = Watched(), Recording(place.log)
    stage.due = [Outgoing("out", b"model", partition=0)]
    loop = place.loop(stage, sink)
    loop.run(timeout=1)
    assert sink.done == [([b"model"], {})]
    place.put(7)
    stage.due = [Outgoing("out", b"newer", partition=0)]
    loop.run(timeout=1)
    assert sink.done[1:] == [([b"7", b"newer"], {Position("in", 0): 1})]


# How long it runs


@pytest.mark.parametrize(("count", "batch", "folded"), [(1, 1, 1), (3, 1, 3), (3, 2, 4), (5, 100, 6), (0, 1, 0)])
def test_count(place: Place, count: int, batch: int, folded: int) -> None:
    """`run` ends at the first batch that brings the committed records to `count`."""
    place.put(*range(6))
    assert place.loop(batch=batch).run(count=count) == folded
    assert place.committed() == folded == len(place.out())


def test_timeout(place: Place) -> None:
    """`run` ends once `timeout` seconds have passed, and says what was committed until then."""
    place.clock = ManualClock()
    place.put(*range(100))
    stage = Watched()

    def pass_time() -> None:
        place.clock.time += 1

    stage.meanwhile = pass_time
    assert place.loop(stage, batch=10).run(timeout=3) == 30
    assert place.committed() == 30


def test_no_time(place: Place) -> None:
    """With no time left nothing is read."""
    place.put(1)
    assert place.loop().run(timeout=0) == 0


def test_stop(place: Place) -> None:
    """Asked to stop in the middle of a batch, the loop commits that batch and ends."""
    place.put(1, 2, 3, 4)
    stage = Watched()
    loop = place.loop(stage, batch=2)
    stage.meanwhile = loop.stop
    assert loop.run() == 2
    assert place.out() == ["1", "3"]
    assert place.committed() == 2


# Failing


@pytest.mark.parametrize("failures", [1, 2, 5])
@pytest.mark.parametrize("snapshot_every_s", [0.0, 1000.0])
def test_failed_commits(place: Place, failures: int, snapshot_every_s: float) -> None:
    """A commit that fails, however often, loses and doubles nothing, with a fresh snapshot or with none."""
    place.put(1, 2, 3, 4)
    loop = place.loop(batch=2, snapshot_every_s=snapshot_every_s)
    loop.run(count=2)
    place.log.fail_next = failures
    assert loop.run(count=4, timeout=60) == 4
    assert place.log.fail_next == 0
    assert place.out() == ["1", "3", "6", "10"]
    assert place.committed() == 4


def test_failed_first_commit(place: Place) -> None:
    """A commit that fails before anything was committed leaves nothing behind of what it folded."""
    place.put(1, 2)
    place.log.fail_next = 1
    place.loop().run(count=2)
    assert place.out() == ["1", "3"]


def test_failure_reaches_all_partitions(two: Place) -> None:
    """When a transaction fails all partitions are restored, those that had no part in it too, and all go on."""
    two.put(1, partition=0)
    two.put(10, partition=1)
    loop = two.loop(snapshot_every_s=1000)
    loop.run(count=2)
    two.put(2, partition=0)
    two.log.fail_next = 1
    loop.run(count=3)
    two.put(3, partition=0)
    two.put(20, partition=1)
    loop.run(count=5, timeout=60)
    assert (two.out(0), two.out(1)) == (["1", "3", "6"], ["10", "30"])


def test_waits_longer(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Between failures the loop waits twice as long each time, a second at most, and says why."""
    place.clock = ManualClock()
    place.put(1)
    place.log.fail_next = 7
    place.loop().run(count=1)
    assert place.clock.time == pytest.approx(0.05 + 0.1 + 0.2 + 0.4 + 0.8 + 1.0 + 1.0)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 7
    assert "the log was told to fail" in caplog.text


def test_waits_shortly_again(place: Place) -> None:
    """After a success the waiting starts over."""
    place.clock = ManualClock()
    place.put(1, 2)
    loop = place.loop(batch=1)
    place.log.fail_next = 2
    loop.run(count=1)
    place.log.fail_next = 1
    loop.run(count=2)
    assert place.clock.time == pytest.approx(0.05 + 0.1 + 0.05)


class Fenced(MemorySink):
    """A sink whose member is shut out at some time."""

    fenced = True

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        if self.fenced:
            raise Stop(f"fenced with {len(outgoing)} outputs for {len(offsets)} partitions")
        super().commit(outgoing, offsets)


def test_stop_error(place: Place) -> None:
    """A Stop is not waited out: it ends the run with its reason, and nothing was committed."""
    place.put(1)
    loop = place.loop(sink=Fenced(place.log))
    with pytest.raises(Stop, match="fenced with 1 outputs for 1 partitions"):
        loop.run(count=1)
    assert place.committed() == loop.folded == 0


def test_close_after_an_error(place: Place) -> None:
    """Closing after an error saves no state that is ahead of what was committed."""
    place.put(1, 2)
    sink = Fenced(place.log)
    sink.fenced = False
    loop = place.loop(sink=sink, batch=1)
    loop.run(count=1)
    sink.fenced = True
    with pytest.raises(Stop):
        loop.run(count=2)
    loop.close()
    place.loop().run(count=1)
    assert place.out() == ["1", "3"]


class Shy(MemorySource):
    """A source that can't seek the first few times."""

    shy = 0

    def seek(self, offsets: Offsets) -> None:
        if self.shy:
            self.shy -= 1
            raise Retry("not yet")
        super().seek(offsets)


class Stumbling(MemorySource):
    """A source that fails once after it has taken records, as a broker's client may in the middle of a batch."""

    stumbles = 1

    def poll(self, limit: int, timeout: float) -> list[Record]:
        records = super().poll(limit, timeout)
        if records and self.stumbles:
            self.stumbles -= 1
            raise Retry("the broker went away")
        return records


def test_failed_poll(place: Place) -> None:
    """A Retry out of a poll that had taken records already loses none of them."""
    place.put(1, 2, 3)
    parts = (Cores(Sum), Stumbling(place.log), MemorySink(place.log), place.snapshots())
    assert Loop(place.topics, *parts, batch=2, clock=place.clock).run(count=3) == 3
    assert place.out() == ["1", "3", "6"]


class Startling(MemorySink):
    """A sink whose failure makes the source shy."""

    def __init__(self, log: MemoryLog, source: Shy) -> None:
        super().__init__(log)
        self.source = source

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        try:
            super().commit(outgoing, offsets)
        except Retry:
            self.source.shy = 3
            raise


def test_restoring_can_wait(two: Place) -> None:
    """A Retry while a failed commit is undone is waited out like any other, and nothing of that commit stays behind."""
    two.put(1, 2, partition=0)
    two.put(10, 20, partition=1)
    source = Shy(two.log)
    parts = (Cores(Sum), source, Startling(two.log, source), two.snapshots())
    loop = Loop(two.topics, *parts, batch=2, clock=two.clock)
    loop.run(count=2)
    two.log.fail_next = 1
    assert loop.run(count=4, timeout=60) == 4
    assert (two.log.fail_next, source.shy) == (0, 0)
    assert (two.out(0), two.out(1)) == (["1", "3"], ["10", "30"])


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


def test_snapshot_when_due(place: Place) -> None:
    """Snapshots are written every `snapshot_every_s` seconds, of partitions that moved since their last one."""
    place.clock = ManualClock()
    stage = Watched()

    def pass_time() -> None:
        place.clock.time += 4

    stage.meanwhile = pass_time
    place.put(*range(7))
    place.loop(stage, batch=1, snapshot_every_s=10).run(count=7)
    assert place.files() == [f"{3:020d}.snapshot", f"{6:020d}.snapshot"]


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


def test_backoff_grows(tmp_path: Path) -> None:
    """Waits double up to a second while commits keep failing, whether or not there is something to fold again."""
    one = Place(tmp_path)
    one.put(1, 2)
    loop = one.loop(batch=1)
    loop.run(count=1)
    waits: list[float] = []
    one.clock.sleep = waits.append  # type: ignore[method-assign]
    one.log.fail_next = 6
    loop.run(count=2, timeout=60)
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
