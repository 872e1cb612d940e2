"""Which lines of a request are good, and what they become on the log. Pure."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import msgspec

from services.ingestion.treating import Treating
from services.runtime.codec import JsonCodec
from services.runtime.records import Outgoing
from services.runtime.stream import Stream

Kind: TypeAlias = Literal["events", "labels"]
Lines: TypeAlias = Mapping[int, bytes]  # records by the number of their line, from 1
JSON, NDJSON = MEDIA = ("application/json", "application/x-ndjson")


class Rejected(msgspec.Struct, frozen=True):
    """A line that was refused; `line` counts all of the body's from 1, `reason` is a word of the codec's."""

    line: int
    reason: str
    message: str


class Judgement(msgspec.Struct, frozen=True):
    """What became of a request's lines: records for the log, in their order, and refusals."""

    accepted: list[Outgoing]
    rejected: list[Rejected]


class IngestionCore:
    """Judges lines against the stream's schemas; a good one goes to the log as the bytes that it came in.

    Where fields are marked `pii`, `treating` says what goes in their place; `waits` if it may have to wait for a disk,
    and `asked` what the key of a prediction is that somebody asks for.
    """

    def __init__(
        self,
        stream: Stream,
        treating: Mapping[Kind, Treating] | None = None,
        asked: Callable[[str], str] = str,
        *,
        waits: bool = False,
    ) -> None:
        self._stream, self._treating, self.asked, self.waits = stream, treating or {}, asked, waits
        schemas = {"events": stream.sent("event"), "labels": stream.sent("label")}
        self._codecs = {kind: JsonCodec(kind[:-1], schema) for kind, schema in schemas.items()}

    def judge(self, kind: Kind, lines: Lines) -> Judgement:
        numbers, values = list(lines), list(lines.values())
        decoded = self._codecs[kind].decode(values)
        topic = self._stream.topic(kind)
        treating = self._treating.get(kind)
        if treating is None:
            keys, good = decoded.column(self._stream.key), [values[place] for place in decoded.places]
        else:
            keys, good = treating.treated(self._stream.key, values, decoded)
        accepted = [Outgoing(topic, value, str(key).encode()) for value, key in zip(good, keys, strict=True)]
        rejected = [Rejected(numbers[at], why.reason, str(why)) for at, why in sorted(decoded.rejects.items())]
        return Judgement(accepted, rejected)


def split(body: bytes, media: str) -> Lines:
    """Return the records of a body: the whole of it if it is JSON, its lines if it is NDJSON; blank ones are none."""
    if media == JSON:
        return {1: body}
    return {number: line for number, line in enumerate(body.split(b"\n"), 1) if line.strip()}


def count(body: bytes, media: str) -> int:
    """Return how many lines it has, before they are cut: a few bytes each may be millions."""
    return 1 if media == JSON else body.count(b"\n", 0, max(0, len(body) - 1)) + 1
