"""The endpoints of acts: each wants the acting token, and a body that says why."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.console.acts import Acts
from services.console.problems import Problem, json
from services.console.sessions import Sessions
from services.runtime.errors import ThalwegError

MOST = 1 << 20  # bytes of a body
Body = TypeVar("Body")
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1000, pattern=r"\S")]
LOOK = "look at the page again: it may be done already"
AWAY = "see on Flow what the console waits for; it is the same for the command line"


class _Reason(msgspec.Struct):
    reason: Text


class _Silence(msgspec.Struct):
    hours: Annotated[float, msgspec.Meta(ge=0, le=24 * 365)]
    reason: Text


class _Hold(msgspec.Struct):
    on: bool
    reason: Text


class _Replay(msgspec.Struct):
    fixed: str | None = None


class Acting:
    """Turns requests into acts."""

    def __init__(self, acts: Acts, sessions: Sessions) -> None:
        self._acts, self._sessions = acts, sessions

    def routes(self) -> list[Route]:
        return [
            Route("/api/models/{name}/promote", self._version(self._acts.promote), methods=["POST"]),
            Route("/api/models/{name}/rollback", self._version(self._acts.rollback), methods=["POST"]),
            Route("/api/models/{name}/retire", self._version(self._acts.retire), methods=["POST"]),
            Route("/api/alerts/{id:path}/silence", self.silence, methods=["POST"]),
            Route("/api/hold", self.hold, methods=["POST"]),
            Route("/api/dead/{partition:int}/{offset:int}/replay", self.replay, methods=["POST"]),
        ]

    def _version(self, act: Callable[[str, str], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def decide(request: Request) -> Response:
            said = await self._read(request, _Reason)
            return json({"done": await _do(lambda: act(request.path_params["name"], said.reason))})

        return decide

    async def silence(self, request: Request) -> Response:
        said = await self._read(request, _Silence)
        done = await _do(lambda: self._acts.silence(request.path_params["id"], said.hours, said.reason))
        return json({"done": _there(done, "alert")})

    async def hold(self, request: Request) -> Response:
        said = await self._read(request, _Hold)
        return json({"done": await _do(lambda: self._acts.hold(said.reason, on=said.on))})

    async def replay(self, request: Request) -> Response:
        said = await self._read(request, _Replay)
        where = request.path_params["partition"], request.path_params["offset"]
        return json({"done": _there(await _do(lambda: self._acts.replay(*where, said.fixed)), "dead letter")})

    async def _read(self, request: Request, kind: type[Body]) -> Body:
        """Return the body of somebody who may act."""
        self._sessions.acting(request)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST:
                raise Problem(413, f"a body has at most {MOST} bytes", "send less", {"Connection": "close"})
        try:
            return msgspec.json.decode(bytes(body), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            wanted = ", ".join(kind.__annotations__)
            raise Problem(422, f"the body: {error}", f"send JSON with {wanted}; a reason is some words") from None


def _there(done: object, what: str) -> object:
    if done is None:
        raise Problem(404, f"no such {what}", LOOK)
    return done


async def _do(act: Callable[[], Any]) -> Any:  # noqa: ANN401 - what was done
    """Do it on a thread, and have what is in its way said to the person."""
    try:
        return await asyncio.to_thread(act)
    except ValueError as error:
        raise Problem(409, str(error), LOOK) from error
    except ThalwegError as error:
        raise Problem(503, str(error), AWAY) from error
