"""When snapshots are taken and written: in turn, beside the batches, and never at the price of a record."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, current_thread
from typing import Any

import pytest

from services.runtime.errors import Retry, Stop
from services.runtime.loop import Loop
from services.runtime.memory import Inline, ManualClock, MemorySink, MemorySource
from services.runtime.saving import Saver
from services.runtime.snapshots import Snapshots
from services.runtime.stage import Cores
from services.runtime.stores import LocalStore
from tests.loops import Place, Stateless, Sum, Watched


class Failing(LocalStore):
    """A disk that fails for a while, and remembers what it was asked to write."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.error: Exception | None = None
        self.asked: list[str] = []

    def write(self, path: str, line: bytes, body: bytes) -> None:
        self.asked.append(path)
        if self.error:
            raise self.error
        super().write(path, line, body)

    def names(self, folder: str) -> list[str]:
        if self.error:
            raise self.error
        return super().names(folder)


class Kept:
    """A saver over sums of some partitions, with a disk that may fail."""

    def __init__(self, data: Path, every_s: float = 10.0, writer: Any = None) -> None:
        self.clock = ManualClock()
        self.snapshots = Snapshots(data, "stream", "service", "rule")
        self.disk = self.snapshots._store = Failing(data / "state")
        self.stage = Cores(Sum)
        self.at = {0: 1, 1: 1, 2: 1}
        for partition in self.at:
            self.stage.open(partition, b"%d" % partition)
        self.saver = Saver(self.snapshots, self.stage, self.offsets, self.clock, every_s, writer or Inline())

    def offsets(self, partition: int) -> dict[str, int]:
        return {"in": self.at[partition]} if partition in self.at else {}

    def wait(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.saver.save_due()

    def written(self) -> list[int]:
        """Return the partitions that were written, in order."""
        return [int(path.split("/")[-2]) for path in self.disk.asked]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_when_due(kept: Kept) -> None:
    """A snapshot is due an interval after the partition first moved, once, however often it moved since."""
    kept.saver.moved(0)
    kept.wait(9)
    kept.saver.moved(0)
    assert kept.written() == []
    kept.wait(1)
    assert kept.written() == [0]
    kept.wait(100)
    assert kept.written() == [0]
    kept.saver.moved(0)
    kept.wait(10)
    assert kept.written() == [0, 0]


def test_in_turn(kept: Kept) -> None:
    """One partition a time, that which has waited longest first."""
    for partition in (1, 2, 0):
        kept.saver.moved(partition)
        kept.clock.sleep(1)
    for done in ([], [1], [1, 2], [1, 2, 0], [1, 2, 0]):
        assert kept.written() == done
        kept.wait(10)


def test_forgotten(kept: Kept) -> None:
    """A partition that was given up is not taken any more."""
    kept.saver.moved(0)
    kept.saver.moved(1)
    kept.saver.forget(0)
    kept.wait(10)
    kept.wait(10)
    kept.saver.save([0])
    assert kept.written() == [1]


@pytest.mark.parametrize("took", [0.5, 3.0])
def test_rest(kept: Kept, monkeypatch: pytest.MonkeyPatch, took: float) -> None:
    """After a state that took long the loop has four times as long to itself: snapshots cost a fifth at most."""
    take = kept.stage.snapshot

    def slow(partition: int) -> bytes:
        kept.clock.time += took
        return take(partition)

    monkeypatch.setattr(kept.stage, "snapshot", slow)
    kept.saver.moved(0)
    kept.saver.moved(1)
    kept.wait(10)
    assert kept.written() == [0]
    kept.wait(4 * took - 0.001)
    assert kept.written() == [0]
    kept.wait(0.001)
    assert kept.written() == [0, 1]


def test_beside_the_loop(tmp_path: Path) -> None:
    """While one is written no other is taken, and the loop goes on; settling waits for it, and so does closing."""
    gate, started = Event(), Event()
    kept = Kept(tmp_path, writer=ThreadPoolExecutor(1))
    write = kept.snapshots.write

    def gated(partition: int, offsets: Mapping[str, int], state: bytes) -> None:
        started.set()
        assert gate.wait(60)
        write(partition, offsets, state)

    kept.snapshots.write = gated  # type: ignore[method-assign]
    kept.saver.moved(0)
    kept.saver.moved(1)
    kept.wait(10)
    assert started.wait(60)
    kept.wait(10)
    kept.wait(10)
    assert kept.written() == []
    gate.set()
    assert kept.saver.settle()
    assert kept.written() == [0]
    kept.wait(10)
    kept.saver.close()
    assert kept.written() == [0, 1]


def test_state_is_of_its_time(tmp_path: Path) -> None:
    """What is written is the state and the offset at which it was taken, whatever was folded meanwhile."""
    gate = Event()
    pool = ThreadPoolExecutor(1)
    pool.submit(gate.wait, 60)
    kept = Kept(tmp_path, writer=pool)
    kept.saver.moved(2)
    kept.wait(10)
    kept.stage.cores[2].total = 99
    kept.at[2] = 50
    gate.set()
    kept.saver.close()
    found = kept.snapshots.newest(2, {"in": 99})
    assert found is not None
    assert (found.header.offsets, found.state) == ({"in": 1}, b"2")


def test_by_itself(place: Place) -> None:
    """A loop needs to be given neither a clock nor a thread to write with."""
    place.put(1)
    loop = Loop(place.topics, Cores(Sum), MemorySource(place.log), MemorySink(place.log), place.snapshots())
    loop.run(count=1)
    loop.close()
    assert place.files() == [f"{1:020d}.snapshot"]


def test_a_stage_may_store_more_than_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given what saves the state, beside the loop; what goes wrong there is the snapshot's failure."""
    with ThreadPoolExecutor(1, "writer") as writer:
        kept = Kept(tmp_path, writer=writer)
        threads, errors = list[str](), [Retry("no room"), None]

        def store(save: Callable[[bytes], None]) -> None:
            threads.append(current_thread().name)
            if error := errors.pop(0):
                raise error
            save(b"9")

        monkeypatch.setattr(kept.stage, "snapshot", lambda _: store)
        for saved in (False, True):
            kept.saver.moved(1)
            kept.wait(10)
            assert kept.saver.settle() == saved
            assert (kept.snapshots.newest(1, {"in": 1}) is not None) == saved
    assert [name.partition("_")[0] for name in threads] == ["writer"] * 2


# A store that fails


def test_failure_is_tried_again(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot that can't be written is a warning that says why, and is due again an interval later."""
    kept.disk.error = Retry("the disk is full")
    kept.saver.moved(0)
    kept.wait(10)
    assert not kept.saver.settle()
    assert [record.getMessage() for record in caplog.records] == [
        "no snapshot of partition 0, nothing is lost, older ones stand: the disk is full"
    ]
    kept.disk.error = None
    kept.wait(9)
    assert kept.written() == [0]
    kept.wait(1)
    assert kept.written() == [0, 0]
    assert kept.saver.settle()
    assert kept.snapshots.newest(0, {"in": 1}) is not None


def test_failure_of_what_was_given_up(kept: Kept) -> None:
    """A partition whose snapshot fails after it went to another member is not taken again."""
    kept.disk.error = Retry("the disk is full")
    kept.saver.moved(0)
    kept.wait(10)
    kept.saver.forget(0)
    del kept.at[0]
    kept.stage.close(0)
    kept.wait(10)
    kept.wait(10)
    assert not kept.saver.settle()
    kept.wait(10)
    assert kept.written() == [0]


def test_leaving_does_not_wait_for_a_store_that_fails(kept: Kept) -> None:
    """On leaving, what moved is saved, each partition once, until the store fails; the rest is left."""
    for partition in kept.at:
        kept.saver.moved(partition)
    kept.saver.save([0, 1])
    assert kept.written() == [0, 1]
    kept.saver.moved(0)
    kept.saver.moved(1)
    kept.disk.error = Retry("away")
    kept.saver.save([0, 1, 2])
    assert kept.written() == [0, 1, 0]
    kept.disk.asked.clear()
    kept.wait(10)
    kept.saver.save([0, 1, 2])
    assert len(kept.written()) == 1, "what was being written failed: no more is tried"


def test_a_mistake_is_no_failure(kept: Kept) -> None:
    """An error that is not the store's is not waited out."""
    kept.disk.error = Stop("a mistake")
    kept.saver.moved(0)
    with pytest.raises(Stop, match="a mistake"):
        kept.wait(10)


# In a loop


def loop(place: Place, disk: Failing, stage: Any = None, **more: Any) -> Loop:
    snapshots = place.snapshots()
    snapshots._store = disk
    parts = (stage or Cores(Sum), MemorySource(place.log), MemorySink(place.log), snapshots)
    return Loop(place.topics, *parts, clock=place.clock, writer=Inline(), **more)


def test_loop_takes_them_when_due(place: Place) -> None:
    """The loop snapshots between batches, of partitions that moved, an interval after they did."""
    place.clock = ManualClock()
    stage = Watched()

    def pass_time() -> None:
        place.clock.time += 4

    stage.meanwhile = pass_time
    place.put(*range(9))
    place.loop(stage, batch=1, snapshot_every_s=10).run(count=9)
    assert place.files() == [f"{4:020d}.snapshot", f"{8:020d}.snapshot"]


def test_loop_goes_on_without(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A loop whose snapshots can't be written goes on, leaves in order, and the next one folds from the beginning."""
    disk = Failing(place.data / "state")
    disk.error = Retry("the disk is full")
    place.put(1, 2, 3)
    first = loop(place, disk, batch=1, snapshot_every_s=0)
    disk.names = lambda _: []  # type: ignore[method-assign]
    assert first.run(count=3) == 3
    first.close()
    assert len(disk.asked) >= 2
    assert "nothing is lost, older ones stand: the disk is full" in caplog.text
    place.put(4)
    place.loop().run(count=1)
    assert place.out() == ["1", "3", "6", "10"]


def test_loop_waits_for_the_store(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A store that can't say which snapshots it has is waited for: what it has is used then, and nothing said twice."""
    place.put(1, 2)
    first = place.loop()
    first.run(count=2)
    first.close()
    place.put(3)
    disk = Failing(place.data / "state")
    disk.error = Retry("the network is down")
    place.clock.sleep = lambda _: setattr(disk, "error", None)  # type: ignore[method-assign]
    stage = Watched()
    assert loop(place, disk, stage).run(count=1, timeout=60) == 1
    assert stage.opened == [(0, b"3")]
    assert place.out() == ["1", "3", "6"]
    assert "nothing is lost: the network is down" in caplog.text


def test_loop_stops_where_a_person_must_act(place: Place) -> None:
    """A store that nobody may read ends the service with its reason, and no partition is folded from its beginning."""
    disk = Failing(place.data / "state")
    disk.error = Stop("there is no such bucket")
    place.put(1)
    stage = Watched()
    ended = loop(place, disk, stage)
    with pytest.raises(Stop, match="no such bucket"):
        ended.run(count=1)
    ended.close()
    assert (stage.opened, place.out(), disk.asked) == ([], [], [])


def test_stateless_is_never_due(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A stage that keeps nothing is not asked for a snapshot."""
    caplog.set_level(logging.DEBUG)
    stage = Stateless()
    stage.snapshot = lambda _: pytest.fail("asked")  # type: ignore[method-assign]
    place.put("a", "b")
    first = place.loop(stage, batch=1, snapshot_every_s=0)
    first.run(count=2)
    first.close()


def test_progress_of_restoring_is_saved(place: Place) -> None:
    """A long muted fold is snapshot like any other, so that one that is cut short need not begin again."""
    place.put(*range(1, 9))
    place.loop(snapshot_every_s=1000).run(count=8)
    place.loop(batch=2, snapshot_every_s=0).run(timeout=0.25)
    saved = place.snapshots().newest(0, {"in": 8})
    assert saved is not None
    stage = Watched()
    place.put(9)
    place.loop(stage).run(count=1)
    assert stage.seen[0] == ("in", 0, saved.header.offsets["in"])
    assert place.out()[-1] == "45"
