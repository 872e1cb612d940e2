"""A span as it is kept and shown: names and numbers, whatever encoding it came in."""

from typing import Any, Literal, TypeAlias

import msgspec

Kind: TypeAlias = Literal["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
Status: TypeAlias = Literal["UNSET", "OK", "ERROR"]
KINDS: tuple[Kind, ...] = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES: tuple[Status, ...] = ("UNSET", "OK", "ERROR")


class Span(msgspec.Struct, frozen=True):
    """Ids are lower-case hex, times nanoseconds since 1970. `parent_id` is None at the root of a trace.

    `events` have "name", "time_ns" and "attributes", `links` "trace_id", "span_id" and "attributes".
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    kind: Kind
    start_ns: int
    end_ns: int
    status: Status = "UNSET"
    message: str = ""  # of an error
    attributes: dict[str, Any] = {}
    events: list[dict[str, Any]] = []
    links: list[dict[str, Any]] = []
