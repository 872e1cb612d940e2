"""Which lines of a request are good, and what they become on the log. Pure."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from services.runtime.codec import JsonCodec
from services.runtime.records import Outgoing
from services.runtime.stream import Stream

Kind: TypeAlias = Literal["events", "labels"]


class Rejected(msgspec.Struct, frozen=True):
    """A line that was refused; `line` counts those that are not blank from 1, `reason` is one of `json`, `schema`."""

    line: int
    reason: str
    message: str


class Judgement(msgspec.Struct, frozen=True):
    """What became of a request's lines: records for the log, in their order, and refusals."""

    accepted: list[Outgoing]
    rejected: list[Rejected]


class IngestionCore:
    """Judges lines against the stream's schemas; a good one goes to the log as the bytes that it came in."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._codecs = {"events": JsonCodec("event", stream.event), "labels": JsonCodec("label", stream.label)}

    def judge(self, kind: Kind, lines: Sequence[bytes]) -> Judgement:
        decoded = self._codecs[kind].decode(lines)
        topic = self._stream.topic(kind)
        keys = decoded.column(self._stream.key)
        accepted = [
            Outgoing(topic, lines[place], str(key).encode()) for place, key in zip(decoded.places, keys, strict=True)
        ]
        rejected = [Rejected(at + 1, why.reason, str(why)) for at, why in sorted(decoded.rejects.items())]
        return Judgement(accepted, rejected)


def split(body: bytes, content_type: str) -> list[bytes]:
    """Return the records of a body: the whole of it if it is `application/json`, otherwise its lines (NDJSON)."""
    if content_type.partition(";")[0].strip().lower() == "application/json":
        return [body]
    return [line for line in body.split(b"\n") if line.strip()]
