"""The HTTP application: the page, its API, and the way in for spans."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from services.console import problems
from services.console.headers import Headers
from services.console.live import follow
from services.console.picture import Part, Picture
from services.console.problems import Problem, json
from services.console.sessions import Sessions
from services.console.spans import Receiver
from services.console.store import Store

WHOLE: tuple[Part, ...] = ("quality", "models", "alerts", "drift", "dead")
MOST = 1_000_000
PAGE = Path(__file__).with_name("page")


class Console:
    """The endpoints."""

    def __init__(self, stream: str, picture: Picture, sessions: Sessions, store: Store, receiver: Receiver) -> None:
        self._stream, self._picture, self._sessions = stream, picture, sessions
        self._store, self._receiver = store, receiver

    def app(self) -> Starlette:
        sessions = self._sessions
        routes = [
            Route("/healthz", self.health, methods=["GET"]),
            Route("/readyz", self.health, methods=["GET"]),
            Route("/v1/traces", self._receiver.traces, methods=["POST"]),
            Route("/api/traces", self.traces, methods=["GET"]),
            Route("/api/traces/{trace_id}", self.trace, methods=["GET"]),
            Route("/api/session", sessions.show, methods=["GET"]),
            Route("/api/session", sessions.open, methods=["POST"]),
            Route("/api/session", sessions.close, methods=["DELETE"]),
            Route("/api/live", self.live, methods=["GET"]),
            *(Route(f"/api/{part}", self._part(part), methods=["GET"]) for part in WHOLE),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ]
        app = Starlette(
            routes=routes, middleware=[Middleware(Headers)], exception_handlers={HTTPException: problems.answer}
        )
        app.router.redirect_slashes = False
        return app

    async def health(self, _: Request) -> Response:
        return json({"service": "console", "status": "ready", "stream": self._stream})

    def _part(self, part: Part) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            self._sessions.reading(request)
            return Response(self._picture.body(part), media_type="application/json")

        return show

    async def traces(self, request: Request) -> Response:
        self._sessions.reading(request)
        asked = request.query_params
        found = await asyncio.to_thread(
            self._store.traces, asked.get("service"), _number(asked, "min_ms", 0), int(_number(asked, "limit", 50))
        )
        return json({"traces": found})

    async def trace(self, request: Request) -> Response:
        self._sessions.reading(request)
        trace_id = request.path_params["trace_id"]
        spans = await asyncio.to_thread(self._store.trace, trace_id)
        if not spans:
            raise Problem(404, f"no span of the trace {trace_id} is here", "run thalweg trace EVENT_ID")
        return json({"spans": spans})

    async def live(self, request: Request) -> Response:
        self._sessions.reading(request)
        return StreamingResponse(follow(self._picture), media_type="text/event-stream")


def _number(asked: QueryParams, name: str, default: float) -> float:
    try:
        found = float(asked.get(name, default))
    except ValueError:
        found = -1.0
    if not 0 <= found <= MOST:
        raise Problem(400, f"{name}: found {asked[name]!r}", f"give a number from 0 to {MOST}")
    return found
