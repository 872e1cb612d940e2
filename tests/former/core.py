"""Scored rows and labels become examples. Pure: the join is in `join.py`, this is its reading and writing."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import msgspec
import numpy as np
import pyarrow as pa

from services.labels.maturity import Maturity
from services.runtime.admission import Admission
from services.runtime.frames import matrix, micros, rows, times
from services.runtime.quality import Quality
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import BESIDE, SCORE, examples_frame, scored_frame
from services.runtime.stream import Stream
from tests.former.join import Decided, Join, Label, Row, State

SERVICE = "labels"
NEGATIVE = 0.0  # what a label that never came stands for


class Held(msgspec.Struct):
    """All that the core holds."""

    join: State
    ids: list[list[str]]
    hours: list[tuple[int, list[int]]]
    quality: tuple[int, int, int]


class LabelsCore:
    """Folds one partition of `scored` and `labels` into `examples`, each as soon as it is decided."""

    def __init__(self, stream: Stream, partition: int) -> None:
        self._stream = stream
        self._partition = partition
        self._rule = stream.pipeline.label
        self._negative = self._rule.on_timeout == "negative"
        self._admission = Admission(stream, SERVICE, "label")
        self._scored = scored_frame(stream)
        self._examples = examples_frame(stream)
        self._join = Join(self._rule.horizon.us, self._rule.corrections.us if self._rule.corrections else None)
        self.maturity, self.quality = Maturity(), Quality()

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        decided: list[Decided] = []
        outgoing: list[Outgoing] = []
        for topic, run in groupby(records, key=lambda record: record.topic):
            if topic == self._stream.topic("scored"):
                decided += [one for record in run for row in self._rows(record) for one in self._join.add_row(row)]
            else:
                labels, rejected = self._labels(list(run))
                outgoing += rejected
                decided += [one for label in labels for one in self._join.add_label(label)]
        self._count(decided)
        kept = [one for one in decided if one.label is not None or self._negative]
        return outgoing + ([self._example(kept)] if kept else [])

    @property
    def waiting(self) -> tuple[int, int]:
        """How many rows wait for a label, or a correction, and labels for a row."""
        return len(self._join.rows) + len(self._join.lives), len(self._join.labels)

    @property
    def totals(self) -> Mapping[str, int]:
        """How many rows and labels came to what; see `join.py`."""
        return self._join.totals

    def _count(self, decided: list[Decided]) -> None:
        times = [(one.row.time, one.label.time) for one in decided if one.label and one.outcome != "corrected"]
        if times:
            self.maturity.add_labels(*np.array(times, np.int64).T)
        for one in decided:
            if one.retracted is not None:
                self.quality.retract(one.row.served, one.retracted.value)
            if one.label is not None:
                self.quality.count(one.row.served, one.label.value)

    def _rows(self, record: Record) -> Iterator[Row]:
        batch = self._scored.decode(record)
        vectors = rows(batch.column("features"))
        online = batch.column("online")
        event_times = micros(batch.column("event_time"))
        clocks = np.maximum.accumulate(np.maximum(event_times, self._join.row_clock))
        self.maturity.add_rows(event_times[np.asarray(batch.column("offset")) > self._join.row_offset])
        yield from map(
            Row,
            batch.column("event_id").to_pylist(),
            batch.column("key").to_pylist(),
            event_times.tolist(),
            batch.column("offset").to_pylist(),
            [vector.tobytes() for vector in vectors],
            batch.column("served").to_pylist(),
            online.field("version").to_pylist(),
            online.field("score").to_pylist(),
            online.field("weight").to_pylist(),
            map(tuple, batch.column("batch").to_pylist()),
            clocks.tolist(),
        )

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

    def _example(self, decided: list[Decided]) -> Outgoing:
        found = [one.row for one in decided]
        width = len(self._stream.columns)
        online = [{"version": row.version, "score": row.score, "weight": row.weight} for row in found]
        columns = [
            pa.array([row.id for row in found], pa.string()),
            pa.array([row.key for row in found], pa.string()),
            times(np.array([row.time for row in found], np.int64)),
            pa.array([row.offset for row in found], pa.int64()),
            matrix(np.frombuffer(b"".join(row.features for row in found), np.float32).reshape(-1, width)),
            pa.array([row.served for row in found], pa.float64()),
            pa.array(online, SCORE),
            pa.array([row.batch for row in found], BESIDE),
            pa.array([self._partition] * len(found), pa.int32()),
            pa.array([one.label.value if one.label else NEGATIVE for one in decided], pa.float64()),
            times(np.array([self._said_at(one) for one in decided], np.int64)),
            pa.array([one.outcome for one in decided], pa.string()),
            pa.array([self._retracted(one) for one in decided], pa.float64()),
        ]
        value = self._examples.encode(columns)
        return Outgoing(self._stream.topic("examples"), value, partition=0, headers=self._examples.headers)

    def _said_at(self, one: Decided) -> int:
        return one.label.time if one.label else one.row.time + self._rule.horizon.us

    def _retracted(self, one: Decided) -> float | None:
        """Return what was said of the row before: by a label, or by its absence."""
        if one.retracted is not None:
            return one.retracted.value
        return NEGATIVE if one.outcome == "late" and self._negative else None

    def snapshot(self) -> bytes:
        join, ids, hours = self._join.state(), self._admission.state(), self.maturity.state()
        return msgspec.msgpack.encode(Held(join, ids, hours, self.quality.state()))

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state, type=Held)
        self._join.load(held.join)
        self._admission.load(held.ids)
        self.maturity.load(held.hours)
        self.quality = Quality(*held.quality)
