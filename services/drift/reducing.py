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
        self._make_room(len(self._layout.numbers))

    def _make_room(self, numbers: int) -> None:
        """Make what a summary is tabulated in: the numbers by row and by column, counts of each, one-hot values."""
        self._numbers, self._columns = np.zeros((ROWS, numbers), np.float32), np.zeros((numbers, ROWS), np.float32)
        self._counted = np.zeros((2, numbers), np.int64)  # missing, and the default
        self._hot: dict[str, Ints] = {name: np.zeros(ROWS, np.int64) for name in self._layout.blocks}
        self._hot_counts = np.zeros(self._layout.hot_width, np.uint16)

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
        numbers, columns, (missing, usual) = self._numbers, self._columns, self._counted
        row_kernels.tabulate(vectors, self._scores, layout.places, layout.defaults, numbers, columns, self._counted)
        for name, block in layout.blocks.items():
            counts = self._hot_counts[layout.spans[name]]
            row_kernels.hottest(vectors, block.start, block.stop, self._hot[name], counts)
        columns.sort(axis=1)  # NaN goes last
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
            columns[:, self._number % 2 :: 2].tobytes(),
            missing.astype(np.uint16).tobytes(),
            usual[: len(layout.features)].astype(np.uint16).tobytes(),
            self._hot_counts.tobytes(),
            vectors[:: ROWS // WHOLE].tobytes(),
            self._sums().tobytes(),
            [Answered(version, *counts) for version, counts in sorted(self._versions.items())],
        )
        self._number, self._held, self._versions = self._number + 1, 0, {}
        return encode_summary(summary)

    def _sums(self) -> NDArray[np.float32]:
        """Return the rows of each slice, and the sum of each number of them."""
        sums, first = np.zeros((len(self._layout.sliced), 1 + len(self._layout.numbers))), 0
        for name in self._layout.slices:
            row_kernels.sum_slices(self._numbers, self._hot[name], sums[first:])
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
        entries = column.flatten()
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
