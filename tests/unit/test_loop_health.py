"""What the loop tells those who ask: which partitions are restored, what is waited for, that it ended."""

from collections.abc import Callable, Sequence
from typing import Any

from services.runtime.errors import Retry
from services.runtime.health import COMMIT, Health, Report
from services.runtime.loop import Loop
from services.runtime.memory import ManualClock, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Outgoing, Position, Record
from services.runtime.transport import Offsets
from tests.loops import Place, Sum, Watched


class Peeking(Watched):
    """Takes the health's report whenever it is asked to fold."""

    def __init__(self, health: Health, build: Callable[[int], Any] = Sum) -> None:
        super().__init__(build)
        self.reports: list[Report] = []
        self.meanwhile = lambda: self.reports.append(health.report())


def test_health_is_ready_once_partitions_are_restored(two: Place) -> None:
    """Before the group gave partitions out it is joining, then restoring with what is left, then ready."""
    two.put(*range(5), partition=1)
    two.loop(snapshot_every_s=1000).run(count=5)
    two.put(10, partition=0)
    health = Health("service", two.clock)
    stage = Peeking(health)
    loop = two.loop(stage, batch=2, health=health)
    assert (health.report().status, health.report().partitions) == ("waiting", None)
    loop.run(count=1)
    loop.run(timeout=1)
    told = [(report.status, dict(report.restoring), report.partitions) for report in stage.reports]
    assert told[0] == ("restoring", {1: 5}, (0, 1))
    assert told[-1] == ("restoring", {1: 2}, (0, 1))
    report = health.report()
    assert (report.status, report.ready, report.folded, report.partitions) == ("ready", True, 1, (0, 1))


def test_health_joins_again_after_a_loss(two: Place) -> None:
    """A member that lost all is joining; one that the group gave nothing to own is ready."""
    health = Health("service", two.clock)
    loop = two.loop(health=health)
    loop.run(timeout=1)
    loop.lost([Position("in", 0)])
    assert (health.report().status, health.report().partitions) == ("ready", (1,))
    loop.lost([Position("in", 1)])
    assert (health.report().status, health.report().partitions) == ("joining", None)
    loop.assigned([])
    assert (health.report().status, health.report().partitions) == ("ready", ())
    loop.close()
    assert (health.report().status, health.report().alive) == ("ended", False)


class Late(MemorySource):
    """After a seek has nothing at first, as a real one may, and then says what the health reports."""

    def __init__(self, log: MemoryLog, health: Health) -> None:
        super().__init__(log)
        self._health = health
        self._empty = 0
        self.between: list[str] = []

    def seek(self, offsets: Offsets) -> None:
        super().seek(offsets)
        self._empty = 2

    def poll(self, limit: int, timeout: float) -> list[Record]:
        if not self._empty:
            return super().poll(limit, timeout)
        self._empty -= 1
        self.between.append(self._health.report().status)
        return []


def test_health_waits_until_the_batch_is_committed(place: Place) -> None:
    """From the failure to the commit it says what it waits for, also while it restores and while nothing is read."""
    place.clock = ManualClock()
    health = Health("service", place.clock)
    place.put(1)
    reports: list[Report] = []
    place.clock.sleep = lambda _: reports.append(health.report())  # type: ignore[method-assign]
    source = Late(place.log, health)
    place.log.fail_next = 2
    place.loop(health=health, source=source).run(count=1)
    assert [(report.status, report.waiting_for) for report in reports] == [("waiting", "the log was told to fail")] * 2
    assert source.between == ["ready"] * 2 + ["waiting"] * 4
    assert health.report().ready


class Taken(MemorySource):
    """A source whose partition goes to somebody else once a commit has failed; then the group has none for it."""

    loop: Loop
    polls = 0

    def poll(self, limit: int, timeout: float) -> list[Record]:
        self.polls += 1
        if self.polls == 3:
            self.loop.lost([Position("in", 0)])
            self.loop.assigned([])
        if self.polls > 3:
            self.loop.stop()
        return super().poll(limit, timeout) if self.polls < 3 else []


def test_health_waits_no_more_for_a_batch_of_somebody_else(place: Place) -> None:
    """A batch that could not be committed is forgotten with its partition; whoever has that is who waits for it."""
    health = Health("service", place.clock)
    source = Taken(place.log)
    source.loop = place.loop(health=health, source=source)
    place.put(1)
    place.log.fail_next = 1
    source.loop.run()
    assert place.log.fail_next == 0
    assert health.report().ready


def test_a_failed_attempt_was_waited_for(place: Place) -> None:
    """The wait began when the step did that failed, not when it had failed at last."""
    place.clock = ManualClock()
    health = Health("service", place.clock)
    stage = Watched()
    reports: list[Report] = []

    def take_long() -> None:
        place.clock.time += 10
        raise Retry("no answer within 10 s")

    def sleep(_: float) -> None:
        reports.append(health.report())
        stage.meanwhile = lambda: None

    stage.meanwhile = take_long
    place.clock.sleep = sleep  # type: ignore[method-assign]
    place.put(1)
    place.loop(stage, health=health).run(count=1)
    assert [(report.waiting_for, report.since_s) for report in reports] == [("no answer within 10 s", 10.0)]


class Unreadable(MemorySource):
    """A source that has nothing, and fails the first few times it is asked."""

    failures = 3
    then: Callable[[], None]

    def poll(self, limit: int, timeout: float) -> list[Record]:
        records = super().poll(limit, timeout)
        if self.failures:
            self.failures -= 1
            raise Retry("reading failed")
        self.then()
        return records


def test_health_of_an_idle_service_recovers(place: Place) -> None:
    """A poll that failed is over with the next one that does not, though there is nothing to commit."""
    place.clock = ManualClock()
    health = Health("service", place.clock)
    reports: list[Report] = []

    def sleep(seconds: float) -> None:
        place.clock.time += seconds
        reports.append(health.report())

    place.clock.sleep = sleep  # type: ignore[method-assign]
    source = Unreadable(place.log)
    loop = place.loop(health=health, source=source)
    source.then = loop.stop
    loop.run()
    assert [report.waiting_for for report in reports] == ["reading failed"] * 3
    assert health.report().ready


def test_health_names_a_slow_commit(place: Place) -> None:
    """While a commit takes long the report says so, though nothing has failed yet; and it is alive however long."""
    place.clock = ManualClock()
    health = Health("service", place.clock)
    reports: list[Report] = []

    class Slow(MemorySink):
        def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
            place.clock.time += 100
            reports.append(health.report())
            super().commit(outgoing, offsets)

    place.put(1)
    place.loop(sink=Slow(place.log), health=health).run(count=1)
    [report] = reports
    assert (report.status, report.waiting_for, report.since_s) == ("waiting", COMMIT.name, 100.0)
    assert report.alive
    assert not report.ready
