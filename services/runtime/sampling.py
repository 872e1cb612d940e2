"""Which events a trace is begun for, decided when they come in: so many a second, and all of some keys. Pure."""

from collections.abc import Collection

import msgspec


class Budget:
    """A token bucket: `rate` a second, and a second's worth at once. Times are seconds of one clock."""

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(1.0, rate) if rate else 0.0
        self._left, self._at = self._most, 0.0

    def whole(self, now: float) -> int:
        """Return how many may be taken now."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
        return int(self._left)

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        there = self.whole(now) > 0
        self._left -= there
        return there

    def spend(self, count: int, now: float) -> None:
        """Count what was begun, by others too, down to nothing."""
        self.whole(now)
        self._left = max(0.0, self._left - count)


class Rule(msgspec.Struct, frozen=True):
    """`rate` traces begun a second, each event of `keys`, and whatever takes longer than `slow_s` seconds."""

    rate: float = 10.0
    keys: frozenset[bytes] = frozenset()
    slow_s: float = 2.0


def keys(text: str) -> frozenset[bytes]:
    """Return the keys of a list that is joined by commas."""
    return frozenset(part.strip().encode() for part in text.split(",") if part.strip())


def first_of(keys: Collection[bytes], found: Collection[bytes | None], left: int) -> list[int]:
    """Return the places of the records to follow: all that have one of the keys, and the first `left` others."""
    if not keys:
        return list(range(min(left, len(found))))
    named = [place for place, key in enumerate(found) if key in keys]
    others = [place for place, key in enumerate(found) if key not in keys]
    return sorted([*named, *others[:left]])
