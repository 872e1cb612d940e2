"""Where the scores of a rebuilt topic come from: they are those that were recorded, or one version's for every row."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa

from services.replay.online import Following, open_batch
from services.replay.versions import Versions
from services.runtime.frames import rows
from services.runtime.models import ONLINE, Published, Registered, decode_event
from services.runtime.records import Record
from services.runtime.stream import Stream
from services.runtime.transport import History


class Score(msgspec.Struct, frozen=True, gc=False):
    """What was said of a row: by the version of the online model, and by those of the batch model, as in `scored`."""

    row: int
    version: int
    score: float
    batch: tuple[dict[str, Any], ...] = ()

    @property
    def models(self) -> tuple[Any, ...]:
        """All but what is the row's own: rows of which it is the same can be written together."""
        return self.version, *((said["version"], said["state"], said["beside"]) for said in self.batch)


class Scores(Protocol):
    """Says the scores of a batch of features; a row that has none yet is left out."""

    def __call__(self, partition: int, batch: pa.RecordBatch) -> list[Score]: ...


class OneVersion:
    """What one version of the online model says of every row, whether or not it was live then."""

    def __init__(self, versions: Versions, version: int) -> None:
        self._versions, self._version = versions, version
        versions.model(version)  # a version that can't be had is refused before anything is written

    def __call__(self, partition: int, batch: pa.RecordBatch) -> list[Score]:
        del partition
        name, columns = f"{ONLINE}@{self._version}", batch.schema.metadata[b"columns"].decode().split("\n")
        vectors = np.asarray(rows(batch.column("features"))).tolist()
        values = [dict(zip(columns, vector, strict=True)) for vector in vectors]
        return [Score(row, self._version, self._versions.score(name, value)) for row, value in enumerate(values)]


class _Scored(msgspec.Struct, frozen=True, gc=False):
    offset: int
    version: int
    score: float
    batch: list[dict[str, Any]]


class Recorded:
    """What was said at the time, from `scored`, whichever feature set it was said with."""

    def __init__(self, stream: Stream, history: History) -> None:
        self._of = {
            position.partition: Following(_scored(history.read(position)))
            for position in history.positions(stream.topic("scored"))
        }

    def __call__(self, partition: int, batch: pa.RecordBatch) -> list[Score]:
        following, found = self._of[partition], []
        for row, offset in enumerate(batch.column("offset").to_pylist()):
            said = [scored for scored in following.upto(offset) if scored.offset == offset]
            found += [Score(row, scored.version, scored.score, tuple(scored.batch)) for scored in said[:1]]
        return found


def _scored(batches: Iterable[list[Record]]) -> Iterator[_Scored]:
    for records in batches:
        for record in records:
            batch = open_batch(record)
            online = batch.column("online")
            columns = (batch.column("offset"), online.field("version"), online.field("score"), batch.column("batch"))
            yield from map(_Scored, *(column.to_pylist() for column in columns))


def trained_on(history: History, stream: Stream) -> set[str]:
    """Return the feature sets of the models on `models`."""
    records = (record for batch in history.read_topic(stream.topic("models")) for record in batch)
    events = (decode_event(record.value) for record in records)
    return {event.feature_set for event in events if isinstance(event, Published | Registered)}
