"""Which records and rows are of the key that is to be forgotten, and what is left of a record without them. Pure."""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from services.runtime.dead_letters import DeadLetter
from services.runtime.frames import Frame
from services.runtime.records import Record, bare
from services.runtime.stream import Stream
from services.runtime.treatments import TOKEN, stands

KEYED = ("events", "labels", "late", "predictions")  # JSON under the stream's key: a record goes whole
BATCHES = ("features", "scored", "examples")  # Arrow: its rows go, the batch stays where it is
LETTERS = ("dead-letter",)
KINDS = (*KEYED, *BATCHES, *LETTERS)  # all topics that hold keys or ids; what others hold was counted or learned


class Person(msgspec.Struct):
    """Whom to forget: a key as it is on the log, and the ids and tokens that were seen with it."""

    key: str
    ids: set[str] = msgspec.field(default_factory=set)
    tokens: set[str] = msgspec.field(default_factory=set)
    others: set[str] = msgspec.field(default_factory=set)  # tokens that others have as well

    @property
    def needles(self) -> set[bytes]:
        """What is looked for in bytes."""
        return {word.encode() for word in {self.key, *self.ids}}

    def meet(self, stream: Stream, record: Record) -> None:
        """Note what an event, or a label, says of it."""
        fields = _fields(record.value)
        tokens = {value for value in fields.values() if stands(value) and str(value).startswith(TOKEN)}
        if not self._has(stream, record, fields):
            self.others |= tokens
            return
        self.tokens |= tokens
        if isinstance(name := fields.get(stream.pipeline.stream.id), str):
            self.ids.add(name)

    def without(self, stream: Stream, kind: str, record: Record) -> Record | None:
        """Return the record as it may stay: itself, another value, or None if nothing of it may."""
        if kind in BATCHES:
            return self._rows_left(record)
        if kind in LETTERS:
            return None if self._in_letter(stream, record) else record
        maybe = record.key == self.key.encode() or self.key.encode() in record.value
        return None if maybe and self._has(stream, record, _fields(record.value)) else record

    def _has(self, stream: Stream, record: Record, fields: Mapping[str, Any]) -> bool:
        return record.key == self.key.encode() or self.key in (fields.get(stream.key), fields.get("key"))

    def _rows_left(self, record: Record) -> Record:
        if self.key.encode() not in record.value:
            return record
        batch = pa.ipc.open_stream(record.value).read_next_batch()
        kept = batch.filter(pc.not_equal(batch.column("key"), self.key))
        if kept.num_rows == batch.num_rows:
            return record
        return msgspec.structs.replace(record, value=Frame(batch.schema).encode(kept.columns))

    def _in_letter(self, stream: Stream, record: Record) -> bool:
        try:
            letter = msgspec.json.decode(record.value, type=DeadLetter)
        except msgspec.DecodeError:  # it says that one was sent through again, or is no letter at all
            return any(needle in record.value for needle in self.needles)
        value = base64.b64decode(letter.value or "")
        fields, original = _fields(value), (None if letter.key is None else base64.b64decode(letter.key))
        quoted = any(repr(name) in letter.message for name in {self.key, *self.ids})
        if quoted or self._has(stream, msgspec.structs.replace(record, key=original), fields):
            return True
        return fields.get(stream.pipeline.stream.id) in self.ids if fields else self.key.encode() in value


def _fields(value: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(bare(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
