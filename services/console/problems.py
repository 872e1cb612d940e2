"""An answer that says what is wrong, and what to do next."""

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


class Problem(HTTPException):
    """Ends a request with a status, `error`: what is wrong, and `do`: what to do next."""

    def __init__(self, status: int, error: str, do: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, error, headers)
        self.do = do


async def answer(_: Request, error: Exception) -> Response:
    """Make the answer of what was raised."""
    if isinstance(error, HTTPException):
        do = error.do if isinstance(error, Problem) else "see the address and the method"
        return json({"error": error.detail, "do": do}, error.status_code, dict(error.headers or {}))
    raise error


async def unexpected(_: Request, error: Exception) -> Response:
    """Make the answer of what nobody raised on purpose; the server writes it to the log."""
    do = "see the console's log, and say what you did; the page goes on"
    return json({"error": f"the console failed at this: {type(error).__name__}", "do": do}, 500)


def json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")
