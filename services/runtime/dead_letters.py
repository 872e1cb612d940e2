"""A record that can't be used: where it came from, its original bytes, and why; and how it is sent through again.

`<stream>.dead-letter` holds two kinds of records under the same key, the place of the original: that it was refused,
and that it was replayed. Both come to be in one transaction with what they tell of, so neither is ever said twice.
"""

import base64
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from services.runtime.codec import Decoded
from services.runtime.errors import Reject, Stop
from services.runtime.records import Headers, Outgoing, Record
from services.runtime.treatments import Shield

REPLAYED_HEADER = "thalweg-replayed"  # on a record that was sent through again: the place of its original

REASONS = ("json", "schema", "size", "key", "clock", "duplicate")  # why a record may be refused
CARRIED = 8 << 20  # bytes of a record that a letter carries; in base64 they fit into `stream.LARGEST_MESSAGE`


class DeadLetter(msgspec.Struct, frozen=True):
    """A record was refused. `key` and `value` are the original bytes, base64.

    Of a record that is larger than `CARRIED` (a client may have sent it compressed) both are None, as is the value of
    one that can't be read where fields are marked `pii`: it stands where the letter says. Raw values
    of these are masked.
    """

    service: str
    reason: str
    message: str
    topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None

    @property
    def place(self) -> str:
        return place_name(self.topic, self.partition, self.offset)

    def original(self) -> tuple[bytes | None, bytes]:
        """Return the key and the value that were refused; Stop if the letter does not carry them."""
        if self.value is None:
            raise Stop(f"the record is not in its letter; it stands at {self.place}, as long as that is kept")
        key = None if self.key is None else base64.b64decode(self.key)
        return key, base64.b64decode(self.value)


class Replayed(msgspec.Struct, frozen=True, tag_field="event", tag="replayed"):
    """The dead letter of this place was sent through again; it never is a second time."""

    topic: str
    partition: int
    offset: int

    @property
    def place(self) -> str:
        return place_name(self.topic, self.partition, self.offset)


class _Named(msgspec.Struct, frozen=True):
    """What tells the two kinds apart."""

    event: str | None = None


OnDeadLetter: TypeAlias = DeadLetter | Replayed


def place_name(topic: str, partition: int, offset: int) -> str:
    return f"{topic}/{partition}/{offset}"


def decode_dead_letter(record: Record) -> OnDeadLetter:
    """Read a record of `dead-letter`; Stop if it is neither kind."""
    try:
        named = msgspec.json.decode(record.value, type=_Named)
        kind: type[OnDeadLetter] = Replayed if named.event else DeadLetter
        return msgspec.json.decode(record.value, type=kind)
    except msgspec.MsgspecError as error:
        place = place_name(record.topic, record.partition, record.offset)
        raise Stop(f"{place} is no dead letter, and no service of this version wrote it: {error}") from error


def replay_letter(topic: str, letter: DeadLetter, key: bytes | None = None) -> list[Outgoing]:
    """Return the original record and the one for the dead-letter `topic` that says so: for one transaction.

    The record goes to the partition that it came from, where its key's story is. With a `key` other than its own it
    goes under that one, to the partition that is that key's.
    """
    original, value = letter.original()
    partition = letter.partition if key is None else None
    headers: Headers = [(REPLAYED_HEADER, letter.place.encode())]
    said = msgspec.json.encode(Replayed(letter.topic, letter.partition, letter.offset))
    return [
        Outgoing(letter.topic, value, original if key is None else key, partition, headers),
        Outgoing(topic, said, letter.place.encode(), 0),
    ]


def dead_letter(topic: str, service: str, record: Record, reject: Reject, shield: Shield | None = None) -> Outgoing:
    """Make the record for `topic`, keyed by where the original stands, so that its place is its identity.

    A `shield` takes out what says who somebody is.
    """
    key = shield.key(record.key) if shield else record.key
    value = shield.value(record.value) if shield else record.value
    said = shield.reject(reject) if shield else reject
    carried = len(key or b"") + len(value or b"") <= CARRIED
    letter = DeadLetter(
        service,
        said.reason,
        str(said),
        record.topic,
        record.partition,
        record.offset,
        _base64(key) if carried else None,
        _base64(value) if carried else None,
    )
    return Outgoing(topic, msgspec.json.encode(letter), key=letter.place.encode(), partition=0)


def _base64(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def wrong_keys(field: str, decoded: Decoded, records: Sequence[Record]) -> dict[int, Reject]:
    """Return, by place, which records' Kafka keys are not their key field's text: partitions would mix keys."""
    found = [records[place].key for place in decoded.places]
    if _same(found, decoded.column(field)):
        return {}
    expected = [str(value).encode() for value in decoded.column(field)]
    pairs = zip(decoded.places, found, expected, strict=True)
    return {place: _wrong_key(field, was, right) for place, was, right in pairs if was != right}


def _same(found: Sequence[bytes | None], expected: Sequence[object]) -> bool:
    """Compare all at once, as parts without a line break can be; False may mean that these can't."""
    try:
        joined = b"\n".join(found)  # type: ignore[arg-type]  # a missing key is why there is an except
        return joined == "\n".join(expected).encode() and joined.count(b"\n") == len(found) - 1  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError):
        return False


def _wrong_key(field: str, found: bytes | None, expected: bytes) -> Reject:
    shown = None if found is None else found.decode(errors="replace")
    return Reject("key", f"Expected the record's key to be {field}, {expected.decode()!r}, got {shown!r}")
