"""Trace contexts as they travel: W3C Trace Context in the headers of HTTP, Kafka and gRPC. Pure.

A record of one event carries `traceparent`, an Arrow batch `thalweg-traces`: by row, in msgpack, those of the sampled
rows. Both are absent where nothing is sampled, so that nothing is paid for it. A header that can't be read is none.
"""

import re
from collections.abc import Mapping
from typing import Self

import msgspec

from services.runtime.records import Outgoing, Record

TRACEPARENT = "traceparent"
TRACES = "thalweg-traces"
SAMPLED = 1  # the flag
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ROWS = msgspec.msgpack.Decoder(dict[int, str])


class Context(msgspec.Struct, frozen=True, gc=False):
    """Where in which trace something belongs: under this span. Ids are lower-case hexadecimal, and not all zeros."""

    trace_id: str  # 32 digits
    span_id: str  # 16 digits
    sampled: bool = True

    @classmethod
    def parse(cls, text: str | bytes | None) -> Self | None:
        """Read a `traceparent`; None if there is none, or if the standard calls it invalid."""
        try:
            found = _FORM.fullmatch(text.decode("ascii") if isinstance(text, bytes) else text or "")
        except UnicodeDecodeError:
            return None
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == "ff" or (version == "00" and more) or not (int(trace_id, 16) and int(span_id, 16)):
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & SAMPLED))

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def carried(record: Record) -> Context | None:
    """Return the context of a record that is of one event."""
    found = dict(record.headers or []).get(TRACEPARENT)
    return None if found is None else Context.parse(found)


def rows_carried(record: Record) -> dict[int, Context]:
    """Return the contexts of a batch's sampled rows, by row."""
    found = dict(record.headers or []).get(TRACES)
    if not isinstance(found, bytes):
        return {}
    try:
        rows = _ROWS.decode(found)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    contexts = {row: Context.parse(text) for row, text in rows.items()}
    return {row: context for row, context in contexts.items() if context is not None and context.sampled}


def with_context(out: Outgoing, context: Context) -> Outgoing:
    """Return the record with this context in its headers."""
    return msgspec.structs.replace(out, headers=[*(out.headers or []), (TRACEPARENT, str(context).encode())])


def with_rows(out: Outgoing, rows: Mapping[int, Context]) -> Outgoing:
    """Return the batch with these contexts of its rows in its headers; as it is if there are none."""
    if not rows:
        return out
    packed = msgspec.msgpack.encode({row: str(context) for row, context in rows.items()})
    return msgspec.structs.replace(out, headers=[*(out.headers or []), (TRACES, packed)])
