"""A record that can't be used: where it came from, its original bytes, and why."""

import base64
from collections.abc import Sequence

import msgspec

from services.runtime.codec import Decoded
from services.runtime.errors import Reject
from services.runtime.records import Outgoing, Record

CARRIED = 8 << 20  # bytes of a record that a letter carries; in base64 they fit into `stream.LARGEST_MESSAGE`


class DeadLetter(msgspec.Struct, frozen=True):
    """What stands on `<stream>.dead-letter`. `key` and `value` are the original bytes, base64.

    Of a record that is larger than `CARRIED` (a client may have sent it compressed) both are None: it stands where the
    letter says.
    """

    service: str
    reason: str
    message: str
    topic: str
    partition: int
    offset: int
    key: str | None
    value: str | None


def dead_letter(topic: str, service: str, record: Record, reject: Reject) -> Outgoing:
    """Make the record for `topic`, keyed by where the original stands, so that its place is its identity."""
    carried = len(record.key or b"") + len(record.value) <= CARRIED
    letter = DeadLetter(
        service,
        reject.reason,
        str(reject),
        record.topic,
        record.partition,
        record.offset,
        _base64(record.key) if carried else None,
        _base64(record.value) if carried else None,
    )
    place = f"{record.topic}/{record.partition}/{record.offset}"
    return Outgoing(topic, msgspec.json.encode(letter), key=place.encode(), partition=0)


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
