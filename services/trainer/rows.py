"""Examples as rows of the offline table, and as the arrays that a model is trained on. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.runtime.frames import TIME, Frame, micros, rows
from services.runtime.records import Record
from services.runtime.schemas import examples_frame
from services.runtime.stream import Stream

DATE, ORIGIN, PLACE = "event_date", "examples_offset", "examples_row"
_TRAINED_ON = ("key", "event_time", "partition", "offset", "features", "label", "label_time", ORIGIN, PLACE)


class Rows:
    """Makes rows of the table from records of `examples`: their columns, the event's date (UTC), the place in the log.

    That is the record's offset, and the row's number in it. Delta knows no lists of a fixed size, so `features` are
    lists there; each is as long as the stream has columns.
    """

    def __init__(self, stream: Stream) -> None:
        self.frame: Frame = examples_frame(stream)
        added = [(DATE, pa.date32()), (ORIGIN, pa.int64()), (PLACE, pa.int32())]
        self.schema = pa.schema([*self.frame.schema, *(pa.field(*field, nullable=False) for field in added)])

    def read(self, records: Sequence[Record]) -> pa.Table:
        """Return the rows of these records, in their order; raise Stop for one of another feature set."""
        return pa.Table.from_batches([self._rows(record) for record in records], self.schema)

    def _rows(self, record: Record) -> pa.RecordBatch:
        batch = self.frame.decode(record)
        added = [
            batch.column("event_time").cast(pa.date32()),
            pa.array(np.full(batch.num_rows, record.offset, np.int64)),
            pa.array(np.arange(batch.num_rows, dtype=np.int32)),
        ]
        return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=self.schema)


@dataclass(frozen=True)
class TrainingSet:
    """The labelled events of one `version` of the table, in the order of their times; of one time, as in the log.

    A row's history is thus before it, which networks over a key's last rows need. It is not the order in which labels
    came to be known: whoever cuts the rows at a time leaves out of the earlier part those whose label came later.
    Times are microseconds since 1970; the key of row i is `keys[key_codes[i]]`, `keys` being sorted.
    """

    version: int
    columns: tuple[str, ...]
    features: NDArray[np.float32]  # (rows, columns)
    labels: NDArray[np.float32]
    event_times: NDArray[np.int64]
    label_times: NDArray[np.int64]
    keys: tuple[str, ...]
    key_codes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, rows: slice | NDArray[np.bool_]) -> "TrainingSet":
        """Return these rows, in the same order."""
        return replace(
            self,
            features=self.features[rows],
            labels=self.labels[rows],
            event_times=self.event_times[rows],
            label_times=self.label_times[rows],
            key_codes=self.key_codes[rows],
        )

    def first_of(self, time: int) -> int:
        """Return the place of the first row with an event time from this one on (µs since 1970)."""
        return int(np.searchsorted(self.event_times, time))


def training_set(version: int, columns: tuple[str, ...], table: pa.Table, until: int | None = None) -> TrainingSet:
    """Return rows of the table, in whatever order they come, as a training set; equal rows give equal bytes.

    Of what was said of an event the last holds; one of which nothing is known is left out. With `until` only what had
    been said by then counts.
    """
    found = table.select(_TRAINED_ON)
    if until is not None:
        found = found.filter(pc.less_equal(found["label_time"], pa.scalar(until, TIME)))
    found = found.take(_order(found))
    found = found.filter(pc.is_valid(found["label"])).combine_chunks()
    keys, codes = np.unique(found["key"].to_numpy(), return_inverse=True)
    return TrainingSet(
        version,
        columns,
        rows(_whole(found["features"])).astype(np.float32),
        found["label"].to_numpy().astype(np.float32),
        micros(_whole(found["event_time"])),
        micros(_whole(found["label_time"])),
        tuple(keys.tolist()),
        codes.astype(np.int64),
    )


def _order(table: pa.Table) -> NDArray[np.int64]:
    """Return the places of the rows that hold, one for each event, in the order of a training set."""
    partitions, offsets = table["partition"].to_numpy(), table["offset"].to_numpy()
    said = np.lexsort((table[PLACE].to_numpy(), table[ORIGIN].to_numpy(), offsets, partitions))
    last = np.ones(len(said), bool)
    last[:-1] = (np.diff(partitions[said]) != 0) | (np.diff(offsets[said]) != 0)
    hold = said[last]  # by partition and offset
    times = micros(_whole(table["event_time"]))[hold]
    return hold[np.argsort(times, kind="stable")]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
