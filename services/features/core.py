"""Events become feature vectors: validate, fold, hand on. Pure; everything that it knows came from the log."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.features.engine import Engine
from services.features.times import plain_times
from services.runtime.admission import Admission
from services.runtime.codec import Decoded
from services.runtime.frames import matrix, times
from services.runtime.produced import produced
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream

SERVICE = "features"


class FeaturesCore:
    """Folds one partition of `events`. Every good record yields one row of `features`, late or not."""

    def __init__(self, stream: Stream, partition: int) -> None:
        self._stream = stream
        self._partition = partition
        self._admission = Admission(stream, SERVICE, "event", plain_times)
        self._frame = features_frame(stream)
        self._engine = Engine(stream)

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        events, outgoing = self._admission.read(records)
        if events.rows:
            vectors, late = self._engine.fold(events.column, events.times[self._stream.pipeline.stream.time])
            outgoing.append(self._features(events, [records[place] for place in events.places], vectors))
            outgoing += [self._late(records[events.places[row]]) for row in np.flatnonzero(late)]
        return outgoing

    @property
    def newest(self) -> int | None:
        """The newest event's time, in microseconds since 1970; None before the first."""
        return self._engine.newest

    def warm_up(self) -> None:
        """Compile the kernels, or load them from their cache, before the first event waits for them."""
        plain_times([])
        self._engine.fold(lambda _: [], np.zeros(0, np.int64))

    def _features(self, events: Decoded, records: list[Record], vectors: NDArray[np.float32]) -> Outgoing:
        rule = self._stream.pipeline.stream
        columns = [
            pa.array(events.column(rule.id), pa.string()),
            pa.array(events.column(rule.key), pa.string()),
            times(events.times[rule.time]),
            pa.array(np.array([record.offset for record in records], np.int64)),
            matrix(vectors),
        ]
        value = self._frame.encode(columns)
        headers = [*self._frame.headers, produced(records)]
        return Outgoing(self._stream.topic("features"), value, partition=self._partition, headers=headers)

    def _late(self, record: Record) -> Outgoing:
        place = f"{record.partition}/{record.offset}".encode()
        value = self._admission.shield.value(record.value) or b""
        return Outgoing(self._stream.topic("late"), value, record.key, 0, [("thalweg-source", place)])

    def snapshot(self) -> bytes:
        held = {"engine": self._engine.state(), "ids": self._admission.state()}
        return msgspec.msgpack.encode(held, enc_hook=_array_out)

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state)
        for group in held["engine"]["groups"]:
            group |= {kind: [_array_in(array) for array in arrays] for kind, arrays in group.items()}
        self._engine.load(held["engine"])
        self._admission.load(held["ids"])


def _array_out(array: Any) -> list[Any]:  # noqa: ANN401 - msgspec's hook takes anything
    if not isinstance(array, np.ndarray):
        raise NotImplementedError(type(array))
    return [array.dtype.str, list(array.shape), array.nbytes, pa.compress(array, codec="lz4", asbytes=True)]


def _array_in(parts: list[Any]) -> NDArray[Any]:
    """Unpack an array; it is writable. Most panes of most rows are empty, so they're packed a twentieth as large."""
    kind, shape, size, packed = parts
    return np.frombuffer(pa.decompress(packed, size, codec="lz4"), kind).reshape(shape)
