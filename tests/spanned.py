"""Spans as OTLP has them in protobuf, for a console to be sent."""

import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def spans(*ids: int, service: str = "features", event_id: str = "e1") -> bytes:
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_spans.add()
    for number in ids:
        span = scope.spans.add(
            trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"), name="process", kind=5
        )
        span.start_time_unix_nano, span.end_time_unix_nano = time.time_ns(), time.time_ns() + 2_000_000
        span.attributes.add(key="thalweg.event_id").value.string_value = event_id
    return made.SerializeToString()
