"""The log in memory: the same contracts as `kafka.py` in one process, for tests of cores, stages and the loop."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any, TypeVar
from zlib import crc32

from services.runtime.errors import Retry
from services.runtime.records import Outgoing, Position, Record
from services.runtime.transport import Listener, Offsets

Result = TypeVar("Result")
HISTORY_BATCH = 7  # so small that a test's log takes several


class MemoryLog:
    """Topics, partitions and one group: its committed offsets, and who reads what.

    `wanted` says which member shall have a partition. When a member polls it takes what is free and meant for it, and
    gives up what is meant for another. `fail_next` makes that many commits raise Retry.
    """

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.topics: dict[Position, list[Record]] = defaultdict(list)
        self.committed: dict[Position, int] = {}
        self.wanted: dict[int, MemorySource] = {}
        self.owners: dict[int, MemorySource] = {}
        self.fail_next = 0

    def append(self, out: Outgoing) -> None:
        partition = out.partition if out.partition is not None else crc32(out.key or b"") % self.partitions
        place = self.topics[Position(out.topic, partition)]
        place.append(Record(out.topic, partition, len(place), out.key, out.value, 0, out.headers))

    def read(self, topic: str) -> list[Record]:
        return [r for position in sorted(self.topics) if position.topic == topic for r in self.topics[position]]

    def share(self, members: Sequence["MemorySource"]) -> None:
        """Deal the partitions out among these members; those of any other are free at once: it is thought dead."""
        self.wanted = {p: members[p % len(members)] for p in range(self.partitions) if members}
        self.owners = {p: owner for p, owner in self.owners.items() if owner in members}


class MemoryHistory:
    """Reads a log from its beginning. `groups` says what each consumer group has committed; else all there is."""

    def __init__(self, log: MemoryLog, groups: Mapping[str, Offsets] | None = None) -> None:
        self._log, self._groups = log, groups or {}

    def positions(self, topic: str) -> list[Position]:
        return [Position(topic, partition) for partition in range(self._log.partitions)]

    def bounds(self, position: Position) -> tuple[int, int]:
        return 0, len(self._log.topics[position])

    def committed(self, group: str, positions: Sequence[Position]) -> Offsets:
        return self._groups.get(group, {position: len(self._log.topics[position]) for position in positions})

    def read(self, position: Position) -> Iterator[list[Record]]:
        records = self._log.topics[position]
        yield from (records[at : at + HISTORY_BATCH] for at in range(0, len(records), HISTORY_BATCH))

    def between(self, position: Position, start: int, end: int | None = None) -> list[Record]:
        return self._log.topics[position][start:end]

    def read_topic(self, topic: str) -> Iterator[list[Record]]:
        for position in self.positions(topic):
            yield from self.read(position)


class MemorySource:
    """A member of the group. Alone, it takes over every partition at its first poll."""

    def __init__(self, log: MemoryLog, *, alone: bool = True) -> None:
        self._log, self._alone = log, alone
        self._topics: Sequence[str] = ()
        self._listener: Listener | None = None
        self._mine: set[int] = set()
        self._next: dict[Position, int] = {}
        self._paused: set[Position] = set()

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        self._topics, self._listener = topics, listener
        if self._alone:
            self._mine.clear()
            self._log.owners.clear()
            self._log.share([self])

    def poll(self, limit: int, timeout: float) -> list[Record]:
        del timeout
        return [] if self._rebalance() else self._take(limit)

    def _take(self, limit: int) -> list[Record]:
        records: list[Record] = []
        for position in sorted(set(self._next) - self._paused):
            start = self._next[position]
            records += self._log.topics[position][start : start + limit - len(records)]
        self._next |= {record.position: record.offset + 1 for record in records}
        return records

    def _rebalance(self) -> bool:
        """Be told of what was lost, then give up all if anything is meant for another, then take what is free."""
        if self._listener is None:
            return False
        before = set(self._mine)
        owned = {p for p, owner in self._log.owners.items() if owner is self}
        wanted = {p for p, member in self._log.wanted.items() if member is self}
        self._leave(self._mine - owned, self._listener.lost)
        if owned - wanted:
            self._leave(owned, self._listener.revoked)
        if free := sorted(wanted - self._log.owners.keys()):
            self._log.owners |= dict.fromkeys(free, self)
            self._mine |= set(free)
            self._next |= {position: self._log.committed.get(position, 0) for position in self._positions(free)}
            self._listener.assigned(self._positions(free))
        return bool(free) or self._mine != before

    def _leave(self, partitions: set[int], tell: Callable[[Sequence[Position]], None]) -> None:
        if not partitions:
            return
        positions = self._positions(sorted(partitions))
        tell(positions)
        self._mine -= partitions
        self._next = {position: offset for position, offset in self._next.items() if position not in positions}
        self._paused -= set(positions)
        self._log.owners = {p: o for p, o in self._log.owners.items() if o is not self or p not in partitions}

    def _positions(self, partitions: Sequence[int]) -> list[Position]:
        return [Position(topic, partition) for partition in partitions for topic in self._topics]

    def owns(self, positions: Iterable[Position]) -> bool:
        return all(self._log.owners.get(position.partition) is self for position in positions)

    def committed(self, positions: Sequence[Position]) -> Offsets:
        return {position: self._log.committed.get(position, 0) for position in positions}

    def seek(self, offsets: Offsets) -> None:
        self._next |= offsets

    def pause(self, positions: Sequence[Position]) -> None:
        self._paused |= set(positions)

    def resume(self, positions: Sequence[Position]) -> None:
        self._paused -= set(positions)

    def close(self) -> None:
        if self._listener is not None:
            self._leave(set(self._mine), self._listener.revoked)


class MemorySink:
    """Commits to the log at once, or not at all; with a `source`, only what that member owns."""

    def __init__(self, log: MemoryLog, source: MemorySource | None = None) -> None:
        self._log, self._source = log, source

    def settle(self) -> None:
        """Nothing stays open."""

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        if self._log.fail_next:
            self._log.fail_next -= 1
            raise Retry("the log was told to fail")
        if self._source is not None and not self._source.owns(offsets):
            raise Retry("the partitions belong to another member now")
        for out in outgoing:
            self._log.append(out)
        self._log.committed |= offsets

    def close(self) -> None:
        pass


class Inline(Executor):
    """Does at once what is submitted, in the caller's thread, so that a test knows when it was done."""

    _ended = False

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:  # noqa: ANN401 - its own
        if self._ended:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Retry as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - its own
        del wait, cancel_futures
        self._ended = True


class ManualClock:
    """Time that passes only when it is slept through, or when a test moves it."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
