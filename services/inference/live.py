"""Which version of the online model scores: the newest, or the last that could, while the newest can't be loaded."""

import logging

from services.runtime.models import ONLINE

log = logging.getLogger(__name__)


class Live:
    """A version that was refused is not asked again while there is another that answered."""

    def __init__(self) -> None:
        self._answered: int | None = None  # the last that did
        self._refused: int | None = None  # the last that was

    def version(self, newest: int) -> int:
        return self._answered if newest == self._refused and self._answered is not None else newest

    def answered(self, version: int) -> None:
        self._answered = version

    def refused(self, version: int, why: object) -> None:
        self._refused = version
        if self._answered == version:
            self._answered = None
        elif self._answered is not None:
            log.error("%s@%d is not served, %s@%d goes on: %s", ONLINE, version, ONLINE, self._answered, why)
