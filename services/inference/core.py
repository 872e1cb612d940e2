"""Scores become predictions. Pure: what goes to Triton and what comes back is the business of `scoring.py`."""

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.inference.mix import Mix
from services.runtime.contexts import rows_carried
from services.runtime.frames import micros, rows
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import features_frame, scored_frame
from services.runtime.stream import Stream

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where the event of a prediction stands on `events`."""

    partition: int
    offset: int


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """A prediction as its consumers see it, with its provenance: enough to make it again, bit for bit.

    `scores` are those of all models that were asked, `weights` of those that counted. A prediction is `degraded` where
    one that should have counted gave no score. Its `trace_id` is that which its features came with.
    """

    event_id: str
    key: str
    event_time: dt.datetime
    prediction: dict[str, float]
    scores: dict[str, float]
    weights: dict[str, float]
    source: Source
    features: str
    degraded: bool = False
    trace_id: str | None = None


class InferenceCore:
    """Reads `features` batches and writes `predictions` and `scored`; keeps no state."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._features = features_frame(stream)
        self._scored = scored_frame(stream)
        self._encode = msgspec.json.Encoder().encode

    def read(self, records: Sequence[Record]) -> pa.RecordBatch:
        """Join the messages of one partition into one batch, in order."""
        return pa.concat_batches([self._features.decode(record) for record in records])

    def vectors(self, batch: pa.RecordBatch) -> NDArray[np.float32]:
        return np.asarray(rows(batch.column("features")), np.float32)

    def traces(self, records: Sequence[Record]) -> dict[int, str]:
        """Return the traces that messages of one partition say their rows are of, by the events' offsets."""
        found: dict[int, str] = {}
        for record in records:
            if rows := rows_carried(record):
                offsets = self._features.decode(record).column("offset")
                there = {row: context for row, context in rows.items() if row in range(len(offsets))}
                found |= {offsets[row].as_py(): context.trace_id for row, context in there.items()}
        return found

    def no_vectors(self) -> NDArray[np.float32]:
        """Return a batch of no rows, as Triton would see it."""
        return np.zeros((0, len(self._stream.columns)), np.float32)

    def write(
        self, partition: int, batch: pa.RecordBatch, mix: Mix, traces: Mapping[int, str] | None = None
    ) -> list[Outgoing]:
        """Return a JSON record per event and one Arrow record for the batch, all on the events' own partition."""
        return [*self._predictions(partition, batch, mix, traces or {}), self._scored_batch(partition, batch, mix)]

    def _predictions(
        self, partition: int, batch: pa.RecordBatch, mix: Mix, traces: Mapping[int, str]
    ) -> list[Outgoing]:
        topic, field = self._stream.topic("predictions"), self._stream.pipeline.label.field
        columns = zip(
            batch.column("event_id").to_pylist(),
            batch.column("key").to_pylist(),
            micros(batch.column("event_time")).tolist(),
            batch.column("offset").to_pylist(),
            mix.served.tolist(),
            mix.scores(),
            mix.weights(),
            mix.degraded.tolist(),
            strict=True,
        )
        outgoing = []
        for event_id, key, time, offset, value, scores, weights, degraded in columns:
            prediction = Prediction(
                event_id,
                key,
                _EPOCH + dt.timedelta(microseconds=time),
                {field: value},
                scores,
                weights,
                Source(partition, offset),
                self._stream.feature_set,
                degraded,
                traces.get(offset),
            )
            outgoing.append(Outgoing(topic, self._encode(prediction), key.encode(), partition))
        return outgoing

    def _scored_batch(self, partition: int, batch: pa.RecordBatch, mix: Mix) -> Outgoing:
        value = self._scored.encode([*batch.columns, *mix.columns()])
        return Outgoing(self._stream.topic("scored"), value, partition=partition, headers=self._scored.headers)
