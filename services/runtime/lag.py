"""How far a consumer is behind: in records, and in seconds, the age of the oldest record that it has not read."""

import time
from collections.abc import Callable, Mapping

from services.runtime.records import Position


class Lag:
    """Of one consumer. The broker's client tells how much is unread, the loop what it has committed.

    What is unread came after all that was read, and after the partition was last seen to be read to its end. So its age
    is at most that of the later of the two; before either is known, it is as old as we know of it. The log's clock is
    the broker's or the sender's, and ours may differ: an age is never negative.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._unread: Mapping[Position, int] = {}
        self._after: dict[Position, float] = {}  # seconds since 1970: what is unread came after that
        self._noticed: dict[Position, float] = {}  # when it was heard of first

    def unread(self, found: Mapping[Position, int]) -> None:
        """Note how many records of each partition that is assigned are not read yet."""
        now = self._now()
        after = {position: self._after[position] for position in found if position in self._after}
        self._after = after | {position: now for position, count in found.items() if not count}
        self._noticed = {position: self._noticed.get(position, now) for position in found}
        self._unread = found

    def read(self, position: Position, timestamp_ms: int) -> None:
        """Note the timestamp of the record that was read last."""
        if timestamp_ms > 0:
            self._after[position] = max(timestamp_ms / 1000, self._after.get(position, 0.0))

    def seconds(self) -> dict[str, float]:
        """Return by topic the age of the oldest record that is unread; 0.0 where all are read."""
        now, found = self._now(), dict[str, float]()
        for position, count in self._unread.items():
            since = self._after.get(position, self._noticed.get(position, now))
            age = max(now - since, 0.0) if count else 0.0
            found[position.topic] = max(age, found.get(position.topic, 0.0))
        return found

    def records(self) -> dict[str, int]:
        """Return by topic how many records are unread."""
        found = dict[str, int]()
        for position, count in self._unread.items():
            found[position.topic] = found.get(position.topic, 0) + count
        return found
