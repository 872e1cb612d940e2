"""Bodies, heads and connections that no client should send, each with the answers that are right (None: no answer)."""

import contextlib
import gzip
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from urllib.parse import urlsplit

import httpx

JSON, NDJSON = "application/json", "application/x-ndjson"
MEGABYTE = 1 << 20
PATIENCE_S = 30.0
Answer = int | None


@cache
def bomb() -> bytes:
    """Return 64 MiB of zeros as 64 KiB of gzip."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return b"".join([packer.compress(bytes(MEGABYTE)) for _ in range(64)]) + packer.flush()


class Bodies:
    """Sends whole requests to one endpoint; `good` is a line that would be accepted, and must never be."""

    def __init__(self, url: str, path: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=PATIENCE_S)
        self._path = path
        self._where = urlsplit(url)
        self.kinds: dict[str, tuple[Callable[[bytes], Answer], set[Answer]]] = {
            "gzip bomb": (lambda _: self._post(bomb(), coding="gzip"), {413}),
            "gzip cut off": (lambda good: self._post(gzip.compress(good)[:-9], coding="gzip"), {400}),
            "gzip twice": (lambda good: self._post(gzip.compress(good) * 2, coding="gzip"), {400}),
            "no gzip": (lambda good: self._post(good, coding="gzip"), {400}),
            "other coding": (lambda good: self._post(good, coding="br"), {415}),
            "other type": (lambda good: self._post(good, "text/plain"), {415}),
            "no type": (lambda good: self._post(good, ""), {415}),
            "5 MB record": (lambda good: self._post(good + b" " * (5 * MEGABYTE), JSON), {422}),
            "5 MB nesting": (lambda _: self._post(b"[" * (5 * MEGABYTE), JSON), {422}),
            "5 MB of lines": (lambda _: self._post(b"0\n" * (5 * MEGABYTE // 2)), {413}),
            "over the limit": (lambda good: self._post(good + b"\n" * (9 * MEGABYTE)), {413}),
            "chunked, over the limit": (lambda good: self._post(_chunks(good)), {413}),
            "a terabyte announced": (lambda good: self._raw(self._head(1 << 40) + good), {413}),
            "unknown stream": (lambda good: self._post(good, path="/v1/streams/tides/events"), {404}),
            "wrong method": (lambda good: self._post(good, method="PUT"), {405}),
            "no HTTP": (lambda good: self._raw(good + b"\r\n\r\n"), {400}),
            "huge head": (lambda _: self._raw(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * MEGABYTE), {400, None}),
            "bad length": (lambda good: self._raw(self._head(-1) + good), {400}),
            "bad chunks": (lambda good: self._raw(self._head("chunked") + b"zz\r\n" + good), {400}),
            "cut off body": (lambda good: self._raw(self._head(len(good) + 1) + good, hang_up=True), {None}),
        }

    def send(self, kind: str, good: bytes) -> str | None:
        """Send one of a kind; return what is wrong with the answer, or None."""
        ask, right = self.kinds[kind]
        found = ask(good)
        return None if found in right else f"{kind}: answered {found}, expected {sorted(map(str, right))}"

    def slow(self) -> Iterator[tuple[str, socket.socket]]:
        """Open connections that will never say all that they owe; `closed` says whether the server let them go."""
        owed = {"nothing": b"", "half a head": b"POST /v1", "half a body": self._head(1000) + b"{"}
        for kind, said in {
            **owed,
            "an answered body": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
        }.items():
            connection = self._connect()
            connection.sendall(said)
            yield kind, connection

    def _post(
        self,
        body: bytes | Iterator[bytes],
        media: str = NDJSON,
        *,
        coding: str = "",
        path: str | None = None,
        method: str = "POST",
    ) -> int:
        headers = {"Content-Type": media} if media else {}
        headers |= {"Content-Encoding": coding} if coding else {}
        return self._client.request(method, path or self._path, content=body, headers=headers).status_code

    def _head(self, length: int | str) -> bytes:
        how = f"Transfer-Encoding: {length}" if isinstance(length, str) else f"Content-Length: {length}"
        return f"POST {self._path} HTTP/1.1\r\nHost: here\r\nContent-Type: {NDJSON}\r\n{how}\r\n\r\n".encode()

    def _connect(self) -> socket.socket:
        return socket.create_connection((str(self._where.hostname), self._where.port or 80), timeout=PATIENCE_S)

    def _raw(self, said: bytes, *, hang_up: bool = False) -> Answer:
        """Say bytes on a connection of their own; return the status of what is answered, if anything is."""
        with self._connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(said)
            return None if hang_up else int(connection.recv(64).split()[1])
        return None


def closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side ends the connection within so many seconds, whatever it says before."""
    end = time.monotonic() + seconds
    with connection, contextlib.suppress(ConnectionError):
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                if not connection.recv(4096):
                    return True
            except TimeoutError:
                return False
        return False
    return True


def _chunks(good: bytes) -> Iterator[bytes]:
    yield good + b"\n"
    for _ in range(9):
        yield b"\n" * MEGABYTE
