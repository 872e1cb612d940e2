"""What travels between the log and a core: a record that was read, and one that is to be written."""

from typing import TypeAlias

import msgspec

SCHEMA_HEADER = "thalweg-schema"
_CONFLUENT_PREFIX = 5  # a zero byte and four bytes of schema id
Headers: TypeAlias = list[tuple[str, str | bytes | None]]  # as Kafka's clients type them; ours are bytes


class Position(msgspec.Struct, frozen=True, order=True):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as read. `timestamp` is the broker's, in milliseconds since 1970; `offset` counts within `position`."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    timestamp: int = 0
    headers: Headers | None = None

    @property
    def position(self) -> Position:
        return Position(self.topic, self.partition)


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A record to write. Without a `partition` the key chooses it (murmur2, as Kafka's own clients do)."""

    topic: str
    value: bytes
    key: bytes | None = None
    partition: int | None = None
    headers: Headers | None = None


def bare(value: bytes) -> bytes:
    """Return a record without the prefix that a client of Confluent's schema registry puts before it."""
    return value[_CONFLUENT_PREFIX:] if value[:1] == b"\0" else value
