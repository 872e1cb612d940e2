"""Trace contexts as they travel: W3C Trace Context in the headers of HTTP, Kafka and gRPC. Pure.

A record of one event carries `traceparent`, and `tracestate` where its caller has one; an Arrow batch `thalweg-traces`:
by row, in msgpack, both of each sampled row. All are absent where nothing is sampled, so that nothing is paid for it. A
header that can't be read is none.
"""

import re
from collections.abc import Mapping
from typing import Self

import msgspec

from services.runtime.records import Outgoing, Record

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
TRACES = "thalweg-traces"
SAMPLED = 1  # the flag
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_\-*/@]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MEMBERS, _LONGEST = 32, 512  # of a `tracestate`: its members and characters
_ROWS = msgspec.msgpack.Decoder(dict[int, str])


class Context(msgspec.Struct, frozen=True, gc=False):
    """Where in which trace something belongs: under this span. Ids are lower-case hexadecimal, and not all zeros."""

    trace_id: str  # 32 digits
    span_id: str  # 16 digits
    sampled: bool = True
    state: str = ""  # the caller's `tracestate`, which is its own and handed on as it is

    @classmethod
    def parse(cls, text: str | bytes | None, state: str | bytes | None = None) -> Self | None:
        """Read a `traceparent`; None if there is none, or if the standard calls it invalid.

        `state` is the `tracestate` beside it, which is read of what is sampled.
        """
        found = _FORM.fullmatch(_ascii(text))
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == "ff" or (version == "00" and more) or not (int(trace_id, 16) and int(span_id, 16)):
            return None
        sampled = bool(int(flags, 16) & SAMPLED)
        return cls(trace_id, span_id, sampled, _state(_ascii(state)) if sampled else "")

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def carried(record: Record) -> Context | None:
    """Return the context of a record that is of one event."""
    headers = dict(record.headers or [])
    found = headers.get(TRACEPARENT)
    return None if found is None else Context.parse(found, headers.get(TRACESTATE))


def rows_carried(record: Record) -> dict[int, Context]:
    """Return the contexts of a batch's sampled rows, by row."""
    found = dict(record.headers or []).get(TRACES)
    if not isinstance(found, bytes):
        return {}
    try:
        rows = _ROWS.decode(found)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    contexts = {row: Context.parse(*text.split(" ", 1)) for row, text in rows.items()}
    return {row: context for row, context in contexts.items() if context is not None and context.sampled}


def with_context(out: Outgoing, context: Context) -> Outgoing:
    """Return the record with this context in its headers."""
    state = [(TRACESTATE, context.state.encode())] if context.state else []
    return msgspec.structs.replace(out, headers=[*(out.headers or []), (TRACEPARENT, str(context).encode()), *state])


def with_rows(out: Outgoing, rows: Mapping[int, Context]) -> Outgoing:
    """Return the batch with these contexts of its rows in its headers; as it is if there are none."""
    if not rows:
        return out
    packed = msgspec.msgpack.encode({row: f"{context} {context.state}".rstrip() for row, context in rows.items()})
    return msgspec.structs.replace(out, headers=[*(out.headers or []), (TRACES, packed)])


def _ascii(text: str | bytes | None) -> str:
    """Return the text of a header; of one that is none, none."""
    return text.decode("ascii", "replace") if isinstance(text, bytes) else text or ""


def _state(text: str) -> str:
    """Return a `tracestate` as it is to be handed on: nothing if it is malformed, or larger than has to be taken."""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {one[1] for one in found if one is not None}
    joined = ",".join(members)
    return joined if len(keys) == len(members) <= _MEMBERS and len(joined) <= _LONGEST else ""
