"""The HTTP application: the page, its API, and the way in for spans."""

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from services.console import problems
from services.console.headers import Headers
from services.console.problems import json
from services.console.sessions import Sessions

PAGE = Path(__file__).with_name("page")


def make_app(routes: Sequence[Route], sessions: Sessions) -> ASGIApp:
    """Put these endpoints beside the page, the session and the probes."""
    ours = [
        *(Route(path, _health, methods=["GET"]) for path in ("/healthz", "/readyz")),
        Route("/api/session", sessions.show, methods=["GET"]),
        Route("/api/session", sessions.open, methods=["POST"]),
        Route("/api/session", sessions.close, methods=["DELETE"]),
        *routes,
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    app = Starlette(routes=ours, exception_handlers={HTTPException: problems.answer, Exception: problems.unexpected})
    app.router.redirect_slashes = False  # a path that is not ours is 404
    return Headers(app)


async def _health(_: Request) -> Response:
    """Say that it is up: a broker that is away is shown, and waited for."""
    return json({"service": "console", "status": "ready"})
