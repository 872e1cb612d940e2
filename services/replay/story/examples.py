"""What `examples` say of the event, and who decided by them: one pass over the topic, from its beginning."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from services.replay.online import open_batch
from services.replay.story.facts import Example
from services.replay.verify import Tell
from services.runtime.frames import micros
from services.runtime.records import Position, Record
from services.runtime.stream import Stream
from services.runtime.transport import History

Batch = tuple[Record, pa.RecordBatch]


def batches(history: History, stream: Stream, tell: Tell) -> Iterator[Batch]:
    """Yield the messages of `examples` with their rows, in order."""
    position = Position(stream.topic("examples"), 0)
    _, end = history.bounds(position)
    for records in history.read(position):
        for record in records:
            yield record, open_batch(record)
        tell(position, records[-1].offset + 1, end)


class Counted:
    """The fold of `examples` that numbers those with a label, and picks those of one event."""

    def __init__(self, partition: int, offset: int) -> None:
        self._partition, self._offset = partition, offset
        self._labelled = 0
        self.found: list[Example] = []

    def fold(self, record: Record, batch: pa.RecordBatch) -> None:
        mine = np.asarray(batch.column("offset")) == self._offset
        mine &= np.asarray(batch.column("partition")) == self._partition
        for row in np.flatnonzero(mine).tolist():
            self.found.append(self._example(record, batch, row))
        self._labelled += labelled_rows(batch)

    def _example(self, record: Record, batch: pa.RecordBatch, row: int) -> Example:
        label = batch.column("label")[row].as_py()
        number = None if label is None else self._labelled + labelled_rows(batch.slice(0, row + 1))
        states = {one["version"]: one["state"] for one in batch.column("batch")[row].as_py()}
        said = [batch.column(name)[row].as_py() for name in ("outcome", "retracts")]
        time = int(micros(batch.column("label_time").slice(row, 1))[0])
        return Example(
            record.offset,
            row,
            number,
            record.timestamp,
            said[0],
            label,
            time,
            said[1],
            {f"batch@{v}": s for v, s in states.items()},
        )


def labelled_rows(batch: pa.RecordBatch) -> int:
    """Return of how many rows the label is known: each is an example that the learner counts."""
    return int(batch.num_rows - batch.column("label").null_count)


def last(examples: Sequence[Example]) -> Example | None:
    """Return what holds of an event in the end."""
    return examples[-1] if examples else None
