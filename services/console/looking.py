"""The endpoints of what is looked at: parts of the picture, one prediction, traces, one dead letter, the settings."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from services.console.finding import NEWEST, Finding
from services.console.letters import Letters
from services.console.live import follow
from services.console.picture import Part, Picture
from services.console.problems import Problem, json
from services.console.sessions import Sessions
from services.console.settings import ConsoleSettings
from services.console.store import Store
from services.runtime.errors import ThalwegError

WHOLE: tuple[Part, ...] = ("quality", "models", "alerts", "drift", "dead")
MOST = 1_000_000
AT_ONCE = 4  # questions that read the log
Found = TypeVar("Found")


class Looking:
    """Answers who may look."""

    def __init__(
        self,
        settings: ConsoleSettings,
        sessions: Sessions,
        picture: Picture,
        store: Store,
        finding: Finding,
        letters: Letters,
    ) -> None:
        self._settings, self._sessions, self._picture = settings, sessions, picture
        self._store, self._finding, self._letters = store, finding, letters
        self._room = asyncio.Semaphore(AT_ONCE)

    def routes(self) -> list[Route]:
        answers = {
            "/api/live": self.live,
            "/api/predictions/{event_id:path}": self.prediction,
            "/api/traces": self.traces,
            "/api/traces/{trace_id}": self.trace,
            "/api/dead/{partition:int}/{offset:int}": self.letter,
            "/api/settings": self.settings,
            **{f"/api/{part}": self._part(part) for part in WHOLE},
        }
        return [Route(path, self._held(answer), methods=["GET"]) for path, answer in answers.items()]

    def _held(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def look(request: Request) -> Response:
            self._sessions.reading(request)
            return await answer(request)

        return look

    async def live(self, _: Request) -> Response:
        return StreamingResponse(follow(self._picture), media_type="text/event-stream")

    def _part(self, part: Part) -> Callable[[Request], Awaitable[Response]]:
        async def show(_: Request) -> Response:
            return Response(self._picture.body(part), media_type="application/json")

        return show

    async def prediction(self, request: Request) -> Response:
        event_id = request.path_params["event_id"]
        found = await self._read(lambda: self._finding.find(event_id))
        if found is None:
            error = f"no prediction of {event_id} is among the newest {NEWEST:,} of each partition"
            raise Problem(404, error, f"look for it in the whole log: thalweg trace {event_id}")
        return json(found)

    async def letter(self, request: Request) -> Response:
        where = request.path_params["partition"], request.path_params["offset"]
        found = await self._read(lambda: self._letters.show(*where))
        if found is None:
            raise Problem(
                404, f"no dead letter stands at {where[0]}@{where[1]}", "thalweg dead-letter list has them all"
            )
        return json(found)

    async def traces(self, request: Request) -> Response:
        asked = request.query_params
        least, limit = _number(asked, "min_ms", 0), int(_number(asked, "limit", 50))
        found = await asyncio.to_thread(self._store.traces, asked.get("service"), least, limit)
        return json({"traces": found})

    async def trace(self, request: Request) -> Response:
        trace_id = request.path_params["trace_id"]
        spans = await asyncio.to_thread(self._store.trace, trace_id)
        if not spans:
            raise Problem(404, f"no span of the trace {trace_id} is here", "run thalweg trace EVENT_ID")
        return json({"spans": spans})

    async def settings(self, _: Request) -> Response:
        """Show what the console runs with; where a value may hold a secret, that there is one."""
        shown: dict[str, Any] = {name: getattr(self._settings, name) for name in self._settings.__struct_fields__}
        plain = (int, float)
        return json({name: value if isinstance(value, plain) else _masked(str(value)) for name, value in shown.items()})

    async def _read(self, question: Callable[[], Found]) -> Found:
        """Ask the log, on a thread, a few at a time."""
        async with self._room:
            try:
                return await asyncio.to_thread(question)
            except (ThalwegError, msgspec.MsgspecError) as error:
                raise Problem(503, str(error), "try again: Flow says whether the broker answers") from error


def _masked(value: str) -> str:
    """Hide the name and the password of a URL."""
    scheme, found, rest = value.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if found and "@" in rest else value


def _number(asked: QueryParams, name: str, default: float) -> float:
    try:
        found = float(asked.get(name, default))
    except ValueError:
        found = -1.0
    if not 0 <= found <= MOST:
        raise Problem(400, f"{name}: found {asked[name]!r}", f"give a number from 0 to {MOST}")
    return found
