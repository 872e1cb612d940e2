"""The console as a process on a real broker: the spans that it is sent."""

import gzip
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.consoles import Running, until
from tests.spanned import PROTOBUF, spans


def test_spans_come_in_either_encoding_and_out_again(console: Running, program: httpx.Client) -> None:
    """Protobuf, gzip and JSON (as Triton posts it) are taken without a token, and are in their trace a moment later."""
    url = f"{console.url}/v1/traces"
    answer = httpx.post(url, content=gzip.compress(spans(11)), headers=PROTOBUF | {"Content-Encoding": "gzip"})
    assert answer.headers["content-type"] == PROTOBUF["Content-Type"]
    assert not ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans
    ids = {"traceId": f"{11:032x}", "spanId": f"{12:016x}", "parentSpanId": f"{11:016x}"}
    span = ids | {"name": "InferRequest", "kind": 1, "startTimeUnixNano": "5", "endTimeUnixNano": "9"}
    triton = {
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "triton"}}]},
        "scopeSpans": [{"spans": [span]}],
    }
    assert httpx.post(url, json={"resourceSpans": [triton]}).json() == {}
    found = until(lambda: _two(program.get(f"/api/traces/{11:032x}").json().get("spans", [])))
    assert {span["service"] for span in found} == {"features", "triton"}
    assert found[0]["parent_id"] == f"{11:016x}"
    listed = program.get("/api/traces", params={"service": "triton"}).json()["traces"]
    assert listed[0]["trace_id"] == f"{11:032x}"
    assert program.get("/api/traces", params={"limit": "many"}).status_code == 400
    assert program.get(f"/api/traces/{99:032x}").status_code == 404


def _two(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return found if len(found) == 2 else []


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"\xff\xff", PROTOBUF, 400),
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"x", PROTOBUF | {"Content-Encoding": "gzip"}, 400),
        (b"x", {"Content-Type": "text/plain"}, 415),
        (b"x", PROTOBUF | {"Content-Encoding": "br"}, 415),
        (gzip.compress(b"\0" * (9 << 20)), PROTOBUF | {"Content-Encoding": "gzip"}, 413),
        (b"", PROTOBUF | {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_what_is_no_span_is_refused(console: Running, content: bytes, headers: dict[str, str], status: int) -> None:
    """Other bytes, types and codings, a bomb, another site's page: each has its status, and the console goes on."""
    answer = httpx.post(f"{console.url}/v1/traces", content=content, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "do"}
