"""Who asks: a program with a token in its `Authorization`, or a page with the cookie of its session.

A browser sends cookies by itself, so an act by one must come from our own page: it says the session's CSRF token, and
the browser says that it is of the same origin.
"""

import secrets
import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from services.console.access import LASTS_S, Access, Level
from services.console.problems import Problem, json

CSRF_HEADER = "x-thalweg-csrf"
SIGN_IN = (
    "open the address that the launcher printed, with #token= at its end, or send `Authorization: Bearer TOKEN`;"
    " tokens are in the file that THALWEG_CONSOLE_TOKENS names"
)


class _Shown(msgspec.Struct):
    token: str


class Sessions:
    """Holds requests to what their senders may do."""

    def __init__(self, access: Access, port: int) -> None:
        self._access = access
        self._cookie = f"thalweg-{port}"  # a browser sends one machine's cookies to all its ports

    def reading(self, request: Request) -> None:
        """Raise unless the sender may look."""
        if self._level(request) is None:
            raise Problem(401, "no token that is good", SIGN_IN, {"WWW-Authenticate": "Bearer"})

    def acting(self, request: Request) -> None:
        """Raise unless the sender may act, and means to."""
        self.reading(request)
        if self._level(request) != "acting":
            raise Problem(403, "this token is for reading", "use the acting token, which the same file holds")
        expect_same_origin(request)
        if _bearer(request) is None and not self._access.says(
            request.cookies[self._cookie], request.headers.get(CSRF_HEADER, "")
        ):
            raise Problem(403, f"no {CSRF_HEADER} of this session", "load the page again")

    async def open(self, request: Request) -> Response:
        """Answer POST /api/session: a token for a cookie."""
        expect_same_origin(request)
        try:
            shown = msgspec.json.decode(await request.body(), type=_Shown)
        except msgspec.DecodeError as error:
            raise Problem(400, f"no token: {error}", 'send {"token": "…"}') from None
        level = self._access.level(shown.token)
        if level is None:
            raise Problem(401, "no token that is good", SIGN_IN)
        cookie = self._access.cookie(level, time.time(), secrets.token_urlsafe(9))
        answer = json(self._said(level, cookie))
        secure = request.url.scheme == "https"
        answer.set_cookie(self._cookie, cookie, LASTS_S, path="/", secure=secure, httponly=True, samesite="strict")
        return answer

    async def show(self, request: Request) -> Response:
        """Answer GET /api/session: what the sender may do."""
        level = self._level(request)
        cookie = request.cookies.get(self._cookie, "") if _bearer(request) is None else ""
        return json(self._said(level, cookie))

    async def close(self, request: Request) -> Response:
        """Answer DELETE /api/session."""
        expect_same_origin(request)
        answer = json(self._said(None, ""))
        answer.delete_cookie(self._cookie, path="/", httponly=True, samesite="strict")
        return answer

    def _said(self, level: Level | None, cookie: str) -> dict[str, object]:
        csrf = self._access.csrf(cookie) if level is not None and cookie else ""
        return {"reading": level is not None, "acting": level == "acting", "csrf": csrf}

    def _level(self, request: Request) -> Level | None:
        if (token := _bearer(request)) is not None:
            return self._access.level(token)
        return self._access.session(request.cookies.get(self._cookie, ""), time.time())


def expect_same_origin(request: Request) -> None:
    """Raise if a browser says that another site's page sends this; programs say nothing."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    ours = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if site not in (None, "same-origin", "none") or origin not in (None, ours):
        raise Problem(403, "another site's page sent this", "act from the console's own page")


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
