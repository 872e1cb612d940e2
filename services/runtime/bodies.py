"""The body of a request: of which type and coding it may be, how large, and how slow its sender.

What is refused is refused before it is held: a length that is announced before it is read, a gzip bomb at the limit.
Each refusal of a body that was not read to its end closes the connection, so that nobody goes on sending.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

CODINGS = ("gzip", "identity")
_CLOSE = {"Connection": "close"}
_GZIP = 16 + zlib.MAX_WBITS


class Bodies:
    """Reads bodies of at most `largest` bytes, sent and inflated, within `patience_s`; `room` bounds all of them."""

    def __init__(self, largest: int, room: int, patience_s: float) -> None:
        self.largest = largest
        self._room = room
        self._patience_s = patience_s

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Hold a request's body, inflated; raise HTTPException if it is to be refused."""
        body = _Body(self.largest, gzipped=_coding(request) == "gzip")
        self._check_announced(request)
        try:
            await self._fill(body, request)
            yield body.whole()
        finally:
            self._room += body.held

    async def _fill(self, body: "_Body", request: Request) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                async for chunk in request.stream():
                    self._room -= body.add(chunk)
                    if self._room < 0:
                        raise HTTPException(503, "too many bodies at once; try again", {"Retry-After": "1", **_CLOSE})
        except TimeoutError:
            raise HTTPException(408, f"the body took more than {self._patience_s:g} s to arrive", _CLOSE) from None
        except ClientDisconnect:  # nobody reads the answer
            raise HTTPException(400, "the connection was closed within the body") from None

    def _check_announced(self, request: Request) -> None:
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.largest:
            raise too_large(self.largest)


class _Body:
    """What has come of a body; `held` counts its bytes, inflated."""

    def __init__(self, largest: int, *, gzipped: bool) -> None:
        self._largest = largest
        self._content = bytearray()
        self._came = 0
        self._inflate = zlib.decompressobj(_GZIP) if gzipped else None

    @property
    def held(self) -> int:
        return len(self._content)

    def add(self, chunk: bytes) -> int:
        """Take the next bytes; return by how many more it holds now."""
        self._came += len(chunk)
        found = chunk if self._inflate is None else self._inflated(self._inflate, chunk)
        if max(self._came, self.held + len(found)) > self._largest:
            raise too_large(self._largest)
        self._content += found
        return len(found)

    def _inflated(self, inflate: "zlib._Decompress", chunk: bytes) -> bytes:
        try:
            found = inflate.decompress(chunk, self._largest + 1 - self.held)
        except zlib.error as error:
            raise _not_gzip(str(error)) from None
        if inflate.unused_data:
            raise _not_gzip("something follows its end")
        return found

    def whole(self) -> bytes:
        """Return it once all has come."""
        if self._inflate is not None and not self._inflate.eof:
            raise _not_gzip("its end is missing")
        return bytes(self._content)


def media_type(request: Request, expected: Sequence[str]) -> str:
    """Return which of these the body's type is."""
    found = request.headers.get("content-type", "")
    media = found.partition(";")[0].strip().lower()
    if media not in expected:
        raise HTTPException(415, f"expected a Content-Type of {' or '.join(expected)}, got {found!r}", _CLOSE)
    return media


def _coding(request: Request) -> str:
    found = request.headers.get("content-encoding", "identity")
    coding = found.strip().lower()
    if coding not in CODINGS:
        raise HTTPException(
            415, f"expected a Content-Encoding of gzip, or none, got {found!r}", {"Accept-Encoding": "gzip", **_CLOSE}
        )
    return coding


def too_large(largest: int) -> HTTPException:
    """Return the refusal of a body that is larger than it may be."""
    return HTTPException(413, f"a request holds at most {largest} bytes, inflated; send it in parts", _CLOSE)


def _not_gzip(why: str) -> HTTPException:
    return HTTPException(400, f"the body is not one whole gzip member, as its Content-Encoding says: {why}", _CLOSE)
