"""Loops for tests: cores that are easily followed, and a log and a folder on which loops come and go."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.runtime.loop import Loop
from services.runtime.memory import Inline, ManualClock, MemoryLog, MemorySink, MemorySource
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


class Chain:
    """A hash over all that its partition ever read, said after each record: any loss, doubling or swap shows."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.link = b"start"

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        return [Outgoing("out", self._next(record.value), partition=self.partition) for record in records]

    def _next(self, value: bytes) -> bytes:
        self.link = hashlib.sha256(self.link + value).hexdigest().encode()
        return self.link

    def snapshot(self) -> bytes:
        return self.link

    def restore(self, state: bytes) -> None:
        self.link = state


class Pairs:
    """Says a value once both inputs have had it; the order in which the inputs are read makes no difference to that."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.seen: dict[str, set[bytes]] = {"left": set(), "right": set()}

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        outgoing = []
        for record in records:
            assert record.value not in self.seen[record.topic], "folded twice"
            self.seen[record.topic].add(record.value)
            if all(record.value in seen for seen in self.seen.values()):
                outgoing.append(Outgoing("out", record.value, partition=self.partition))
        return outgoing

    def snapshot(self) -> bytes:
        return b"|".join(b" ".join(sorted(self.seen[topic])) for topic in ("left", "right"))

    def restore(self, state: bytes) -> None:
        left, right = (set(part.split()) for part in state.split(b"|"))
        self.seen = {"left": left, "right": right}

    def full(self, most: int) -> dict[str, str]:
        """Return each input of which so many values wait for the other."""
        left, right = self.seen.values()
        waiting = {"left": len(left - right), "right": len(right - left)}
        return {topic: f"{number} wait" for topic, number in waiting.items() if number >= most}


class Roomy(Cores[Pairs]):
    """A stage of pairs that wants no more of an input of which `most` values wait."""

    def __init__(self, most: int) -> None:
        super().__init__(Pairs)
        self.most = most

    def full(self, partition: int) -> dict[str, str]:
        return self.cores[partition].full(self.most)


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

    def full(self, partition: int) -> dict[str, str]:
        del partition
        return {}

    def snapshot(self, partition: int) -> None:
        del partition


class Ticking(ManualClock):
    """Time that moves on a little whenever somebody looks, and may end: then a loop that is stuck fails its test."""

    def __init__(self, end: float | None = 90) -> None:
        super().__init__()
        self.end = end

    def now(self) -> float:
        self.time += 0.01
        assert self.end is None or self.time < self.end, "the loop makes no progress"
        return self.time


class Place:
    """One log and one data folder, on which loops come and go like processes."""

    def __init__(self, data: Path, partitions: int = 1, topics: Sequence[str] = ("in",)) -> None:
        self.data, self.topics = data, topics
        self.log = MemoryLog(partitions)
        self.clock: ManualClock = Ticking()

    def loop(
        self, stage: Any = None, sink: MemorySink | None = None, source: MemorySource | None = None, **more: Any
    ) -> Loop:
        sink, source = sink or MemorySink(self.log), source or MemorySource(self.log)
        parts = (stage or Cores(Sum), source, sink, self.snapshots())
        return Loop(self.topics, *parts, clock=self.clock, writer=Inline(), **more)

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


class Recording(MemorySink):
    """Remembers each transaction."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.done: list[tuple[list[bytes], dict[Position, int]]] = []

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        super().commit(outgoing, offsets)
        self.done.append(([out.value for out in outgoing], dict(offsets)))
