"""How many rows there were in each hour of event time: a windowed table of Faust, exact after a crash.

A message that is read twice must not count twice, and one count is of many messages. So the counts of an hour stand in
the table with the offset up to which they are, and what a message adds to it is left out where that is not before it.
Faust's own expiry goes by the clock on the wall, which replayed events know nothing of: only the newest are kept here.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

HOUR_S = 3600
KEPT = 48


class Hours:
    """The counts of one topic. They are added up in memory, and put into the table with `save`."""

    def __init__(self, table: Any) -> None:  # noqa: ANN401 - Faust's window wrapper, which ships no usable type
        self._windows = table
        self._added: defaultdict[tuple[int, int], int] = defaultdict(int)  # (partition, hour): rows since the last save
        self._upto: dict[tuple[int, int], int] = {}

    def forget(self) -> None:
        self._added.clear()
        self._upto.clear()

    def count(self, partition: int, offset: int, times: NDArray[np.int64]) -> None:
        """Count the rows of one message, whose event times are in µs."""
        hours, rows = np.unique(times // (HOUR_S * 1_000_000), return_counts=True)
        for hour, n in zip(hours.tolist(), rows.tolist(), strict=True):
            place = partition, hour
            if place not in self._upto:
                self._upto[place] = self._stored(place)["upto"]
            if offset > self._upto[place]:
                self._added[place] += n
                self._upto[place] = offset

    def save(self, partition: int) -> None:
        """Put what was counted into the table. In a stream's iteration only, as Faust wants it."""
        stored = [hour for kept, hour in self._keys() if kept == partition]
        fresh = [hour for mine, hour in self._added if mine == partition]
        oldest = max([*stored, *fresh], default=0) - KEPT + 1
        for hour in fresh:
            place = partition, hour
            added, upto = self._added.pop(place), self._upto.pop(place)
            if hour >= oldest:
                rows = self._stored(place)["rows"] + added
                self._at(place)[str(partition)] = {"rows": rows, "upto": upto}
        for hour in stored:
            if hour < oldest:
                del self._at((partition, hour))[str(partition)]

    def view(self) -> dict[str, int]:
        """Return the rows of each of the newest hours, by the second at which it begins, the oldest first."""
        found: defaultdict[int, int] = defaultdict(int)
        for partition, hour in self._keys():
            found[hour] += self._stored((partition, hour))["rows"]
        for (_, hour), rows in self._added.items():
            found[hour] += rows
        oldest = max(found, default=0) - KEPT + 1
        return {str(hour * HOUR_S): found[hour] for hour in sorted(found) if hour >= oldest}

    def _keys(self) -> list[tuple[int, int]]:
        return [(int(key), round(began / HOUR_S)) for key, (began, _) in self._windows.table]

    def _stored(self, place: tuple[int, int]) -> Mapping[str, int]:
        found: Mapping[str, int] = self._at(place)[str(place[0])].value()
        return found or {"rows": 0, "upto": -1}

    def _at(self, place: tuple[int, int]) -> Any:  # noqa: ANN401
        return self._windows.relative_to(float(place[1] * HOUR_S))
