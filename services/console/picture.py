"""The core behind a lock: readers fold on threads of their own, and the server looks."""

import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from services.console.core import PARTS, ConsoleCore, Cursor, Part

Found = TypeVar("Found")
_encode = msgspec.json.Encoder().encode


class Picture:
    """Each part is encoded once for all who look at it."""

    def __init__(self, make: Callable[[], ConsoleCore]) -> None:
        self._make, self._core = make, make()
        self._lock = threading.Lock()
        self._bodies: dict[Part, tuple[int, bytes]] = {}

    def ask(self, question: Callable[[ConsoleCore], Found]) -> Found:
        """Have the core do something, or say something, that nobody else changes meanwhile."""
        with self._lock:
            return question(self._core)

    def renew(self) -> None:
        """Begin again: the log is another."""
        with self._lock:
            before, self._core = self._core, self._make()
            for part, number in before.news.items():
                self._core.news[part] = number + 1
            self._core.quality.epoch = before.quality.epoch + 1

    def news(self) -> dict[Part, int]:
        return self.ask(lambda core: dict(core.news))

    def body(self, part: Part) -> bytes:
        """Return the JSON of a part as it is now."""
        with self._lock:
            number = self._core.news[part]
            if part not in self._bodies or self._bodies[part][0] != number:
                self._bodies[part] = number, _encode(self._core.view(part))
            return self._bodies[part][1]

    def since(self, cursor: Cursor) -> tuple[bytes, Cursor]:
        """Return the JSON of what is new in "quality", and the next cursor."""
        with self._lock:
            said, cursor = self._core.quality.view(cursor)
        return _encode(said), cursor


__all__ = ["PARTS", "Cursor", "Part", "Picture"]
