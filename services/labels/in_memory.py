"""What rows ask of their segments, and segments that are in memory alone: for a replay, which keeps no snapshot."""

from typing import Protocol

import pyarrow as pa


class Segments(Protocol):
    """Where segments are. They are known by the name that `write` gave them."""

    def write(self, batch: pa.RecordBatch) -> str:
        """Store a segment for good; raise Retry if that can't be done."""

    def read(self, name: str) -> pa.RecordBatch:
        """Return a segment, at best mapped and not read; raise Retry if that can't be done."""

    def check(self, name: str) -> pa.RecordBatch:
        """Return a segment of an earlier process; raise Unusable if it is missing or not what was written."""

    def drop(self, name: str) -> None:
        """Take note that a segment will be read no more; older snapshots may name it."""


class InMemory:
    """Segments that go with the process, or before."""

    def __init__(self) -> None:
        self._batches: dict[str, pa.RecordBatch] = {}
        self._count = 0

    def write(self, batch: pa.RecordBatch) -> str:
        self._count += 1
        self._batches[f"{self._count}"] = batch
        return f"{self._count}"

    def read(self, name: str) -> pa.RecordBatch:
        return self._batches[name]

    check = read

    def drop(self, name: str) -> None:
        del self._batches[name]
