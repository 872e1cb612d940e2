"""A message of `examples` as arrays: of each row its label, what became of it, its slices, what each model said.

An example counts with its first label, as in rollout: a correction is counted as one and changes no loss.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.runtime.frames import micros, rows
from services.runtime.models import BATCH, ONLINE
from services.runtime.stream import Stream

Floats: TypeAlias = NDArray[np.float64]
SERVED = "served"
OUTCOMES = ("label", "timeout", "late", "corrected")
LABEL, OUTCOME, DELAY, TIME, OFFSET, SLICES = range(6)  # columns of `told`, from SLICES on one for each sliced feature
NONE = "none"  # the value of a one-hot feature of which no column is hot


class Rows(NamedTuple):
    """`told` (rows, columns): all are exact in a float64, times in µs too; NaN where there is none.

    LABEL is of a first label. OUTCOME counts in OUTCOMES, DELAY is in seconds from the event to its label, OFFSET is
    the message's, and a slice is its place in `Slices.names`. `scores` are each model's, NaN where it did not answer.
    """

    told: Floats
    scores: Mapping[str, Floats]

    def part(self, places: slice) -> "Rows":
        return Rows(self.told[places], {name: scores[places] for name, scores in self.scores.items()})


class Slices:
    """The values of the one-hot features that are watched one by one; `names` has them all, as "carrier=DL"."""

    def __init__(self, stream: Stream) -> None:
        self.names: list[str] = []
        self._fields: list[tuple[slice, int]] = []
        for name in stream.pipeline.drift.slices:
            columns = stream.pipeline.features[name].columns(name)
            start = stream.columns.index(columns[0])
            self._fields.append((slice(start, start + len(columns)), len(self.names)))
            self.names += [*columns, f"{name}={NONE}"]

    @property
    def fields(self) -> int:
        return len(self._fields)

    def read(self, vectors: NDArray[np.float32]) -> Iterator[Floats]:
        """Yield for each sliced feature where the value of each row stands in `names`."""
        for columns, first in self._fields:
            block = vectors[:, columns]
            hottest = block.argmax(axis=1)
            place = np.where(block[np.arange(len(block)), hottest] > 0, hottest, block.shape[1])
            yield (first + place).astype(np.float64)


def read_rows(batch: pa.RecordBatch, offset: int, slices: Slices) -> Rows:
    """Read a message that stands at this offset."""
    event_times, outcomes = micros(batch.column("event_time")), batch.column("outcome")
    codes = _floats(pc.index_in(outcomes, pa.array(OUTCOMES)))
    first = np.asarray(batch.column("retracts").is_null())
    came = np.isin(codes, (OUTCOMES.index("label"), OUTCOMES.index("late")))
    delays = (micros(batch.column("label_time")) - event_times) / 1e6
    columns = [
        np.where(first, _floats(batch.column("label")), np.nan),
        codes,
        np.where(came, delays, np.nan),
        event_times.astype(np.float64),
        np.full(len(codes), float(offset)),
        *slices.read(np.asarray(rows(batch.column("features")), np.float32)),
    ]
    return Rows(np.column_stack(columns), dict(_scores(batch)))


def join(parts: list[Rows], width: int) -> Rows:
    """Return the rows one after the other; a model that no row of a part heard of has NaN there."""
    told = np.concatenate([np.zeros((0, width)), *(part.told for part in parts)])
    names = {name: None for part in parts for name in part.scores}
    found = {
        name: np.concatenate([part.scores.get(name, np.full(len(part.told), np.nan)) for part in parts])
        for name in names
    }
    return Rows(told, found)


def _scores(batch: pa.RecordBatch) -> Iterator[tuple[str, Floats]]:
    yield SERVED, _floats(batch.column("served"))
    yield ONLINE, _floats(batch.column(ONLINE).field("score"))
    entries = pc.list_flatten(batch.column(BATCH))
    if len(entries):
        places = np.asarray(pc.list_parent_indices(batch.column(BATCH)))
        versions, answers = np.asarray(entries.field("version")), _floats(entries.field("score"))
        for version in np.unique(versions).tolist():
            scores, mine = np.full(batch.num_rows, np.nan), versions == version
            scores[places[mine]] = answers[mine]
            yield f"{BATCH}@{version}", scores


def _floats(column: pa.Array) -> Floats:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
