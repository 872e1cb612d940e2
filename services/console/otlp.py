"""Spans as OpenTelemetry sends them over HTTP, protobuf or JSON, read into ours: the same spans give the same ones."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from services.console.otlp_json import read_json
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
from services.console.span import Span

PROTOBUF, JSON = MEDIA = ("application/x-protobuf", "application/json")


class Batch(NamedTuple):
    """The good spans of a body, and how many were not."""

    spans: list[Span]
    rejected: int


def decode(media: str, body: bytes) -> Batch:
    """Read a body; Malformed if it is no such message. A span without good ids or times costs nobody but itself."""
    return _gather(_protobuf(body) if media == PROTOBUF else read_json(body))


def answer(media: str, rejected: int) -> bytes:
    """Return the body of the answer to a sender of this type."""
    why = "ids are 16 and 8 bytes that are not all zero, times nanoseconds since 1970"
    if media == PROTOBUF:
        some = ExportTracePartialSuccess(rejected_spans=rejected, error_message=why) if rejected else None
        said: bytes = ExportTraceServiceResponse(partial_success=some).SerializeToString()
        return said
    return msgspec.json.encode(
        {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": why}} if rejected else {}
    )


def _gather(made: Iterable[Callable[[], Span]]) -> Batch:
    spans, rejected = [], 0
    for make in made:
        try:
            spans.append(make())
        except ValueError:
            rejected += 1
    return Batch(spans, rejected)


def _protobuf(body: bytes) -> Iterator[Callable[[], Span]]:
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except (DecodeError, ValueError) as error:
        raise Malformed(str(error)) from None
    for resource in request.resource_spans:
        service = service_of(_read(resource.resource.attributes))
        for scope in resource.scope_spans:
            for found in scope.spans:
                yield partial(_span, service, found)


def _span(service: str, found: Any) -> Span:  # noqa: ANN401 - a message
    return Span(
        read_id(found.trace_id, 16),
        read_id(found.span_id, 8),
        read_id(found.parent_span_id, 8) if found.parent_span_id else None,
        cut(found.name),
        service,
        kind(found.kind),
        read_time(found.start_time_unix_nano),
        read_time(found.end_time_unix_nano),
        status(found.status.code),
        cut(found.status.message),
        _read(found.attributes),
        [
            {"name": cut(one.name), "time_ns": read_time(one.time_unix_nano), "attributes": _read(one.attributes)}
            for one in found.events[:EVENTS]
        ],
        [
            {
                "trace_id": read_id(one.trace_id, 16),
                "span_id": read_id(one.span_id, 8),
                "attributes": _read(one.attributes),
            }
            for one in found.links[:LINKS]
        ],
    )


def _read(pairs: Iterable[KeyValue], deep: int = 0) -> Attributes:
    return {cut(pair.key): _value(pair.value, deep) for pair, _ in zip(pairs, range(ATTRIBUTES), strict=False)}


def _value(found: AnyValue, deep: int) -> Any:  # noqa: ANN401, PLR0911 - of any type
    match found.WhichOneof("value"):
        case "string_value":
            return cut(found.string_value)
        case "int_value":
            return found.int_value
        case "bool_value":
            return found.bool_value
        case "double_value":
            return read_number(found.double_value)
        case "bytes_value":
            return read_base64(found.bytes_value)
        case "array_value" if deep < DEEP:
            return [_value(one, deep + 1) for one in found.array_value.values[:ATTRIBUTES]]
        case "kvlist_value" if deep < DEEP:
            return _read(found.kvlist_value.values, deep + 1)
        case _:
            return None
