"""Scored rows and labels become examples. Pure: the join is in `join.py`, this is its reading and writing."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec
import numpy as np
import pyarrow as pa

from services.labels.join import Join, Label, Pair, Row, State
from services.labels.maturity import Maturity
from services.runtime.admission import Admission
from services.runtime.frames import matrix, micros, rows, times
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import SCORE, examples_frame, scored_frame
from services.runtime.stream import Stream

SERVICE = "labels"


class Held(msgspec.Struct):
    """All that the core holds."""

    join: State
    ids: list[list[str]]
    hours: list[tuple[int, list[int]]]


class LabelsCore:
    """Folds one partition of `scored` and `labels` into `examples`, each as soon as it is decided."""

    def __init__(self, stream: Stream, partition: int) -> None:
        self._stream = stream
        self._partition = partition
        self._rule = stream.pipeline.label
        self._admission = Admission(stream, SERVICE, "label")
        self._scored = scored_frame(stream)
        self._examples = examples_frame(stream)
        self._join = Join(self._rule.horizon.us)
        self.maturity = Maturity()

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        decided: list[Pair] = []
        outgoing: list[Outgoing] = []
        for topic, run in groupby(records, key=lambda record: record.topic):
            if topic == self._stream.topic("scored"):
                decided += [pair for record in run for row in self._rows(record) for pair in self._join.add_row(row)]
            else:
                labels, rejected = self._labels(list(run))
                outgoing += rejected
                decided += [pair for label in labels for pair in self._join.add_label(label)]
        self._count(decided)
        kept = [pair for pair in decided if pair[1] is not None or self._rule.on_timeout == "negative"]
        return outgoing + ([self._example(kept)] if kept else [])

    @property
    def waiting(self) -> tuple[int, int]:
        """How many rows wait for a label, and labels for a row."""
        return len(self._join.rows), len(self._join.labels)

    def _count(self, decided: list[Pair]) -> None:
        times = [(row.time, label.time) for row, label in decided if label is not None]
        if times:
            self.maturity.add_labels(*np.array(times, np.int64).T)

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

    def _example(self, pairs: list[Pair]) -> Outgoing:
        found = [row for row, _ in pairs]
        horizon = self._rule.horizon.us
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
            pa.array([self._partition] * len(found), pa.int32()),
            pa.array([label.value if label else 0.0 for _, label in pairs], pa.float64()),
            times(np.array([label.time if label else row.time + horizon for row, label in pairs], np.int64)),
            pa.array(["label" if label else "timeout" for _, label in pairs], pa.string()),
        ]
        value = self._examples.encode(columns)
        return Outgoing(self._stream.topic("examples"), value, partition=0, headers=self._examples.headers)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(Held(self._join.state(), self._admission.state(), self.maturity.state()))

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state, type=Held)
        self._join.load(held.join)
        self._admission.load(held.ids)
        self.maturity.load(held.hours)
