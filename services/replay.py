"""Drives the services' own cores from a recorded log: fold it again, and compare with what was written online."""

import hashlib
from collections.abc import Iterator

import msgspec
import pyarrow as pa

from services.features.core import FeaturesCore
from services.runtime.frames import Frame, micros, rows
from services.runtime.kafka import read_all
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import features_frame
from services.runtime.settings import Settings
from services.runtime.stream import Stream


class Comparison(msgspec.Struct, frozen=True):
    """One partition's `features` as they were written online and as they come out of the fold, each as a digest."""

    partition: int
    rows: int
    online: str
    replayed: str

    @property
    def same(self) -> bool:
        return self.online == self.replayed


class Digest:
    """Digests the rows of `features` in order; how they were cut into messages does not show in it."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._columns = [hashlib.sha256() for _ in range(4)]
        self.rows = 0

    def add(self, record: Record) -> None:
        batch: pa.RecordBatch = self._frame.decode(record)
        names = "".join(f"{name}\n" for name in batch.column("event_id").to_pylist()).encode()
        offsets, event_times = batch.column("offset").to_numpy(), micros(batch.column("event_time"))
        parts = [names, offsets.tobytes(), event_times.tobytes(), rows(batch.column("features")).tobytes()]
        for column, part in zip(self._columns, parts, strict=True):
            column.update(part)
        self.rows += batch.num_rows

    def hex(self) -> str:
        return hashlib.sha256(b"".join(column.digest() for column in self._columns)).hexdigest()[:16]


def compare_features(settings: Settings, stream: Stream) -> Iterator[Comparison]:
    """Fold all of `events` again, partition by partition, and compare with all of `features`."""
    frame = features_frame(stream)
    online = _digests(frame, read_all(settings, stream.topic("features")))
    replayed = _digests(frame, fold_features(stream, read_all(settings, stream.topic("events"))))
    for partition in sorted(online | replayed):
        was, again = (found.get(partition, Digest(frame)) for found in (online, replayed))
        yield Comparison(partition, was.rows, was.hex(), again.hex())


def fold_features(stream: Stream, batches: Iterator[list[Record]]) -> Iterator[list[Record]]:
    """Yield the records of `features` that these batches of `events` give."""
    cores: dict[int, FeaturesCore] = {}
    for batch in batches:
        for partition in sorted({record.partition for record in batch}):
            core = cores.setdefault(partition, FeaturesCore(stream, partition))
            outgoing = core.fold([record for record in batch if record.partition == partition])
            yield [_read_back(out, partition) for out in outgoing if out.topic == stream.topic("features")]


def _read_back(out: Outgoing, partition: int) -> Record:
    return Record(out.topic, partition, 0, out.key, out.value, 0, out.headers)


def _digests(frame: Frame, batches: Iterator[list[Record]]) -> dict[int, Digest]:
    digests: dict[int, Digest] = {}
    for batch in batches:
        for record in batch:
            digests.setdefault(record.partition, Digest(frame)).add(record)
    return digests
