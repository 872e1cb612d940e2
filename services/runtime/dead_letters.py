"""A record that can't be used: where it came from, its original bytes, and why."""

import base64

import msgspec

from services.runtime.errors import Reject
from services.runtime.records import Outgoing, Record


class DeadLetter(msgspec.Struct, frozen=True):
    """What stands on `<stream>.dead-letter`. `key` and `value` are the original bytes, base64."""

    service: str
    reason: str
    message: str
    topic: str
    partition: int
    offset: int
    key: str | None
    value: str


def dead_letter(topic: str, service: str, record: Record, reject: Reject) -> Outgoing:
    """Make the record for `topic`, keyed by where the original stands, so that its place is its identity."""
    key = None if record.key is None else base64.b64encode(record.key).decode()
    letter = DeadLetter(
        service,
        reject.reason,
        str(reject),
        record.topic,
        record.partition,
        record.offset,
        key,
        base64.b64encode(record.value).decode(),
    )
    place = f"{record.topic}/{record.partition}/{record.offset}"
    return Outgoing(topic, msgspec.json.encode(letter), key=place.encode(), partition=0)


def key_reject(found: bytes | None, field: str, expected: object) -> Reject | None:
    """Return why a record's Kafka key is wrong, or None: it must be the key field's text, or partitions would mix."""
    if found == str(expected).encode():
        return None
    shown = None if found is None else found.decode(errors="replace")
    return Reject("key", f"Expected the record's key to be {field}, {str(expected)!r}, got {shown!r}")
