"""The way in for spans: OTLP over HTTP, from this machine unless a setting opens it; senders have no token."""

import asyncio
import ipaddress

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.console.otlp import MEDIA, answer, decode
from services.console.otlp_values import Malformed
from services.console.picture import Picture
from services.console.problems import Problem
from services.console.sessions import expect_same_origin
from services.console.store import Store
from services.runtime.bodies import Bodies, media_type

INLINE = 1 << 16  # bytes: what is larger is decoded on a thread, so that nobody waits for it
RETRY_AFTER_S = "1"


class Receiver:
    """Takes spans while there is room for them."""

    def __init__(self, bodies: Bodies, store: Store, picture: Picture, *, anywhere: bool) -> None:
        self._bodies, self._store, self._picture, self._anywhere = bodies, store, picture, anywhere

    def routes(self) -> list[Route]:
        return [Route("/v1/traces", self.traces, methods=["POST"])]

    async def traces(self, request: Request) -> Response:
        self._expect_near(request)
        expect_same_origin(request)
        if self._store.full:
            raise _full()
        media = media_type(request, MEDIA)
        async with self._bodies.read(request) as body:
            try:
                batch = decode(media, body) if len(body) <= INLINE else await asyncio.to_thread(decode, media, body)
            except Malformed as error:
                raise HTTPException(400, f"the body is no ExportTraceServiceRequest: {error}") from error
        if not self._store.offer(batch.spans):
            raise _full()
        self._picture.ask(lambda core: core.traced(batch.spans))
        return Response(answer(media, batch.rejected), media_type=media)

    def _expect_near(self, request: Request) -> None:
        if not self._anywhere and not _loopback(request.client.host if request.client else ""):
            do = "send them to a collector, or set THALWEG_CONSOLE_TRACES_FROM=anywhere"
            raise Problem(403, "spans are taken from this machine only", do)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _full() -> Problem:
    return Problem(503, "too many spans wait to be written", "send them again", {"Retry-After": RETRY_AFTER_S})
