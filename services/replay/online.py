"""What was written online, read in step with a fold: rows of `features`, records of `predictions`, refused and late."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeAlias, TypeVar

import msgspec
import pyarrow as pa

from services.inference.core import Prediction
from services.runtime.dead_letters import DeadLetter, decode_dead_letter, place_name
from services.runtime.errors import Stop
from services.runtime.frames import micros, rows
from services.runtime.records import Headers, Position, Record
from services.runtime.stream import Stream
from services.runtime.transport import History

Counts: TypeAlias = dict[int, int]  # event's offset: how often it was found
_EPOCH, _MICROSECOND = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.timedelta(microseconds=1)


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event's row of `features`; `offset` is the event's, `place` that of the record that holds the row, if any."""

    offset: int
    event_id: str
    key: str
    time: int
    vector: bytes
    place: int | None = None


class Predicted(msgspec.Struct, frozen=True, gc=False):
    """One record of `predictions`; `offset` is the event's, `place` the record's own."""

    offset: int
    place: int
    key: bytes | None
    said: Prediction

    @property
    def event_id(self) -> str:
        return self.said.event_id

    @property
    def time(self) -> int:
        return (self.said.event_time - _EPOCH) // _MICROSECOND


class Layout(msgspec.Struct, frozen=True):
    """What a vector is made of."""

    feature_set: str
    columns: tuple[str, ...]


class _Placed(Protocol):
    @property
    def offset(self) -> int: ...


Item = TypeVar("Item", bound=_Placed)


class Following(Generic[Item]):
    """Hands out items in the order in which they were written, up to the event that a fold has come to."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._next = next(items, None)

    def upto(self, offset: int) -> Iterator[Item]:
        """Yield what comes next and is of this event or an earlier one."""
        while self._next is not None and self._next.offset <= offset:
            item, self._next = self._next, next(self._items, None)
            yield item

    def rest(self) -> Iterator[Item]:
        """Yield all that is left."""
        while self._next is not None:
            item, self._next = self._next, next(self._items, None)
            yield item


class OnlineRows:
    """The rows of one partition of `features`, of whichever feature set; `layout` says which, once one was read."""

    def __init__(self, batches: Iterable[list[Record]]) -> None:
        self.layout: Layout | None = None
        self.following = Following(self._read(batches))

    def _read(self, batches: Iterable[list[Record]]) -> Iterator[Row]:
        for records in batches:
            for record in records:
                batch = open_batch(record)
                self._same(record, layout(batch.schema))
                yield from rows_of(batch, record.offset)

    def _same(self, record: Record, found: Layout) -> None:
        self.layout = self.layout or found
        if found != self.layout:
            raise Stop(
                f"{name(record)}: of {found.feature_set}, records before it of {self.layout.feature_set}. A topic holds"
                " one feature set; rebuild it into a fresh prefix (thalweg replay --into)"
            )


def open_batch(record: Record) -> pa.RecordBatch:
    """Read an Arrow message, whatever its schema; Stop if it is none."""
    try:
        return pa.ipc.open_stream(record.value).read_next_batch()
    except (pa.ArrowInvalid, StopIteration) as error:
        raise Stop(f"{name(record)} is no Arrow record batch: {error}") from error


def layout(schema: pa.Schema) -> Layout:
    said = schema.metadata or {}
    return Layout(said.get(b"feature_set", b"").decode(), tuple(said.get(b"columns", b"").decode().split("\n")))


def rows_of(batch: pa.RecordBatch, place: int | None = None) -> Iterator[Row]:
    """Yield the rows of a batch of `features`."""
    yield from map(
        Row,
        batch.column("offset").to_pylist(),
        batch.column("event_id").to_pylist(),
        batch.column("key").to_pylist(),
        micros(batch.column("event_time")).tolist(),
        [vector.tobytes() for vector in rows(batch.column("features"))],
        [place] * batch.num_rows,
    )


def online_predictions(batches: Iterable[list[Record]]) -> Iterator[Predicted]:
    """Yield the predictions of a partition; Stop at a record that is none."""
    decode = msgspec.json.Decoder(Prediction).decode
    for records in batches:
        for record in records:
            try:
                said = decode(record.value)
            except msgspec.MsgspecError as error:
                raise Stop(f"{name(record)} is no prediction: {error}") from error
            yield Predicted(said.source.offset, record.offset, record.key, said)


def name(record: Record) -> str:
    return place_name(record.topic, record.partition, record.offset)


def refused(history: History, stream: Stream) -> dict[Position, Counts]:
    """Return which records of `events` and `labels` are in `dead-letter`, and how often."""
    found: dict[Position, Counts] = defaultdict(lambda: defaultdict(int))
    for records in history.read_topic(stream.topic("dead-letter")):
        for record in records:
            letter = decode_dead_letter(record)
            if isinstance(letter, DeadLetter):
                found[Position(letter.topic, letter.partition)][letter.offset] += 1
    return found


def late(history: History, stream: Stream) -> dict[int, Counts]:
    """Return, by partition, which events are on `late`, and how often."""
    found: dict[int, Counts] = defaultdict(lambda: defaultdict(int))
    for records in history.read_topic(stream.topic("late")):
        for record in records:
            partition, offset = late_source(record.headers)
            found[partition][offset] += 1
    return found


def late_source(headers: Headers | None) -> tuple[int, int]:
    """Return the partition and offset of the event that a record of `late` is a copy of."""
    said = dict(headers or []).get("thalweg-source") or b""
    partition, _, offset = (said if isinstance(said, str) else said.decode()).partition("/")
    return int(partition), int(offset)
