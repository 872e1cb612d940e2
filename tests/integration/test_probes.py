"""The probes over real sockets: what they answer, and that no client keeps the next one out or holds the service up."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from services.runtime import probes
from services.runtime.errors import ConfigError
from services.runtime.health import Report, Status
from services.runtime.metrics import Metrics
from services.runtime.probes import CONNECTIONS, Probes


class Service:
    """A service that reports what it is told to."""

    def __init__(self) -> None:
        self.status: Status = "ready"
        self.probes = Probes("127.0.0.1", 0, self.report, Metrics()).start()
        self.port: int = self.probes.server_address[1]

    def report(self) -> Report:
        return Report("service", self.status, partitions=(0, 1), restoring={1: 5})

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=20)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.probes.close()


@pytest.mark.parametrize(
    ("status", "alive", "ready"),
    [
        ("ready", 200, 200),
        ("waiting", 200, 503),
        ("joining", 200, 503),
        ("restoring", 200, 503),
        ("stopping", 200, 503),
        ("stuck", 503, 503),
        ("ended", 503, 503),
    ],
)
def test_the_status_code_is_the_answer(service: Service, status: Status, alive: int, ready: int) -> None:
    """Kubernetes looks at the code alone; a person finds the whole report in the body of either."""
    service.status = status
    answers = [service.get("/healthz"), service.get("/readyz?verbose")]
    assert [answer.status_code for answer in answers] == [alive, ready]
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert (answer.json()["status"], answer.json()["restoring"]) == (status, {"1": 5})


def test_there_is_nothing_else(service: Service) -> None:
    """Another path is 404, and another method no crash."""
    assert service.get("/").status_code == 404
    assert httpx.post(f"http://127.0.0.1:{service.port}/healthz", timeout=20).status_code == 501
    assert service.get("/healthz").is_success


def test_slow_clients_keep_nobody_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that connect and send nothing, or half a request, are cut off in favour of those who come after them."""
    monkeypatch.setattr(probes._Handler, "timeout", 600.0)
    with contextlib.ExitStack() as clients:
        for number in range(3 * CONNECTIONS):
            slow = clients.enter_context(service.connect())
            slow.sendall(b"" if number % 2 else b"GET /healthz HTTP/1.1\r\nX:")
        for _ in range(3):
            assert service.get("/readyz").is_success
        serving = [thread for thread in threading.enumerate() if "process_request_thread" in thread.name]
        assert len(serving) <= CONNECTIONS


def test_clients_that_do_not_read_cost_nothing(service: Service) -> None:
    """A client that asks and never reads its answer, and one that resets its connection, leave no thread behind."""
    with service.connect() as deaf, service.connect() as rude:
        deaf.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        rude.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        rude.close()
        assert service.get("/healthz").is_success
        end = time.monotonic() + 20
        while any("process_request_thread" in thread.name for thread in threading.enumerate()):
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_port_that_is_taken_is_said(service: Service) -> None:
    """The service does not start deaf: it ends with what to set."""
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{service.port}.*in use.*THALWEG_HEALTH_PORT"):
        Probes("127.0.0.1", service.port, service.report, Metrics())
