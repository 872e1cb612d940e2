"""From `examples` to summaries: what labels say of each model, a hundred rows at a time.

Every sum adds its rows one by one in their order, so it has the same bits however messages were cut.
"""

from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.drift.example_rows import DELAY, LABEL, OFFSET, OUTCOME, OUTCOMES, SLICES, TIME, Rows, Slices, join
from services.drift.example_rows import read_rows as read
from services.drift.losses import clipped_losses, expected_loss
from services.runtime.records import Record
from services.runtime.schemas import examples_frame
from services.runtime.stream import Stream
from services.runtime.summaries import BINS, LOSS2, ExampleSummary, Judged, Source, encode_summary

Floats: TypeAlias = NDArray[np.float64]
ROWS = 100  # labelled rows of a summary
MOST = 2 * ROWS  # rows of a summary, whatever became of them: where no labels come, that is news


class ReducerState(msgspec.Struct):
    """What ExampleReducer holds: the newest offset, the next number, and rows that are not summed up yet."""

    offset: int
    number: int
    told: bytes
    scores: dict[str, bytes]


class ExampleReducer:
    """Folds one partition of `examples`. Messages that it has folded already are skipped. Cuts leave no trace."""

    def __init__(self, stream: Stream, partition: int) -> None:
        self._frame, self._slices = examples_frame(stream), Slices(stream)
        self._topic, self._partition = stream.topic("examples"), partition
        self._width = SLICES + self._slices.fields
        self._offset, self._number = -1, 0
        self._held: list[Rows] = []

    def fold(self, record: Record) -> list[bytes]:
        """Return the summaries that this message completes."""
        if record.offset <= self._offset:
            return []
        self._offset = record.offset
        self._held.append(read(self._frame.decode(record), record.offset, self._slices))
        if sum(len(part.told) for part in self._held) < ROWS:
            return []
        whole = join(self._held, self._width)
        ends = _ends(~np.isnan(whole.told[:, LABEL]))
        done = ends[-1] if ends else 0
        self._held = [_known(whole.part(slice(done, None)))] if done < len(whole.told) else []
        return self._sum_up(whole.part(slice(0, done)), ends) if ends else []

    def _sum_up(self, rows: Rows, ends: list[int]) -> list[bytes]:
        lengths = np.diff(ends, prepend=0)
        blocks, told = np.repeat(np.arange(len(ends)), lengths), rows.told
        outcomes = _counts(blocks, told[:, OUTCOME], len(ends), len(OUTCOMES)).astype(np.int64).tolist()
        labelled = _sum(blocks, ~np.isnan(told[:, LABEL]), len(ends)).astype(np.int64).tolist()
        starts = np.array([0, *ends[:-1]])
        began, ended = (edge.reduceat(told[:, TIME], starts) for edge in (np.minimum, np.maximum))
        delays = _delays(blocks, told[:, DELAY], len(ends))
        judged = _judge(blocks, rows, len(ends), len(self._slices.names))
        summaries = []
        for place, (end, length) in enumerate(zip(ends, lengths.tolist(), strict=True)):
            offsets = told[end - length : end, OFFSET]
            source = self._source(int(offsets[0]), int(offsets[-1]), int(began[place]), int(ended[place]))
            said = [one for one in (of_model[place] for of_model in judged) if one.rows]
            whole = ExampleSummary(source, labelled[place], tuple(outcomes[place]), delays[place], said)
            summaries.append(encode_summary(whole))
        return summaries

    def _source(self, first: int, last: int, began: int, ended: int) -> Source:
        number, self._number = self._number, self._number + 1
        return Source(self._topic, self._partition, number, first, last, began, ended)

    # Snapshots

    def snapshot(self) -> bytes:
        held = _known(join(self._held, self._width))
        scores = {name: held.scores[name].tobytes() for name in sorted(held.scores)}
        return msgspec.msgpack.encode(ReducerState(self._offset, self._number, held.told.tobytes(), scores))

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state, type=ReducerState)
        self._offset, self._number = held.offset, held.number
        told = np.frombuffer(held.told).reshape(-1, self._width)
        self._held = [Rows(told, {name: np.frombuffer(scores) for name, scores in held.scores.items()})]


def _ends(labelled: NDArray[np.bool_]) -> list[int]:
    """Return behind which rows the summaries end that are complete."""
    places, start, seen = np.flatnonzero(labelled), 0, 0
    ends: list[int] = []
    while True:
        full = int(places[seen + ROWS - 1]) + 1 if seen + ROWS <= len(places) else len(labelled) + 1
        end = min(full, start + MOST)
        if end > len(labelled):
            return ends
        ends.append(end)
        start, seen = end, int(np.searchsorted(places, end))


def _known(rows: Rows) -> Rows:
    """Leave out the models that said nothing of these rows: whether others were heard of leaves no trace."""
    return Rows(rows.told, {name: scores for name, scores in rows.scores.items() if not np.isnan(scores).all()})


def _judge(blocks: NDArray[np.int64], rows: Rows, count: int, slices: int) -> list[list[Judged]]:
    """Return for each model what is said of it, block by block; batch versions in their order."""
    return [
        _judge_model(name, blocks, rows.told, rows.scores[name], count, slices)
        for name in sorted(rows.scores, key=_order)
    ]


def _order(name: str) -> tuple[int, int]:
    model, _, version = name.partition("@")
    return ("served", "online", "batch").index(model), int(version or 0)


def _judge_model(
    name: str, blocks: NDArray[np.int64], told: Floats, scores: Floats, count: int, slices: int
) -> list[Judged]:
    known = ~(np.isnan(scores) | np.isnan(told[:, LABEL]))
    blocks, told, p = blocks[known], told[known], scores[known]
    labels = told[:, LABEL]
    losses, bias = clipped_losses(p, labels), labels - p
    gap = bias * (1 - 2 * p)
    values = [losses, losses**2, gap, gap**2, bias, bias**2, expected_loss(p)]
    sums = np.column_stack([_sum(blocks, value, count) for value in values])
    place = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    bins = np.stack([_counts(blocks, place, count, BINS, w) for w in (None, p, labels)], axis=2)
    by_slice = np.zeros((count, slices, 3))
    for field in range(SLICES, told.shape[1]):
        weights = (None, losses, values[LOSS2])
        by_slice += np.stack([_counts(blocks, told[:, field], count, slices, w) for w in weights], axis=2)
    n = _sum(blocks, known[known], count).astype(np.int64).tolist()
    return [Judged(name, n[b], sums[b].tobytes(), bins[b].tobytes(), by_slice[b].tobytes()) for b in range(count)]


def _delays(blocks: NDArray[np.int64], delays: Floats, count: int) -> list[tuple[int, float, float, float]]:
    came = ~np.isnan(delays)
    blocks, delays = blocks[came], delays[came]
    longest = np.zeros(count)
    np.maximum.at(longest, blocks, delays)
    sums = [_sum(blocks, value, count).tolist() for value in (np.ones(len(delays)), delays, delays**2)]
    return [(int(n), total, squares, most) for n, total, squares, most in zip(*sums, longest.tolist(), strict=True)]


def _sum(blocks: NDArray[np.int64], values: NDArray[np.generic], count: int) -> Floats:
    return np.asarray(np.bincount(blocks, values, count), np.float64)


def _counts(
    blocks: NDArray[np.int64], places: NDArray[np.generic], count: int, width: int, weights: Floats | None = None
) -> Floats:
    """Return (blocks, width): how many rows of each block are in each place, or the sums of their weights."""
    flat = np.bincount(blocks * width + places.astype(np.int64), weights, count * width)
    return np.asarray(flat, np.float64).reshape(count, width)
