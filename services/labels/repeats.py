"""Which labels were sent before: a fold over the labels alone, whatever the rows do beside them.

An id is remembered until the labels' clock passes its label's time + horizon. By then its row was given up or has its
label, so nothing is learned twice of what is forgotten. `MOST` bounds what is remembered where labels crowd.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import TypeAlias

MOST = 1 << 18  # ids of a partition; the oldest are forgotten first
Remembered: TypeAlias = list[tuple[int, str]]  # (time, id), ordered


class Repeats:
    """Remembers the ids of one partition's labels. `horizon`, times and clock are in microseconds."""

    def __init__(self, horizon: int) -> None:
        self._horizon = horizon
        self._ids: set[str] = set()
        self._ends: Remembered = []  # a heap: what is forgotten next

    def find(self, ids: Sequence[str], times: Sequence[int], clock: int) -> list[int]:
        """Take the labels that come next; return, by index, which are repeated. `clock` is the labels' so far."""
        repeated = []
        for index, (name, time) in enumerate(zip(ids, times, strict=True)):
            if name in self._ids:
                repeated.append(index)
                continue
            clock = max(clock, time)
            self._ids.add(name)
            heappush(self._ends, (time, name))
            self._forget(clock)
        return repeated

    def _forget(self, clock: int) -> None:
        while self._ends and (self._ends[0][0] + self._horizon < clock or len(self._ends) > MOST):
            self._ids.remove(heappop(self._ends)[1])

    def state(self) -> Remembered:
        return sorted(self._ends)

    def load(self, state: Remembered) -> None:
        self._ends = [*state]
        heapify(self._ends)
        self._ids = {name for _, name in state}
