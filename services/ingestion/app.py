"""The HTTP application. Requests and answers are described in `openapi.py`, and what is served is what stands there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import TypedDict

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from services.ingestion.audit import Audit
from services.ingestion.broadcast import Broadcast
from services.ingestion.core import MEDIA, IngestionCore, Judgement, Kind, Lines, Rejected, count, split
from services.ingestion.doorkeeper import Doorkeeper
from services.ingestion.followed import Followed, Following, Unfollowed
from services.ingestion.key_file import KeyFile
from services.ingestion.keys import Caller, Scope
from services.ingestion.meters import Measured, Meters
from services.ingestion.openapi import document
from services.ingestion.producer import DurableProducer
from services.runtime.bodies import Bodies, media_type
from services.runtime.clock import SystemClock
from services.runtime.contexts import TRACEPARENT, TRACESTATE
from services.runtime.errors import Retry
from services.runtime.health import Report
from services.runtime.metrics import Metrics
from services.runtime.records import Outgoing
from services.runtime.stream import Stream
from services.runtime.waiting import Wait

PREFIX = "/v1/streams/{stream}"
WRITE: dict[Kind, Scope] = {"events": "events:write", "labels": "labels:write"}
RETRY_AFTER_S = 1
ASK_EVERY_S = 1.0


class Answer(TypedDict):
    """What a POST is told."""

    accepted: int
    rejected: list[Rejected]


class Door:
    """The endpoints of one stream."""

    def __init__(
        self,
        stream: Stream,
        producer: DurableProducer,
        broadcast: Broadcast,
        bodies: Bodies,
        metrics: Metrics,
        keys: KeyFile,
        listeners: int,
        following: Following | Unfollowed | None = None,
        core: IngestionCore | None = None,
    ) -> None:
        self._stream = stream
        self._core = core or IngestionCore(stream)
        self._producer = producer
        self._broadcast = broadcast
        self._bodies = bodies
        self._following = following or Unfollowed()
        self._clock = SystemClock()
        self._wait = Wait(self._clock)
        self._asking, self._asked = asyncio.Lock(), 0.0
        self._meters = Meters(metrics, producer.queued, lambda: self._wait.why is None)
        self._audit = Audit(self._meters.denied)
        self._doorkeeper = Doorkeeper(keys, stream.name, self._audit, listeners)

    def app(self) -> Starlette:
        routes = [
            Route(f"{PREFIX}/events", self.events, methods=["POST"]),
            Route(f"{PREFIX}/labels", self.labels, methods=["POST"]),
            Route(f"{PREFIX}/predictions", self.predictions, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/healthz", self.health, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: self._problem})
        app.router.redirect_slashes = False  # a path that is not ours is 404
        app.add_middleware(Measured, meters=self._meters)
        return app

    async def events(self, request: Request) -> Response:
        return await self._take(request, "events")

    async def labels(self, request: Request) -> Response:
        return await self._take(request, "labels")

    async def _take(self, request: Request, kind: Kind) -> Response:
        headers = request.headers
        state = ",".join(headers.getlist(TRACESTATE))
        followed = self._following.request(f"{PREFIX}/{kind}", headers.get(TRACEPARENT), state)
        try:
            answer, status = await self._judged(request, kind, followed)
        except HTTPException as error:
            followed.end(error.status_code, error=error.detail)
            raise
        followed.end(status, len(answer["rejected"]))
        return _json(answer, status)

    async def _judged(self, request: Request, kind: Kind, followed: Followed | Unfollowed) -> tuple[Answer, int]:
        caller = self._doorkeeper.admit(request, WRITE[kind])
        self._check_stream(request)
        media = media_type(request, MEDIA)
        async with self._bodies.read(request) as body:
            lines = count(body, media)
            if lines > self._producer.queue:
                raise HTTPException(413, f"a request holds at most {self._producer.queue} lines; send it in parts")
            self._doorkeeper.charge(request, caller, lines, len(body))
            judgement = await self._judge(kind, split(body, media))
            await self._write(followed.stamped(judgement.accepted, begins=kind == "events"))
        self._meters.refused(self._stream.topic(kind), judgement.rejected)
        answer: Answer = {"accepted": len(judgement.accepted), "rejected": judgement.rejected}
        return answer, 202 if judgement.accepted else 422

    async def _judge(self, kind: Kind, lines: Lines) -> Judgement:
        if not self._core.waits:
            return self._core.judge(kind, lines)
        try:
            return await asyncio.to_thread(self._core.judge, kind, lines)
        except Retry as error:
            raise _busy(error) from error

    async def _write(self, records: list[Outgoing]) -> None:
        began = perf_counter()
        try:
            await self._producer.write(records)
        except Retry as error:
            raise _busy(error) from error
        self._meters.sent(records, perf_counter() - began)

    async def predictions(self, request: Request) -> Response:
        caller = self._doorkeeper.admit(request, "predictions:read")
        self._check_stream(request)
        self._doorkeeper.charge(request, caller, 1, 0)
        key = request.query_params.get("key")
        events = self._events(request, caller, None if key is None else self._core.asked(key).encode())
        return _Seated(events, self._doorkeeper.seat(request, caller))

    async def _events(self, request: Request, caller: Caller, key: bytes | None) -> AsyncIterator[bytes]:
        async for records in self._broadcast.listen():
            if not self._doorkeeper.still(request, caller):
                yield b"event: refused\ndata: the key that this was asked for with is good no more\n\n"
                return
            if records is None:
                yield b": listening\n\n"
                continue
            yield b"".join(
                b"id: %d-%d\ndata: %b\n\n" % (record.partition, record.offset, record.value)
                for record in records
                if key is None or record.key == key
            )
        yield b"event: overflow\ndata: too slow, or the log is away; connect again, or read the topic from Kafka\n\n"

    async def openapi(self, _: Request) -> Response:
        return _json(document(self._stream, self._bodies.largest, opened=self._doorkeeper.opened), 200)

    async def health(self, _: Request) -> Response:
        return _json({"status": "ok", "stream": self._stream.name}, 200)

    async def ready(self, _: Request) -> Response:
        """Say whether the broker can take records; it is asked once a second, however many want to know."""
        async with self._asking:
            if self._clock.now() >= self._asked + ASK_EVERY_S:
                self._note(await self._producer.obstacle([self._stream.topic(kind) for kind in ("events", "labels")]))
                self._asked = self._clock.now()
        if self._wait.why is None:
            return _json(Report("ingestion", "ready"), 200)
        waited = round(self._clock.now() - self._wait.since, 1)
        return _json(Report("ingestion", "waiting", self._wait.why, waited), 503)

    async def metrics(self, request: Request) -> Response:
        media, page = self._meters.page(request.headers.get("accept", ""))
        return Response(page, 200, {"Content-Type": media, "Cache-Control": "no-store"})

    def _note(self, obstacle: str | None) -> None:
        if obstacle is None:
            self._wait.over()
        else:
            self._wait.note(obstacle)

    def _check_stream(self, request: Request) -> None:
        name = request.path_params["stream"]
        if name != self._stream.name:
            raise HTTPException(404, f"no stream {name!r} here; this service serves {self._stream.name!r}")

    async def _problem(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        self._doorkeeper.tell(request, error)
        return _json({"error": error.detail}, error.status_code, dict(error.headers or {}))

    def close(self) -> None:
        """Tell what is left to tell."""
        self._audit.close()


class _Seated(StreamingResponse):
    """An event stream whose listener is counted out, however it ends."""

    def __init__(self, events: AsyncIterator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._leave = leave

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


def _busy(error: Retry) -> HTTPException:
    return HTTPException(503, str(error), {"Retry-After": str(RETRY_AFTER_S)})


def _json(content: object, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")
