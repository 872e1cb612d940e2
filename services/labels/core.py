"""Scored rows and labels become examples. Pure: the join is in `join.py`, this is its reading and writing."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.labels.early import Label
from services.labels.in_memory import Segments
from services.labels.join import BEFORE_ALL, Decided, Join, State
from services.labels.maturity import Maturity
from services.labels.rows import PAGE
from services.runtime.admission import Admission
from services.runtime.frames import micros, times
from services.runtime.quality import Quality
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import examples_frame, scored_frame
from services.runtime.stream import Stream

SERVICE = "labels"
MESSAGE = 4096  # examples in a message
FORMAT = 1  # of the state: one of another is folded again
NEGATIVE = 0.0  # what a label that never came stands for


class Held(msgspec.Struct):
    """All that the core holds."""

    join: State
    ids: list[list[str]]
    hours: list[tuple[int, list[int]]]
    quality: tuple[int, int, int]


class LabelsCore:
    """Folds one partition of `scored` and `labels` into `examples`, each as soon as it is decided.

    Rows wait in `segments`, in memory if none are given; of a row's columns the join knows id, time and offset.
    """

    def __init__(self, stream: Stream, partition: int, segments: Segments | None = None, page: int = PAGE) -> None:
        self._stream = stream
        self._partition = partition
        self._page = page
        self._rule = stream.pipeline.label
        self._absence = NEGATIVE if self._rule.on_timeout == "negative" else None  # what no label stands for
        self._silent = self._rule.on_timeout == "drop"
        self._admission = Admission(stream, SERVICE, "label")
        self._scored = scored_frame(stream)
        self._examples = examples_frame(stream)
        corrections = self._rule.corrections.us if self._rule.corrections else None
        schema, silent = self._scored.schema, self._silent
        self._join = Join(schema, self._rule.horizon.us, corrections, segments, silent=silent, page=page)
        self.maturity, self.quality = Maturity(), Quality()

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        examples: list[pa.RecordBatch] = []
        outgoing: list[Outgoing] = []
        for topic, run in groupby(records, key=lambda record: record.topic):
            if topic == self._stream.topic("scored"):
                examples += [said for record in run for part in self._parts(record) for said in self._rows(part)]
            else:
                labels, rejected = self._labels(list(run))
                outgoing += rejected
                examples += self._say(self._join.add_labels(labels))
        return [*outgoing, *self._written(examples)]

    @property
    def newest(self) -> int | None:
        """The newest row's event time, in microseconds since 1970; None before the first."""
        return None if self._join.row_clock == BEFORE_ALL else self._join.row_clock

    @property
    def waiting(self) -> tuple[int, int]:
        """How many rows wait for a label, or a correction, and labels for a row."""
        return len(self._join.rows), len(self._join.labels)

    @property
    def segments(self) -> list[str]:
        """The segments that the next snapshot relies on."""
        return self._join.rows.segments

    @property
    def totals(self) -> Mapping[str, int]:
        """How many rows and labels came to what; see `join.py`."""
        return self._join.totals

    def _parts(self, record: Record) -> Iterator[pa.RecordBatch]:
        batch = self._scored.decode(record)
        return (batch.slice(first, self._page) for first in range(0, batch.num_rows, self._page))

    def _rows(self, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        new = np.asarray(batch.column("offset")) > self._join.row_offset
        self.maturity.add_rows(micros(batch.column("event_time"))[new])
        return self._say(self._join.add_rows(batch))

    def _labels(self, records: list[Record]) -> tuple[list[Label], list[Outgoing]]:
        decoded, rejected = self._admission.read(records)
        label_times = decoded.times[self._rule.time]
        clocks = np.maximum.accumulate(np.maximum(label_times, self._join.label_clock))
        labels = map(
            Label,
            decoded.column(self._stream.pipeline.stream.id),
            label_times.tolist(),
            [records[place].offset for place in decoded.places],
            map(float, decoded.column(self._rule.field)),
            clocks.tolist(),
        )
        return list(labels), rejected

    def _say(self, decided: Sequence[Decided]) -> list[pa.RecordBatch]:
        """Count what was decided, and return the examples that it makes."""
        kept = [one for one in decided if one.value is not None or not self._silent]
        if not kept:
            return []
        rows = self._join.rows.take(np.array([one.slot for one in kept], np.int64), self._scored.schema.names)
        row_times = micros(rows.column("event_time"))
        self._count(kept, row_times, rows.column("served").to_pylist())
        ends = (row_times + self._rule.horizon.us).tolist()
        said_at = [end if one.time is None else one.time for one, end in zip(kept, ends, strict=True)]
        columns = [
            *rows.columns,
            pa.array([self._partition] * len(kept), pa.int32()),
            pa.array([self._absence if one.value is None else one.value for one in kept], pa.float64()),
            times(np.array(said_at, np.int64)),
            pa.array([one.outcome for one in kept], pa.string()),
            pa.array([self._retracted(one) for one in kept], pa.float64()),
        ]
        return [pa.RecordBatch.from_arrays(columns, schema=self._examples.schema)]

    def _count(self, decided: Sequence[Decided], row_times: NDArray[np.int64], served: Sequence[float]) -> None:
        said = [one.time if one.outcome in ("label", "late") else None for one in decided]
        first = np.array([time is not None for time in said])
        if first.any():
            self.maturity.add_labels(row_times[first], np.array([time for time in said if time is not None]))
        for one, score in zip(decided, served, strict=True):
            if one.retracted is not None:
                self.quality.retract(score, one.retracted)
            if one.value is not None:
                self.quality.count(score, one.value)

    def _retracted(self, one: Decided) -> float | None:
        """Return what was said of the row before: by a label, or by its absence."""
        return self._absence if one.outcome == "late" else one.retracted

    def _written(self, examples: Sequence[pa.RecordBatch]) -> Iterator[Outgoing]:
        """Write what one fold has decided, in its order, in messages that a broker takes."""
        if not examples:
            return
        topic, frame = self._stream.topic("examples"), self._examples
        whole = pa.concat_batches(examples) if len(examples) > 1 else examples[0]
        for first in range(0, whole.num_rows, MESSAGE):
            value = frame.encode(whole.slice(first, MESSAGE).columns)
            yield Outgoing(topic, value, partition=0, headers=frame.headers)

    def snapshot(self) -> bytes:
        """Return the state; it can be restored where `segments` can be read."""
        join, ids, hours = self._join.state(), self._admission.state(), self.maturity.state()
        return msgspec.msgpack.encode(Held(join, ids, hours, self.quality.state()))

    def restore(self, state: bytes) -> None:
        """Take a state, into a core that has folded nothing; raise Unusable if a segment is missing or damaged."""
        held = msgspec.msgpack.decode(state, type=Held)
        self._join.load(held.join)
        self._admission.load(held.ids)
        self.maturity.load(held.hours)
        self.quality = Quality(*held.quality)
