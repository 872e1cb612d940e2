"""Who may look, and who may act: two tokens, and sessions that a browser holds as a signed cookie.

A session is in its cookie alone, so it outlives a restart. Everything is compared in constant time. Pure: whoever asks
brings the time and what is random.
"""

import hashlib
import hmac
from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["reading", "acting"]
LASTS_S = 7 * 86_400  # a session


class Tokens(msgspec.Struct, frozen=True):
    """`reading` and `acting` are what people and programs show; `key` signs sessions and is shown to nobody."""

    reading: str
    acting: str
    key: str

    def __repr__(self) -> str:
        return "Tokens(***)"


class Access:
    """Says what a token or a session's cookie is good for."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def level(self, token: str) -> Level | None:
        acting, reading = _same(token, self._tokens.acting), _same(token, self._tokens.reading)
        return "acting" if acting else "reading" if reading else None

    def cookie(self, level: Level, at: float, nonce: str) -> str:
        """Return a session of this level that begins `at` this time, in seconds."""
        said = f"{level}.{int(at) + LASTS_S}.{nonce}"
        return f"{said}.{self._sign('session', said)}"

    def session(self, cookie: str, at: float) -> Level | None:
        """Return what a cookie is good for; None if we did not sign it, or its time is over."""
        said, _, signature = cookie.rpartition(".")
        if not _same(signature, self._sign("session", said)):
            return None
        level, ends, _ = said.split(".", 2)
        return ("acting" if level == "acting" else "reading") if int(ends) > at else None

    def csrf(self, cookie: str) -> str:
        """Return what the page of this session has to say with each act: another site can't know it."""
        return self._sign("csrf", cookie)

    def says(self, cookie: str, csrf: str) -> bool:
        return _same(csrf, self.csrf(cookie))

    def _sign(self, purpose: str, said: str) -> str:
        return hmac.new(self._tokens.key.encode(), f"{purpose}:{said}".encode(), hashlib.sha256).hexdigest()


def _same(found: str, expected: str) -> bool:
    return hmac.compare_digest(found.encode(errors="replace"), expected.encode())
