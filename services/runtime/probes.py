"""`/healthz`, `/readyz` and `/metrics` over HTTP, answered on threads of their own: who asks can't hold the service up.

At most `CONNECTIONS` clients are served at once. One more, and the oldest is cut off, so that clients which send or
read slowly, or never end, don't keep the next probe out.
"""

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

import msgspec

from services.runtime.errors import ConfigError
from services.runtime.health import Report
from services.runtime.metrics import Metrics

CONNECTIONS = 16
PATIENCE_S = 5.0


class Probes(ThreadingTCPServer):
    """Answers from `start` on, until the process ends or `close`."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS

    def __init__(self, host: str, port: int, report: Callable[[], Report], metrics: Metrics) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.report, self.metrics = report, metrics
        self._lock = threading.Lock()
        self._open: dict[Any, None] = {}  # in order of age
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"health probes can't be answered on {host}:{port}: {error.strerror}; choose THALWEG_HEALTH_PORT"
            ) from error

    def start(self) -> "Probes":
        threading.Thread(target=self.serve_forever, name="probes", daemon=True).start()
        return self

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the standard library's types
        with self._lock:
            while len(self._open) >= CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _cut_off(oldest)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the standard library's types
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the standard library's types
        """Say nothing: a client that went away, or was cut off, is no event of the service."""


class _Handler(BaseHTTPRequestHandler):
    server: Probes
    timeout = PATIENCE_S  # for each read; a client that sends a byte now and then is cut off by the clients after it

    def do_GET(self) -> None:
        if self._path == "/metrics":
            self._send(HTTPStatus.OK, *self.server.metrics.page(self.headers.get("Accept", "")))
            return
        report = self.server.report()
        good = {"/healthz": report.alive, "/readyz": report.ready}.get(self._path)
        body = msgspec.json.encode(report if good is not None else {"error": "there are /healthz, /readyz, /metrics"})
        status = {None: HTTPStatus.NOT_FOUND, True: HTTPStatus.OK}.get(good, HTTPStatus.SERVICE_UNAVAILABLE)
        self._send(status, "application/json", body)

    @property
    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _send(self, status: HTTPStatus, media: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Log nothing: a probe comes every few seconds."""


def _cut_off(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has gone by itself
        return
