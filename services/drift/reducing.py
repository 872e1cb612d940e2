"""From `scored` to summaries of a fixed number of rows: what is kept of the rows is what monitors may ask of them."""

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.drift import row_kernels
from services.drift.kernels import Ints
from services.runtime.frames import micros, rows
from services.runtime.layout import SCORES, Layout
from services.runtime.records import Record
from services.runtime.schemas import scored_frame
from services.runtime.stream import Stream
from services.runtime.summaries import Answered, ScoredSummary, Source, encode_summary

ROWS = 200  # of a summary: a delay of at least so much, and a summary's cost is shared by so many
KEPT = ROWS // 2  # values of a column
WHOLE = 40  # rows as they are
NO_VERSION = -1


class ReducerState(msgspec.Struct):
    """What ScoredReducer holds: rows that are not summed up yet, and where their messages stood."""

    offset: int
    number: int
    vectors: bytes
    scores: bytes
    times: bytes
    offsets: bytes
    versions: list[tuple[int, int, int]]


class ScoredReducer:
    """Folds one partition of `scored`. Messages that it has folded already are skipped. Cuts leave no trace."""

    def __init__(self, stream: Stream, partition: int) -> None:
        self._layout, self._frame = Layout(stream), scored_frame(stream)
        self._topic, self._partition = stream.topic("scored"), partition
        self._offset, self._number, self._held = -1, 0, 0
        self._vectors = np.zeros((ROWS, self._layout.width), np.float32)
        self._scores = np.zeros((ROWS, len(SCORES)), np.float32)
        self._times, self._offsets = np.zeros(ROWS, np.int64), np.zeros(ROWS, np.int64)
        self._versions: dict[int, tuple[int, int]] = {}

    def fold(self, record: Record) -> list[bytes]:
        """Return the summaries that this message completes."""
        if record.offset <= self._offset:
            return []
        self._offset = record.offset
        batch = self._frame.decode(record)
        vectors, times = np.asarray(rows(batch.column("features")), np.float32), micros(batch.column("event_time"))
        entries = _Entries(batch.column("batch"))
        scores = np.column_stack([_floats(batch.column("served")), _floats(batch.column("online").field("score"))])
        summaries, done = [], 0
        while done < len(times):
            taken = min(ROWS - self._held, len(times) - done)
            self._take(vectors[done : done + taken], scores[done : done + taken], times[done : done + taken])
            entries.count(done, done + taken, self._versions)
            done += taken
            if self._held == ROWS:
                summaries.append(self._sum_up())
        return summaries

    def _take(self, vectors: NDArray[np.float32], scores: NDArray[np.float64], times: NDArray[np.int64]) -> None:
        places = slice(self._held, self._held + len(times))
        self._vectors[places], self._scores[places], self._times[places] = vectors, scores, times
        self._offsets[places] = self._offset
        self._held += len(times)

    def _sum_up(self) -> bytes:
        layout, vectors = self._layout, self._vectors
        offsets, times = self._offsets, self._times
        numbers = np.concatenate([vectors[:, layout.places], self._scores], axis=1)
        hot = self._hot()
        ordered = np.sort(numbers.T, axis=1)  # NaN goes last
        missing = np.isnan(ordered).sum(axis=1)
        source = Source(
            self._topic,
            self._partition,
            self._number,
            int(offsets[0]),
            int(offsets[-1]),
            int(times.min()),
            int(times.max()),
        )
        summary = ScoredSummary(
            source,
            ROWS,
            np.ascontiguousarray(ordered[:, self._number % 2 :: 2]).tobytes(),
            missing.astype(np.uint16).tobytes(),
            (numbers[:, : len(layout.features)] == layout.defaults).sum(axis=0).astype(np.uint16).tobytes(),
            self._counts(hot).tobytes(),
            vectors[:: ROWS // WHOLE].tobytes(),
            self._sums(hot, numbers).tobytes(),
            [Answered(version, *counts) for version, counts in sorted(self._versions.items())],
        )
        self._number, self._held, self._versions = self._number + 1, 0, {}
        return encode_summary(summary)

    def _hot(self) -> dict[str, Ints]:
        """Return for each one-hot feature which value each row has."""
        blocks = self._layout.blocks.items()
        return {name: row_kernels.hottest(self._vectors, block.start, block.stop) for name, block in blocks}

    def _counts(self, hot: dict[str, Ints]) -> NDArray[np.uint16]:
        counts = np.zeros(self._layout.hot_width, np.uint16)
        for name, span in self._layout.spans.items():
            counts[span] = np.bincount(hot[name], minlength=span.stop - span.start)
        return counts

    def _sums(self, hot: dict[str, Ints], numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        sums, first = np.zeros((len(self._layout.sliced), 1 + numbers.shape[1])), 0
        for name in self._layout.slices:
            row_kernels.sum_slices(numbers, hot[name], sums[first:])
            first += len(self._layout.hots[name])
        return sums.astype(np.float32)

    # Snapshots

    def snapshot(self) -> bytes:
        held = self._held
        versions = [(version, *counts) for version, counts in sorted(self._versions.items())]
        state = ReducerState(
            self._offset,
            self._number,
            self._vectors[:held].tobytes(),
            self._scores[:held].tobytes(),
            self._times[:held].tobytes(),
            self._offsets[:held].tobytes(),
            versions,
        )
        return msgspec.msgpack.encode(state)

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state, type=ReducerState)
        self._offset, self._number, self._held = held.offset, held.number, len(held.times) // 8
        places = slice(0, self._held)
        self._vectors[places] = np.frombuffer(held.vectors, np.float32).reshape(self._held, self._layout.width)
        self._scores[places] = np.frombuffer(held.scores, np.float32).reshape(self._held, len(SCORES))
        self._times[places] = np.frombuffer(held.times, np.int64)
        self._offsets[places] = np.frombuffer(held.offsets, np.int64)
        self._versions = {version: (rows_, champion) for version, rows_, champion in held.versions}


class _Entries:
    """What versions of the batch model said of the rows of a message."""

    def __init__(self, column: pa.ListArray) -> None:
        entries = pc.list_flatten(column)
        self._any = len(entries) > 0
        if self._any:
            self._rows = np.asarray(pc.list_parent_indices(column))
            self._versions = np.asarray(entries.field("version"))
            self._champions = pc.equal(entries.field("state"), "champion").to_numpy(zero_copy_only=False)
            self._answered = ~np.isnan(_floats(entries.field("score")))

    def count(self, start: int, end: int, counts: dict[int, tuple[int, int]]) -> None:
        """Count the answers of each version for rows start to end."""
        if not self._any:
            return
        mine = (self._rows >= start) & (self._rows < end) & self._answered
        for version in np.unique(self._versions[mine]).tolist():
            his = mine & (self._versions == version)
            answered, champion = counts.get(version, (0, 0))
            counts[version] = answered + int(his.sum()), champion + int((his & self._champions).sum())


def _floats(column: pa.Array) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
