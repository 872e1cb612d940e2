"""The HTTP application: the page, its API, and the way in for spans."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
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
from services.console.problems import json
from services.console.sessions import Sessions

WHOLE: tuple[Part, ...] = ("quality", "models", "alerts", "drift", "dead")
PAGE = Path(__file__).with_name("page")


class Console:
    """The endpoints."""

    def __init__(self, stream: str, picture: Picture, sessions: Sessions) -> None:
        self._stream, self._picture, self._sessions = stream, picture, sessions

    def app(self) -> Starlette:
        sessions = self._sessions
        routes = [
            Route("/healthz", self.health, methods=["GET"]),
            Route("/readyz", self.health, methods=["GET"]),
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

    async def live(self, request: Request) -> Response:
        self._sessions.reading(request)
        return StreamingResponse(follow(self._picture), media_type="text/event-stream")
