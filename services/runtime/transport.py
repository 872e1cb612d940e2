"""What the loop asks of the log: a source that shares out partitions, and a sink that commits all or nothing.

`kafka.py` speaks to a real broker; `memory.py` is the same in one process, for tests.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from services.runtime.records import Outgoing, Position, Record

Offsets = Mapping[Position, int]  # for each partition of a topic, the first offset that was not read


class Listener(Protocol):
    """Who is told when partitions come and go; called from within `Source.poll`."""

    def assigned(self, positions: Sequence[Position]) -> None: ...

    def revoked(self, positions: Sequence[Position]) -> None:
        """Give them up in order: what was committed holds."""

    def lost(self, positions: Sequence[Position]) -> None:
        """They belong to somebody else already: forget them."""


class Source(Protocol):
    """Reads a consumer group's share of the input topics, each partition in offset order."""

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None: ...

    def poll(self, limit: int, timeout: float) -> list[Record]:
        """Return what is there, at most `limit` records; wait up to `timeout` seconds only if there is nothing."""

    def committed(self, positions: Sequence[Position]) -> Offsets:
        """Return the group's committed offsets; 0 where nothing was committed."""

    def seek(self, offsets: Offsets) -> None:
        """Read on from these offsets; the partitions are assigned to this member."""

    def pause(self, positions: Sequence[Position]) -> None: ...

    def resume(self, positions: Sequence[Position]) -> None: ...

    def close(self) -> None: ...


class Sink(Protocol):
    """Writes outputs and input offsets: both or neither, or the outputs first."""

    def settle(self) -> None:
        """End what a commit that failed may have left open: until then nobody can say what was committed.

        Raise Retry if that can't be done yet.
        """

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        """Make both durable. Raise Retry if they may not be: the committed offsets then say whether they are."""

    def close(self) -> None: ...


class History(Protocol):
    """What the log holds now, read without a group. What is in an open transaction is waited for."""

    def positions(self, topic: str) -> list[Position]:
        """Return the partitions of a topic; Stop if there is no such topic."""

    def bounds(self, position: Position) -> tuple[int, int]:
        """Return the first offset that is kept, and the end: about the offset that the next record will get."""

    def committed(self, group: str, positions: Sequence[Position]) -> Offsets:
        """Return the first offset that a consumer group has not finished; 0 where it has committed none."""

    def read(self, position: Position) -> Iterator[list[Record]]:
        """Yield all that the partition held when this began, and perhaps what came meanwhile, in bounded batches."""

    def between(self, position: Position, start: int, end: int | None = None) -> list[Record]:
        """Return what there is from one offset to before another, or to where the partition ends now.

        Neither is outside the bounds, which may leave out the last records: those come without an `end` alone.
        """

    def read_topic(self, topic: str) -> Iterator[list[Record]]:
        """Yield all partitions of a topic, one after the other."""
