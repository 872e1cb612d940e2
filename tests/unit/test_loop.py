"""The transactional loop over a log in memory: batches, commits, and what happens when one fails."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.runtime.errors import Retry, Stop
from services.runtime.health import Health
from services.runtime.loop import Loop
from services.runtime.memory import ManualClock, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Outgoing, Position, Record
from services.runtime.stage import Cores
from services.runtime.transport import Offsets
from tests.loops import Place, Recording, Roomy, Sum, Watched

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
    stage.meanwhile = lambda: stage.due.append(Outgoing("out", b"newer", partition=0))
    place.put(7)
    loop.run(timeout=1)
    assert sink.done[1:] == [([b"7", b"newer"], {Position("in", 0): 1})]


# What there is no room for


def test_what_there_is_no_room_for_stays_in_the_log(pair: Place) -> None:
    """An input that is full is not read on until there is room; nothing is lost, and the health says why it waits."""
    pair.put(*range(10), topic="left")
    health = Health("service", pair.clock)
    loop = pair.loop(Roomy(3), batch=2, health=health)
    loop.run(timeout=5)
    assert (pair.committed("left"), health.report().status) == (4, "waiting")
    assert health.report().waiting_for == "left[0]: 4 wait"
    pair.put(0, 1, topic="right")
    loop.run(timeout=5)
    assert (pair.committed("left"), pair.committed("right"), pair.out()) == (6, 2, ["0", "1"])
    pair.put(*range(2, 10), topic="right")
    loop.run(timeout=5)
    assert (pair.committed("left"), health.report().status) == (10, "ready")
    assert pair.out() == [str(n) for n in range(10)]


def test_a_full_input_is_held_back_after_a_failure(pair: Place) -> None:
    """A failed commit restores the partition, which is as full as it was, whether or not a muted fold was needed."""
    for snapshot_every_s in (0.0, 1000.0):
        pair = Place(pair.data / str(snapshot_every_s), topics=pair.topics)
        pair.put(*range(10), topic="left")
        loop = pair.loop(Roomy(3), batch=2, snapshot_every_s=snapshot_every_s)
        loop.run(timeout=5)
        pair.log.fail_next = 1
        pair.put(0, topic="right")
        loop.run(timeout=5)
        assert (pair.committed("left"), pair.committed("right"), pair.out()) == (4, 1, ["0"])


def test_a_restore_reads_what_was_committed_though_it_is_full(pair: Place) -> None:
    """Another process, with smaller batches, comes to where the one before it was, and goes on when there is room."""
    pair.put(*range(10), topic="left")
    pair.loop(Roomy(3), batch=2, snapshot_every_s=1000).run(timeout=5)
    loop = pair.loop(Roomy(3), batch=1, snapshot_every_s=1000)
    loop.run(timeout=5)
    assert pair.committed("left") == 4
    pair.put(*range(10), topic="right")
    loop.run(timeout=5)
    assert (pair.committed("left"), pair.out()) == (10, [str(n) for n in range(10)])


def test_one_full_partition_holds_up_no_other(two: Place) -> None:
    """Room is a matter of each partition, and leaves with it."""
    two = Place(two.data, 2, ("left", "right"))
    two.put(*range(10), topic="left", partition=0)
    loop = two.loop(Roomy(3), batch=2)
    loop.run(timeout=5)
    two.put(*range(6), topic="left", partition=1)
    two.put(*range(6), topic="right", partition=1)
    loop.run(timeout=5)
    assert (two.committed("left", 0), two.committed("left", 1), len(two.out(1))) == (4, 6, 6)


def test_a_full_partition_may_leave(pair: Place) -> None:
    """Who loses it goes on without, and who has it next holds it back in turn."""
    source, other = MemorySource(pair.log, alone=False), MemorySource(pair.log, alone=False)
    pair.log.share([source])
    pair.put(*range(10), topic="left")
    loop, heir = pair.loop(Roomy(3), source=source, batch=2), pair.loop(Roomy(3), source=other, batch=2)
    loop.run(timeout=5)
    pair.log.share([other])
    loop.run(timeout=5)
    heir.run(timeout=5)
    assert pair.committed("left") == 4
    pair.put(*range(10), topic="right")
    heir.run(timeout=5)
    assert (pair.committed("left"), len(pair.out())) == (10, 10)


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
    """Between failures the loop waits twice as long each time, a second at most; it says why, and when it goes on."""
    caplog.set_level(logging.INFO, "services.runtime.waiting")
    place.clock = ManualClock()
    place.put(1)
    place.log.fail_next = 7
    place.loop().run(count=1)
    assert place.clock.time == pytest.approx(0.05 + 0.1 + 0.2 + 0.4 + 0.8 + 1.0 + 1.0)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "waiting, nothing is lost: the log was told to fail"),
        ("WARNING", "waiting for 3 s already, nothing is lost: the log was told to fail"),
        ("INFO", "going on after 3.5 s; it was: the log was told to fail"),
    ]


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
