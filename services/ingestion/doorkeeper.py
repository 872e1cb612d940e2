"""Who is let in: a request's key is looked at before its body, its quota before and after, and each refusal is told."""

import ipaddress
import math
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request

from services.ingestion.audit import Audit, Refusal
from services.ingestion.key_file import KeyFile
from services.ingestion.keys import Caller, Denied, Keyring, Scope, forbidden
from services.ingestion.meters import method_of, route_of
from services.ingestion.quotas import Quotas
from services.runtime.errors import ConfigError

ANYBODY = Caller()
REASONS = {  # of what is refused for other reasons than who asks
    HTTPStatus.BAD_REQUEST: "coding",
    HTTPStatus.NOT_FOUND: "path",
    HTTPStatus.METHOD_NOT_ALLOWED: "method",
    HTTPStatus.REQUEST_TIMEOUT: "slow",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "size",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "type",
    HTTPStatus.SERVICE_UNAVAILABLE: "full",
}
OTHER = "other"
_CALLER = "thalweg.caller"  # in a request's scope
_REASON = "thalweg.reason"


class Doorkeeper:
    """Holds requests to what their keys are good for on this stream. Without a file of keys all are let in.

    A producer has at most so many `listeners` to predictions at once: they share the connections with all others.
    """

    def __init__(self, keys: KeyFile, stream: str, audit: Audit, listeners: int) -> None:
        self._keys, self._stream, self._audit = keys, stream, audit
        self._quotas, self._listeners, self._listening = Quotas(), listeners, Counter[str]()

    @property
    def opened(self) -> bool:
        """Whether nobody needs a key."""
        return self._keys.ring() is None

    def admit(self, request: Request, scope: Scope) -> Caller:
        """Return who asks; raise HTTPException before the body is read: 401, 403, or 429 where the quota is spent."""
        ring = self._keys.ring()
        if ring is None:
            return ANYBODY
        caller = self._known(ring, request)
        if denied := forbidden(caller, scope, self._stream):
            challenge = f'{_REALM}, error="insufficient_scope", scope="{scope}"'
            raise _refused(request, denied, {"WWW-Authenticate": challenge}, unread=True)
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else 1
        if denied := self._quotas.over(caller, 1, size, time.monotonic()):
            raise _too_much(request, denied, unread=True)
        return caller

    def charge(self, request: Request, caller: Caller, records: int, size: int) -> None:
        """Count what a request brings, or raise 429: nothing of it is taken then."""
        if denied := self._quotas.charge(caller, records, size, time.monotonic()):
            raise _too_much(request, denied, unread=False)

    def seat(self, request: Request, caller: Caller) -> Callable[[], None]:
        """Count one more who listens, and return how to count it out again; raise 429 if these are too many."""
        name = caller.producer
        if caller.grant is not None and self._listening[name] >= self._listeners:
            message = f"{name} listens {self._listeners} times already; end one, or read the topic from Kafka"
            denied = Denied(429, "listeners", message, caller.key, name)
            raise _too_much(request, denied, unread=False)
        self._listening[name] += 1
        return lambda: self._listening.subtract([name])

    def still(self, request: Request, caller: Caller) -> bool:
        """Tell whether a caller who was let in is still welcome: its key may have ended since."""
        ring = self._keys.ring()
        denied = None if ring is None else ring.again(caller, time.time())
        if denied is not None:
            self._audit.note(_refusal(request, denied.status, denied.reason, denied.key, denied.producer))
        return denied is None

    def tell(self, request: Request, error: HTTPException) -> None:
        """Tell of a refusal, whoever it came from."""
        denied: Denied | None = request.scope.get(_REASON)
        caller: Caller = request.scope.get(_CALLER, ANYBODY)
        if denied is not None:
            refusal = _refusal(request, denied.status, denied.reason, denied.key, denied.producer)
        else:
            reason = REASONS.get(HTTPStatus(error.status_code), OTHER)
            refusal = _refusal(request, error.status_code, reason, caller.key, caller.producer)
        self._audit.note(refusal)

    def _known(self, ring: Keyring, request: Request) -> Caller:
        found = ring.caller(_bearer(request), time.time())
        if isinstance(found, Denied):
            challenge = _REALM if found.reason == "none" else f'{_REALM}, error="invalid_token"'
            raise _refused(request, found, {"WWW-Authenticate": challenge}, unread=True)
        request.scope[_CALLER] = found
        return found


_REALM = 'Bearer realm="thalweg"'


def expect_guarded(host: str, keys: KeyFile) -> None:
    """Raise ConfigError where strangers could come in, and no key is asked for."""
    if keys.ring() is None and not is_loopback(host):
        raise ConfigError(
            f"THALWEG_INGESTION_HOST: {host} is not this machine alone, and {keys.path} has no keys; make the first"
            f" one (thalweg keys create NAME --file {keys.path}), or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Tell whether nobody but this machine reaches it; a name other than localhost may be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _too_much(request: Request, denied: Denied, *, unread: bool) -> HTTPException:
    return _refused(request, denied, {"Retry-After": str(max(1, math.ceil(denied.after_s)))}, unread=unread)


def _refused(request: Request, denied: Denied, headers: dict[str, str], *, unread: bool) -> HTTPException:
    """Return the answer; the connection is closed where a body that is unread may still be on its way."""
    request.scope[_REASON] = denied
    close = {"Connection": "close"} if unread and request.method == "POST" else {}
    return HTTPException(denied.status, denied.message, {**headers, **close})


def _refusal(request: Request, status: int, reason: str, key: str, producer: str) -> Refusal:
    address = "" if request.client is None else request.client.host
    return Refusal(status, reason, method_of(request.scope), route_of(request.scope), _plain(address), key, producer)


def _plain(address: str) -> str:
    """Return an address as it may stand in a log: a proxy may have said anything."""
    return "".join(mark for mark in address if mark.isalnum() or mark in ".:%-_")[:64]
