"""Sums by bucket of time whose number is bounded: where there would be too many, they become wider."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.replay.drift.words import DAY, HOUR, MINUTE, SECOND

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
WIDTHS = (
    *(SECOND // 100, SECOND // 10, SECOND, 5 * SECOND, 15 * SECOND, 30 * SECOND),
    *(MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE),
    *(HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR),
    *(DAY * 2**n for n in range(20)),
)  # µs; each is a multiple of the one before it, so that buckets merge whole


class Buckets:
    """Rows of numbers by series and bucket of time, all series in buckets of the same width (µs).

    Rows that meet in a bucket are added, or merged by another ufunc. Whatever the order in which they come, it ends in
    the same buckets: there are at most `most` that are not empty.
    """

    def __init__(self, most: int, merge: Callable[[Floats, Floats], Floats] = np.add) -> None:
        self._most, self._merge, self._level = most, merge, 0
        self._series: dict[str, dict[int, Floats]] = {}
        self._known: set[int] = set()

    @property
    def width(self) -> int:
        width: int = WIDTHS[self._level]
        return width

    @property
    def names(self) -> list[str]:
        return list(self._series)

    def fold(self, name: str, times: Ints, rows: Floats) -> None:
        """Merge rows (n, k) of these times into a series."""
        if not len(times):
            return
        series = self._series.setdefault(name, {})
        keys, places = np.unique(times // self.width, return_inverse=True)
        order = np.argsort(places, kind="stable")
        starts = np.searchsorted(places[order], np.arange(len(keys)))
        parts = self._merge.reduceat(rows[order], starts, axis=0)  # type: ignore[attr-defined]
        for key, part in zip(keys.tolist(), parts, strict=True):
            series[key] = self._merge(series[key], part) if key in series else part
        self._known.update(keys.tolist())
        while len(self._known) > self._most and self._level + 1 < len(WIDTHS):
            self._widen()

    def _widen(self) -> None:
        factor = WIDTHS[self._level + 1] // WIDTHS[self._level]
        self._level += 1
        self._known = {key // factor for key in self._known}
        for name, series in self._series.items():
            wider: dict[int, Floats] = {}
            for key, part in series.items():
                at = key // factor
                wider[at] = self._merge(wider[at], part) if at in wider else part
            self._series[name] = wider

    def times(self) -> Ints:
        """Return where each bucket begins, µs, in order."""
        return np.array(sorted(self._known), np.int64) * self.width

    def rows(self, name: str, columns: int) -> Floats:
        """Return a series, a row for each of `times`; 0 where it has nothing."""
        found, nothing = self._series.get(name, {}), np.zeros(columns)
        rows = [found.get(key, nothing) for key in sorted(self._known)]
        return np.array(rows, np.float64).reshape(len(rows), columns)
