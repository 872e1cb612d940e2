"""OTLP as JSON, by the specification's own mapping: ids are hex, enums numbers, 64-bit numbers may be texts."""

import base64
import binascii
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from services.console.otlp_values import (
    ATTRIBUTES,
    DEEP,
    EVENTS,
    LINKS,
    Attributes,
    Malformed,
    cut,
    kind,
    read_base64,
    read_id,
    read_number,
    read_time,
    service_of,
    status,
)
from services.console.span import KINDS, STATUSES, Span


class _Array(msgspec.Struct):
    values: list["_Any"] = []


class _List(msgspec.Struct):
    values: list["_Pair"] = []


class _Any(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: _Array | None = None
    kvlist_value: _List | None = None
    bytes_value: str | None = None


class _Pair(msgspec.Struct):
    key: str = ""
    value: _Any = msgspec.field(default_factory=_Any)


class _Event(msgspec.Struct, rename="camel"):
    time_unix_nano: int | str = 0
    name: str = ""
    attributes: list[_Pair] = []


class _Link(msgspec.Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    attributes: list[_Pair] = []


class _Status(msgspec.Struct):
    code: int | str = 0
    message: str = ""


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: int | str = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[_Pair] = []
    events: list[_Event] = []
    links: list[_Link] = []
    status: _Status = msgspec.field(default_factory=_Status)


class _Scope(msgspec.Struct):
    spans: list[_Span] = []


class _Resource(msgspec.Struct):
    attributes: list[_Pair] = []


class _Resources(msgspec.Struct, rename="camel"):
    scope_spans: list[_Scope] = []
    resource: _Resource = msgspec.field(default_factory=_Resource)


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_Resources] = []


_request = msgspec.json.Decoder(_Request)


def read_json(body: bytes) -> Iterator[Callable[[], Span]]:
    try:
        request = _request.decode(body)
        services = [service_of(_read(found.resource.attributes)) for found in request.resource_spans]
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        raise Malformed(str(error)) from None
    for service, resource in zip(services, request.resource_spans, strict=True):
        for scope in resource.scope_spans:
            for found in scope.spans:
                yield partial(_span, service, found)


def _span(service: str, found: _Span) -> Span:
    return Span(
        read_id(bytes.fromhex(found.trace_id), 16),
        read_id(bytes.fromhex(found.span_id), 8),
        read_id(bytes.fromhex(found.parent_span_id), 8) if found.parent_span_id else None,
        cut(found.name),
        service,
        kind(_enum(found.kind, "SPAN_KIND_", KINDS)),
        read_time(int(found.start_time_unix_nano)),
        read_time(int(found.end_time_unix_nano)),
        status(_enum(found.status.code, "STATUS_CODE_", STATUSES)),
        cut(found.status.message),
        _read(found.attributes),
        [
            {
                "name": cut(one.name),
                "time_ns": read_time(int(one.time_unix_nano)),
                "attributes": _read(one.attributes),
            }
            for one in found.events[:EVENTS]
        ],
        [
            {
                "trace_id": read_id(bytes.fromhex(one.trace_id), 16),
                "span_id": read_id(bytes.fromhex(one.span_id), 8),
                "attributes": _read(one.attributes),
            }
            for one in found.links[:LINKS]
        ],
    )


def _enum(found: int | str, prefix: str, names: tuple[str, ...]) -> int:
    """Return its number; some senders write its name."""
    if isinstance(found, int):
        return found
    name = found.removeprefix(prefix)
    return names.index(name) if name in names else 0


def _read(pairs: list[_Pair], deep: int = 0) -> Attributes:
    return {cut(pair.key): _value(pair.value, deep) for pair in pairs[:ATTRIBUTES]}


def _value(found: _Any, deep: int) -> Any:  # noqa: ANN401, PLR0911 - of any type
    if found.string_value is not None:
        return cut(found.string_value)
    if found.int_value is not None:
        return int(found.int_value)
    if found.bool_value is not None:
        return found.bool_value
    if found.double_value is not None:
        return read_number(float(found.double_value))
    if found.bytes_value is not None:
        return _base64(found.bytes_value)
    if found.array_value is not None and deep < DEEP:
        return [_value(one, deep + 1) for one in found.array_value.values[:ATTRIBUTES]]
    if found.kvlist_value is not None and deep < DEEP:
        return _read(found.kvlist_value.values, deep + 1)
    return None


def _base64(found: str) -> str:
    try:
        return read_base64(base64.b64decode(found, validate=True))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
