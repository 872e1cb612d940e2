"""The HTTP door as its own process, and clients that are wrong, greedy or slow: what each is told, and who pays."""

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.local import brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Child, Children
from tests.departures import EVENT

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PATH = "/v1/streams/flights/events"
NDJSON, JSON = "application/x-ndjson", "application/json"
MAX_BODY, ROOM, PATIENCE_S, CONNECTIONS = 20_000, 50_000, 1.0, 20
LINE = json.dumps(EVENT).encode()
FULL = LINE + b" " * (MAX_BODY - len(LINE))


class Door:
    """A running ingestion."""

    def __init__(self, child: Child, port: int) -> None:
        self.child, self.port = child, port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)

    def post(
        self, body: bytes | Iterator[bytes], media: str | None = NDJSON, coding: str | None = None
    ) -> httpx.Response:
        headers = {"Content-Type": media, "Content-Encoding": coding}
        return self.http.post(PATH, content=body, headers={name: value for name, value in headers.items() if value})

    def connect(self, said: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        try:
            connection.sendall(said)
        except OSError:
            connection.close()
            raise
        return connection

    def resident(self) -> int:
        text = Path(f"/proc/{self.child.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def head(length: int) -> bytes:
    return f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: {NDJSON}\r\nContent-Length: {length}\r\n\r\n".encode()


def rest(connection: socket.socket) -> bytes:
    """Return what the other side still says until it ends the connection."""
    said = b""
    with connection, contextlib.suppress(ConnectionError):
        while more := connection.recv(4096):
            said += more
    return said


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Children(tmp_path_factory.mktemp("broker")) as children:
        broker = brokers.embedded(children, brokers.free_ports(1)[0])
        brokers.wait_ready(broker, children)
        brokers.create_topics(broker, {f"flights.{kind}": TopicSpec(3) for kind in ("events", "labels", "predictions")})
        yield broker


@contextlib.contextmanager
def ingestion(broker: Broker, logs: Path, **settings: object) -> Iterator[Door]:
    port = brokers.free_ports(1)[0]
    given = {"THALWEG_BROKER": broker.address, "THALWEG_INGESTION_PORT": str(port)}
    given |= {f"THALWEG_INGESTION_{name}": str(value) for name, value in settings.items()}
    with Children(logs) as children:
        argv = [sys.executable, "-m", "services.ingestion"]
        door = Door(children.start("ingestion", argv, env={**os.environ, **given}, cwd=ROOT), port)
        with door.http:
            end = time.monotonic() + 20
            while not healthy(door):
                children.check()
                assert time.monotonic() < end
                time.sleep(0.05)
            yield door
        children.check()


def healthy(door: Door) -> bool:
    try:
        return door.http.get("/healthz").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def door(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    limits = {"MAX_BODY": MAX_BODY, "ROOM": ROOM, "PATIENCE_S": PATIENCE_S, "CONNECTIONS": CONNECTIONS}
    with ingestion(broker, tmp_path_factory.mktemp("door"), **limits) as door:
        yield door
        assert "Traceback" not in door.child.log.read_text()


@pytest.mark.parametrize("media", [JSON, NDJSON, "Application/JSON ; charset=utf-8", "application/x-ndjson;"])
@pytest.mark.parametrize("coding", [None, "identity", "gzip", "GZip"])
def test_two_types_and_two_codings(door: Door, media: str, coding: str | None) -> None:
    """JSON and NDJSON, as they are or as gzip, however their names are written: 202."""
    gzipped = coding in {"gzip", "GZip"}
    assert door.post(gzip.compress(LINE) if gzipped else LINE, media, coding).status_code == 202


@pytest.mark.parametrize("media", [None, "", "text/plain", "application/jsonl", "application/json-seq", "json"])
def test_any_other_type_is_415(door: Door, media: str | None) -> None:
    """A body of no type, or of another, is refused, and the answer names what would be right."""
    answer = door.post(LINE, media)
    assert answer.status_code == 415
    assert all(right in answer.json()["error"] for right in (JSON, NDJSON))


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "x"])
def test_any_other_coding_is_415(door: Door, coding: str) -> None:
    """A body in another coding is refused, and the answer says which one is taken."""
    answer = door.post(LINE, NDJSON, coding)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    "body",
    [LINE, b"", gzip.compress(LINE)[:-1], gzip.compress(LINE) + b"x", gzip.compress(LINE) * 2, zlib.compress(LINE)],
)
def test_what_is_not_one_gzip_member_is_400(door: Door, body: bytes) -> None:
    """No gzip, half of one, and more than one are refused as a whole."""
    answer = door.post(body, NDJSON, "gzip")
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_the_limit_counts_what_is_inflated(door: Door) -> None:
    """At `max_body` 202, one byte more 413, in gzip as without; so does what was sent, if that is more."""
    assert door.post(gzip.compress(FULL), coding="gzip").status_code == 202
    assert door.post(gzip.compress(FULL + b" "), coding="gzip").status_code == 413
    nothing = gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * (MAX_BODY // 5)  # empty blocks
    assert door.post(iter([nothing]), coding="gzip").status_code == 413


def test_a_bomb_is_refused_where_it_stands(door: Door) -> None:
    """A quarter of a gigabyte in a quarter of a megabyte: 413 at the limit, and the process does not grow."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    bomb = b"".join([packer.compress(bytes(1 << 20)) for _ in range(16)])[:MAX_BODY]
    before = door.resident()
    for _ in range(20):
        assert door.post(bomb, coding="gzip").status_code == 413
    assert door.resident() < before + (8 << 20)


@pytest.mark.parametrize("announced", [MAX_BODY + 1, 1 << 40, 10**18])
def test_a_length_over_the_limit_is_refused_unread(door: Door, announced: int) -> None:
    """413 at the head: not a byte of the body has to come, and the connection is closed."""
    said = rest(door.connect(head(announced)))
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in said.lower()


def test_lines_are_numbered_as_an_editor_does(door: Door) -> None:
    """Blank lines count: a refusal names the line at which a person finds it."""
    answer = door.post(b"\n\r\n".join([LINE, b"{", b"", b"[]", LINE]))
    assert answer.json()["accepted"] == 2
    assert [refused["line"] for refused in answer.json()["rejected"]] == [3, 7]


def test_many_short_lines_are_counted_before_they_are_cut(broker: Broker, tmp_path: Path) -> None:
    """A body of more lines than the queue takes is 413, blank ones too, and costs no memory by the line."""
    with ingestion(broker, tmp_path, QUEUE=100) as door:
        assert door.post(b"\n" * 99 + LINE).status_code == 202
        before = door.resident()
        assert door.post(b"0\n" * (4 << 20)).status_code == 413
        assert door.resident() < before + (64 << 20)


def test_a_slow_body_is_408(door: Door) -> None:
    """A body that is not there after `patience_s` is given up, though some of it keeps coming."""
    connection = door.connect(head(1000))
    trickle(connection, 3 * PATIENCE_S)
    assert rest(connection).startswith(b"HTTP/1.1 408 ")


def trickle(connection: socket.socket, seconds: float) -> None:
    """Send a byte now and then, for so long or until the other side ends the connection."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            connection.sendall(b"x")
            time.sleep(0.1)


@pytest.mark.parametrize("said", [b"", b"POST /v1", head(9)[:-2]])
def test_a_head_has_to_come(door: Door, said: bytes) -> None:
    """Who says nothing, or half a head, is let go after `patience_s`, without an answer."""
    began = time.monotonic()
    assert rest(door.connect(said)) == b""
    assert PATIENCE_S / 2 < time.monotonic() - began < 5 * PATIENCE_S


@pytest.mark.parametrize("said", [b"", b"POST /v1", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{"])
def test_more_bytes_buy_no_more_patience(door: Door, said: bytes) -> None:
    """The rest of a head, or of a body that was answered long ago, has its time, however it trickles in."""
    connection = door.connect(said)
    began = time.monotonic()
    trickle(connection, 9 * PATIENCE_S)
    connection.close()
    assert time.monotonic() - began < 5 * PATIENCE_S


def test_a_listener_is_no_slow_client(door: Door) -> None:
    """A request that is being answered may take as long as it likes: the event stream stays open."""
    with door.http.stream("GET", "/v1/streams/flights/predictions") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith(":")
        time.sleep(2 * PATIENCE_S)
        assert door.post(LINE).status_code == 202
        assert not stream.is_closed


def test_all_bodies_together_have_a_room(door: Door) -> None:
    """Bodies that are not whole take room, and one more than fits is 503; once they are gone there is room again."""
    waiting = [door.connect(head(MAX_BODY) + FULL[:-1]) for _ in range(2)]
    time.sleep(0.2)
    refused = door.post(FULL)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert [rest(connection)[:12] for connection in waiting] == [b"HTTP/1.1 408"] * 2
    assert door.post(FULL).status_code == 202


def test_connections_are_counted(door: Door) -> None:
    """More than `connections` at once: 503; those that say nothing are let go, and there is room again."""
    waiting = [door.connect() for _ in range(CONNECTIONS)]
    with httpx.Client(timeout=20) as other:
        url = f"http://127.0.0.1:{door.port}/healthz"
        assert other.get(url).status_code == 503
        for connection in waiting:
            assert rest(connection) == b""
        assert other.get(url).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        LINE + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1 << 20),
        head(-1) + LINE,
        f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}" % PATH.encode(),
    ],
)
def test_what_is_no_http_is_400(door: Door, said: bytes) -> None:
    """Other protocols, heads without end, and lengths that are none: 400 or the end of the connection."""
    with contextlib.suppress(ConnectionError):
        assert rest(door.connect(said))[:12] in {b"HTTP/1.1 400", b""}
    assert door.post(LINE).status_code == 202


def test_a_client_that_goes_away_within_its_body(door: Door) -> None:
    """Nobody is told, nothing is logged as an error, and the next client is served."""
    for _ in range(5):
        door.connect(head(1000) + LINE).close()
    assert door.post(LINE).status_code == 202


@pytest.mark.parametrize(
    "path", [f"{PATH}/", "//", "/v1/streams/%2e%2e/events", "/v1/streams/flights/events%00", "/\\"]
)
def test_no_other_path_is_ours(door: Door, path: str) -> None:
    """What is not described is 404: nobody is sent elsewhere."""
    said = rest(door.connect(f"POST {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode()))
    assert said.startswith(b"HTTP/1.1 404 ")
    assert b"evil.example" not in said


def test_schemathesis_finds_nothing(broker: Broker, tmp_path: Path) -> None:
    """Data that fits the OpenAPI document and data that does not are answered as it says; server-sent events apart."""
    with ingestion(broker, tmp_path / "logs") as door:
        command: list[str | Path] = [Path(sys.executable).with_name("st"), "run", f"{door.http.base_url}/openapi.json"]
        command += ["--exclude-path-regex", "predictions$", "--max-examples", "40", "--seed", "1", "--no-color"]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(HERE)}
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No issues found" in done.stdout
        assert "Traceback" not in door.child.log.read_text()
