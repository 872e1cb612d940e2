"""The sampled events of a batch of records, be these one event each, or Arrow batches of rows. Pure.

An event is known by its *place*: its partition and offset on `events`, which every batch down the line carries.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.runtime.contexts import TRACEPARENT, TRACES, Context, carried, rows_carried
from services.runtime.records import SCHEMA_HEADER, Headers, Record
from services.runtime.spans import EVENT_ID, KEY, OFFSET, OUTCOME, PARTITION, Attributes

Place: TypeAlias = int
_PARTITION_AT = 48  # bits that an offset has
_CONFLUENT_PREFIX = 5
FEW = 8  # places that are looked for one by one


class Member(msgspec.Struct, frozen=True):
    """A sampled event as a stage meets it. Without a `context` its trace begins here; a label has no `place`."""

    topic: str
    partition: int
    offset: int  # of the record
    context: Context | None
    place: Place | None
    event_id: str | None
    key: str | None

    @property
    def named(self) -> Attributes:
        """Say which event it is."""
        said = {EVENT_ID: self.event_id, KEY: self.key}
        return {name: value for name, value in said.items() if value is not None}

    @property
    def attributes(self) -> Attributes:
        """Say which event it is, and where its record stands."""
        return {PARTITION: str(self.partition), OFFSET: self.offset, **self.named}


class Rows:
    """The rows of an Arrow batch, by place."""

    def __init__(self, value: bytes, partition: int) -> None:
        self._batch = pa.ipc.open_stream(value).read_next_batch()
        of = self._batch.column("partition") if "partition" in self._batch.schema.names else None
        partitions = partition if of is None else np.asarray(of, np.int64)
        self.places: NDArray[np.int64] = (partitions << _PARTITION_AT) | np.asarray(self._batch.column("offset"))

    def __len__(self) -> int:
        return len(self.places)

    def found(self, *known: Mapping[Place, object]) -> list[int]:
        """Return the rows at places that are known, in their order."""
        return sorted({row for those in known for row in self._at(those)})

    def _at(self, known: Mapping[Place, object]) -> Iterator[int]:
        if len(known) > FEW:
            yield from (row for row, place in enumerate(self.places.tolist()) if place in known)
            return
        for place in known:
            yield from (self.places == place).nonzero()[0].tolist()

    def text(self, name: str, row: int) -> str:
        found: str = self._batch.column(name)[row].as_py()
        return found

    def said(self, row: int) -> Attributes:
        """Return what an example says of itself; nothing of other rows."""
        return {OUTCOME: self.text("outcome", row)} if "outcome" in self._batch.schema.names else {}


def members(records: Iterable[Record], events: str, name: str) -> list[Member]:
    """Return the events of these records that a trace follows already; `name` is the field of an event's id.

    `events` is the topic whose offsets are the events' places.
    """
    found: list[Member] = []
    for record in filter(attrgetter("headers"), records):
        headers = dict(record.headers or [])
        if TRACES in headers:
            found += _rows(record)
        elif TRACEPARENT in headers:
            found += _one(record, events, name)
    return found


def begun(record: Record, name: str) -> Member:
    """Return an event whose trace is to begin."""
    return _member(record, None, place(record.partition, record.offset), name)


def place(partition: int, offset: int) -> Place:
    return (partition << _PARTITION_AT) | offset


def is_batch(headers: Headers | None) -> bool:
    return any(header == SCHEMA_HEADER for header, _ in headers or ())


def _one(record: Record, events: str, name: str) -> Sequence[Member]:
    context = carried(record)
    if context is None or not context.sampled:
        return ()
    return (_member(record, context, place(record.partition, record.offset) if record.topic == events else None, name),)


def _member(record: Record, context: Context | None, where: Place | None, name: str) -> Member:
    key = None if record.key is None else record.key.decode(errors="replace")
    return Member(record.topic, record.partition, record.offset, context, where, _id(record.value, name), key)


def _rows(record: Record) -> Iterable[Member]:
    try:
        rows = Rows(record.value, record.partition)
    except (pa.ArrowInvalid, KeyError):  # the core will say what is wrong with it
        return
    for row, context in rows_carried(record).items():
        if 0 <= row < len(rows):
            place, event_id, key = int(rows.places[row]), rows.text("event_id", row), rows.text("key", row)
            yield Member(record.topic, record.partition, record.offset, context, place, event_id, key)


def _id(value: bytes, name: str) -> str | None:
    """Return the id that a JSON record gives itself, if it is one."""
    try:
        found: Any = msgspec.json.decode(value[_CONFLUENT_PREFIX:] if value[:1] == b"\0" else value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    said = found.get(name) if isinstance(found, dict) else None
    return said if isinstance(said, str) else None
