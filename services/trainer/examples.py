"""Examples as rows of the offline table, and as the arrays that a model is trained on. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.runtime.frames import TIME, Frame, micros, rows
from services.runtime.records import Record
from services.runtime.schemas import examples_frame
from services.runtime.stream import Stream

DATE, ORIGIN = "event_date", "examples_offset"
ORDER = ("label_time", "partition", "offset")
_TRAINED_ON = ("key", "event_time", "features", "label", *ORDER)


class Rows:
    """Makes rows of the table from records of `examples`: their columns, the event's date (UTC), the record's offset.

    Delta knows no lists of a fixed size, so `features` are lists there; each is as long as the stream has columns.
    """

    def __init__(self, stream: Stream) -> None:
        self.frame: Frame = examples_frame(stream)
        added = [pa.field(DATE, pa.date32(), nullable=False), pa.field(ORIGIN, pa.int64(), nullable=False)]
        self.schema = pa.schema([*self.frame.schema, *added])

    def read(self, records: Sequence[Record]) -> pa.Table:
        """Return the rows of these records, in their order; raise Stop for one of another feature set."""
        return pa.Table.from_batches([self._rows(record) for record in records], self.schema)

    def _rows(self, record: Record) -> pa.RecordBatch:
        batch = self.frame.decode(record)
        dates = batch.column("event_time").cast(pa.date32())
        origins = pa.array(np.full(batch.num_rows, record.offset, np.int64))
        return pa.RecordBatch.from_arrays([*batch.columns, dates, origins], schema=self.schema)


@dataclass(frozen=True)
class TrainingSet:
    """All examples of one `version` of the table, by the time at which their labels were known.

    So any first part of it is what a training run at that time could have known, and what follows was unknown then; in
    the order of event times an early row may have a late label. Rows of one label time are in the order of their events
    in the log. Times are microseconds since 1970; the key of row i is `keys[key_codes[i]]`, `keys` being sorted.
    """

    version: int
    columns: tuple[str, ...]
    features: NDArray[np.float32]  # (rows, columns)
    labels: NDArray[np.float32]
    event_times: NDArray[np.int64]
    label_times: NDArray[np.int64]
    keys: tuple[str, ...]
    key_codes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.labels)


def training_set(version: int, columns: tuple[str, ...], table: pa.Table, until: int | None = None) -> TrainingSet:
    """Return rows of the table, in whatever order they come, as a training set; equal rows give equal bytes.

    `until` leaves out labels that were known later than this.
    """
    found = table.select(_TRAINED_ON)
    if until is not None:
        found = found.filter(pc.less_equal(found["label_time"], pa.scalar(until, TIME)))
    found = found.take(pc.sort_indices(found, [(name, "ascending") for name in ORDER])).combine_chunks()
    keys, codes = np.unique(found["key"].to_numpy(), return_inverse=True)
    return TrainingSet(
        version,
        columns,
        rows(_whole(found["features"])).astype(np.float32),
        found["label"].to_numpy().astype(np.float32),
        micros(_whole(found["event_time"])),
        micros(_whole(found["label_time"])),
        tuple(keys.tolist()),
        codes.astype(np.int32),
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
