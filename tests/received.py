"""An OTLP/HTTP receiver, on the standard library: what is posted to `/v1/traces`, protobuf or JSON, becomes spans."""

import base64
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


class Seen(NamedTuple):
    """A span as it came. `links` are pairs of trace and span."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    kind: str
    start_ns: int
    end_ns: int
    error: str | None
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    link_attributes: tuple[dict[str, Any], ...]
    state: str


class Receiver(ThreadingHTTPServer):
    """Answers from `with` on; `status` is what it says to whoever posts."""

    daemon_threads = True
    request_queue_size = 128  # all services may post at once, and Triton tries only once

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.spans: list[Seen] = []
        self.status = 200
        self.posts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def wait(self, enough: Callable[[list[Seen]], bool], seconds: float = 10.0) -> list[Seen]:
        """Return the spans once they are enough, or when the time is over."""
        end = time.monotonic() + seconds
        while not enough(list(self.spans)) and time.monotonic() < end:
            time.sleep(0.02)
        return list(self.spans)

    def named(self, *names: str, seconds: float = 10.0) -> list[Seen]:
        """Return the spans once these are among them."""
        return self.wait(lambda spans: {span.name for span in spans} >= set(names), seconds)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.posts += 1
        if self.server.status == 200:
            self.server.spans += _spans(self._message(body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _message(self, body: bytes) -> dict[str, Any]:
        assert self.path == "/v1/traces"
        if self.headers["Content-Type"].startswith("application/json"):
            return dict(json.loads(body))
        return MessageToDict(ExportTraceServiceRequest.FromString(body))

    def log_message(self, *_: object) -> None:
        pass


def _spans(message: dict[str, Any]) -> Iterable[Seen]:
    for resource in message["resourceSpans"]:
        service = _attributes(resource["resource"])["service.name"]
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield _span(span, service)


def _span(span: dict[str, Any], service: str) -> Seen:
    links = span.get("links", [])
    kind = span.get("kind", 0)
    status = span.get("status", {})
    failed = status.get("code") in (2, "STATUS_CODE_ERROR")
    return Seen(
        _id(span["traceId"], 16),
        _id(span["spanId"], 8),
        _id(span.get("parentSpanId", ""), 8),
        span["name"],
        service,
        KINDS.get(kind, str(kind)) if isinstance(kind, int) else kind.removeprefix("SPAN_KIND_").lower(),
        int(span["startTimeUnixNano"]),
        int(span["endTimeUnixNano"]),
        status.get("message", "") if failed else None,
        _attributes(span),
        tuple((_id(link["traceId"], 16), _id(link["spanId"], 8)) for link in links),
        tuple(_attributes(link) for link in links),
        span.get("traceState", ""),
    )


def _id(text: str, size: int) -> str:
    """Return it in hexadecimal: OTLP's JSON has it so, protobuf's own JSON in base64."""
    return text if len(text) in (0, 2 * size) else base64.b64decode(text).hex()


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for pair in holder.get("attributes", []):
        ((kind, value),) = pair["value"].items()
        found[pair["key"]] = int(value) if kind == "intValue" else value
    return found
