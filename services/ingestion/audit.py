"""Every refusal is told: who was refused, from where, what and why. No secret is among it, and no byte of a body.

The first of its kind is told at once; those that are like it and come within a second are told together, with their
number, so that nobody fills the disk by being refused. The lines' numbers add up to all that were refused.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from services.runtime.logs import FIELDS

log = logging.getLogger(__name__)
TOGETHER_S = 1.0
MOST = 1000  # kinds that are open at once; of more, who and from where is not told apart
MANY = "many"


class Refusal(msgspec.Struct, frozen=True):
    """One kind of refusal: of these requests, of this caller. `key` is a key's public id, empty where there is none."""

    status: int
    reason: str
    method: str
    route: str
    address: str
    key: str = ""
    producer: str = ""


class Audit:
    """Tells of refusals, and has each counted by `count(reason, route)`. Used in one event loop."""

    def __init__(self, count: Callable[[str, str], None]) -> None:
        self._count = count
        self._more: dict[Refusal, int] = {}  # the open ones, and how many came since they were told last

    def note(self, refusal: Refusal) -> None:
        self._count(refusal.reason, refusal.route)
        if refusal not in self._more and len(self._more) >= MOST:
            refusal = msgspec.structs.replace(refusal, address=MANY, key="", producer="")
        if refusal in self._more:
            self._more[refusal] += 1
        else:
            _tell(refusal, 1)
            self._open(refusal)

    def _open(self, refusal: Refusal) -> None:
        self._more[refusal] = 0
        asyncio.get_running_loop().call_later(TOGETHER_S, self._over, refusal)

    def _over(self, refusal: Refusal) -> None:
        if more := self._more.pop(refusal, 0):
            _tell(refusal, more)
            self._open(refusal)

    def close(self) -> None:
        """Tell what is left, once the loop has ended."""
        for refusal, more in self._more.items():
            if more:
                _tell(refusal, more)
        self._more.clear()


def _tell(refusal: Refusal, times: int) -> None:
    told = {name: value for name, value in msgspec.structs.asdict(refusal).items() if value != ""} | {"times": times}
    log.warning("refused %s", " ".join(f"{name}={value}" for name, value in told.items()), extra={FIELDS: told})
