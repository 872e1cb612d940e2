"""API keys: who asks, and what a key is good for. Pure: whoever asks brings the time.

A key is `thalweg_<id>_<secret>`. The id is public and names it in lists and logs; of the secret, 256 random bits, only
the SHA-256 is kept: so much randomness can't be guessed from its hash, which needs neither salt nor slowness (NIST SP
800-63B, 5.1.2.2). Times are seconds since 1970.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

import msgspec

Scope: TypeAlias = Literal["events:write", "labels:write", "predictions:read"]
Quota: TypeAlias = Annotated[float, msgspec.Meta(gt=0)] | None  # None: as much as is taken
Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
SCOPES: tuple[Scope, ...] = ("events:write", "labels:write", "predictions:read")
EVERY = "*"  # each stream
NOBODY = bytes(32)  # what the secret of an unknown id is compared with: no SHA-256 that anybody knows a text for
_TOKEN = re.compile(r"thalweg_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key of a producer, as the file has it; it is good until it `ends`, if it does, or was `revoked`."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$")]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created: Time
    ends: Time | None = None
    revoked: Time | None = None


class Producer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose keys they are, what those are good for on which streams, and how much all of them may send a second."""

    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1)]
    streams: Annotated[list[str], msgspec.Meta(min_length=1)]
    records_s: Quota = None
    bytes_s: Quota = None
    keys: list[Key] = []


class Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of the keys: producers by name."""

    producers: dict[Name, Producer] = {}


class Caller(msgspec.Struct, frozen=True):
    """Who asks: a producer with one of its keys; nobody in particular where none is needed."""

    key: str = ""
    producer: str = ""
    grant: Producer | None = None


class Denied(msgspec.Struct, frozen=True):
    """A refusal. `reason` is a word for logs and metrics, `message` what the caller is told."""

    status: int
    reason: str
    message: str
    key: str = ""
    producer: str = ""
    after_s: float = 0.0  # when it is worth another try


_SEND = "send `Authorization: Bearer KEY`; whoever runs this has keys: thalweg keys create"


class Keyring:
    """Knows keys again. ValueError if two have one id."""

    def __init__(self, producers: Mapping[str, Producer]) -> None:
        pairs = [(name, producer, key) for name, producer in producers.items() for key in producer.keys]
        self._held = {key.id: (Caller(key.id, name, producer), _Good(key)) for name, producer, key in pairs}
        if len(self._held) < len(pairs):
            raise ValueError("two keys have one id")

    def caller(self, token: str | None, at: float) -> Caller | Denied:
        """Return whose key this is. It takes as long for an id that nobody has, and a secret that is almost right."""
        found = None if token is None else _TOKEN.fullmatch(token)
        if found is None:
            return Denied(401, "none", f"no key: {_SEND}") if token is None else _unknown("malformed")
        name, secret = found.groups()
        caller, good = self._held.get(name, _STRANGER)
        if not hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), good.digest):
            return _unknown("mismatch" if caller.key else "unknown", name, caller.producer)
        return good.over(caller, at) or caller

    def again(self, caller: Caller, at: float) -> Denied | None:
        """Say whether the key of a caller, who was let in before, is good no more."""
        held, good = self._held.get(caller.key, _STRANGER)
        if not held.key:
            return _unknown("unknown", caller.key, caller.producer)
        return good.over(caller, at) or None


class _Good:
    """What proves a key, and until when it is good."""

    def __init__(self, key: Key) -> None:
        self.digest = bytes.fromhex(key.sha256)
        self._revoked = key.revoked is not None
        self._ends = float("inf") if key.ends is None else key.ends.timestamp()

    def over(self, caller: Caller, at: float) -> Denied | None:
        if self._revoked:
            return Denied(401, "revoked", "this key was revoked", caller.key, caller.producer)
        if at >= self._ends:
            return Denied(401, "ended", "this key has ended: it was rotated", caller.key, caller.producer)
        return None


_STRANGER = (Caller(), _Good(Key("0" * 12, NOBODY.hex(), datetime.fromtimestamp(0, UTC))))


def forbidden(caller: Caller, scope: Scope, stream: str) -> Denied | None:
    """Say why this caller may not do this on this stream, if so."""
    grant = caller.grant
    if grant is None:
        return None
    if scope not in grant.scopes:
        message = f"this key is for {', '.join(grant.scopes)}; this needs {scope}"
        return Denied(403, "scope", message, caller.key, caller.producer)
    if stream not in grant.streams and EVERY not in grant.streams:
        return Denied(403, "stream", f"this key is not for the stream {stream}", caller.key, caller.producer)
    return None


def _unknown(reason: str, key: str = "", producer: str = "") -> Denied:
    return Denied(401, reason, f"no key that is good here: {_SEND}", key, producer)
