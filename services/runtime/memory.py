"""The log in memory: the same contracts as `kafka.py` in one process, for tests of cores, stages and the loop."""

from collections import defaultdict
from collections.abc import Sequence
from zlib import crc32

from services.runtime.errors import Retry
from services.runtime.records import Outgoing, Position, Record
from services.runtime.transport import Listener, Offsets


class MemoryLog:
    """Topics, partitions and one group's committed offsets. `fail_next` makes that many commits raise Retry."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.topics: dict[Position, list[Record]] = defaultdict(list)
        self.committed: dict[Position, int] = {}
        self.fail_next = 0

    def append(self, out: Outgoing) -> None:
        partition = out.partition if out.partition is not None else crc32(out.key or b"") % self.partitions
        place = self.topics[Position(out.topic, partition)]
        place.append(Record(out.topic, partition, len(place), out.key, out.value, 0, out.headers))

    def read(self, topic: str) -> list[Record]:
        return [r for position in sorted(self.topics) if position.topic == topic for r in self.topics[position]]


class MemorySource:
    """A member that is assigned every partition at its first poll."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._next: dict[Position, int] = {}
        self._paused: set[Position] = set()
        self._waiting: tuple[Sequence[str], Listener] | None = None

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        self._waiting = (topics, listener)

    def poll(self, limit: int, timeout: float) -> list[Record]:
        del timeout
        if self._waiting is not None:
            (topics, listener), self._waiting = self._waiting, None
            listener.assigned([Position(t, p) for p in range(self._log.partitions) for t in topics])
        records: list[Record] = []
        for position in sorted(set(self._next) - self._paused):
            start = self._next[position]
            records += self._log.topics[position][start : start + limit - len(records)]
        self._next |= {record.position: record.offset + 1 for record in records}
        return records

    def committed(self, positions: Sequence[Position]) -> Offsets:
        return {position: self._log.committed.get(position, 0) for position in positions}

    def seek(self, offsets: Offsets) -> None:
        self._next |= offsets

    def pause(self, positions: Sequence[Position]) -> None:
        self._paused |= set(positions)

    def resume(self, positions: Sequence[Position]) -> None:
        self._paused -= set(positions)

    def close(self) -> None:
        self._next.clear()


class MemorySink:
    """Commits to the log at once, or not at all."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        if self._log.fail_next:
            self._log.fail_next -= 1
            raise Retry("the log was told to fail")
        for out in outgoing:
            self._log.append(out)
        self._log.committed |= offsets

    def close(self) -> None:
        pass


class ManualClock:
    """Time that passes only when it is slept through, or when a test moves it."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
