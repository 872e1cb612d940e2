"""What a group remembers for a feature, as events: each as `services/features` keeps it in numbers. Pure.

A window is its panes, so the oldest of them counts whole, and a late event finds the panes that the ring still has.
"""

from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol

import numpy as np

from services.features import kernels
from services.features.filling import LARGEST
from services.features.state import Windows
from services.runtime.grammar import Duration, Ewma, Lag, Operator, SinceLast, Windowed

MOST = 5000  # events that a pane, or what has no panes, keeps: where there were more, their number is all that is known


class Seen(NamedTuple):
    """An event that was accepted: `row` has its fields, `time` is in microseconds since 1970."""

    offset: int
    name: str
    time: int
    row: Any


class Made(NamedTuple):
    """What a feature was made of.

    `counted` of `total` events are known, in the order in which they came, with their `weights` where they count
    differently. `given` is all that the engine needs of the past to say the same. Without a `start` (event time, µs)
    the past has no limit.
    """

    counted: Sequence[Seen]
    total: int
    given: Sequence[Seen]
    start: int | None = None
    weights: Sequence[float] | None = None

    @property
    def whole(self) -> bool:
        return len(self.counted) == self.total


class Memory(Protocol):
    """What a group remembers for one feature."""

    def add(self, event: Seen) -> None: ...

    def made(self, time: int) -> Made:
        """Return of what the feature is made for an event of this time."""


def memory(operator: Operator, lateness: int) -> Memory | None:
    """Return a fresh one; None for an operator that knows no past."""
    if isinstance(operator, Windowed):
        return _Window(operator.window, getattr(operator, "of", None), lateness)
    match operator:
        case Lag():
            return _Lag(operator.n)
        case SinceLast():
            return _Newest()
        case Ewma():
            return _Fading(operator.of, operator.half_life.us)
    return None


def number(row: Any, field: str) -> float | None:  # noqa: ANN401 - a record of the stream's own type
    """Return the number of a field as the engine takes it, None where there is none."""
    value = getattr(row, field)
    return None if value is None else min(max(float(value), -LARGEST), LARGEST)


class _Pane:
    def __init__(self, place: int) -> None:
        self.place, self.count = place, 0
        self.events: deque[Seen] = deque(maxlen=MOST)


class _Window:
    """The ring of panes of one window, as `kernels.fold_group` keeps it."""

    def __init__(self, window: Duration, of: str | None, lateness: int) -> None:
        windows = Windows(window.us, lateness)
        self._of, self._width, self._mask = of, windows.width, windows.places - 1
        self._ring: dict[int, _Pane] = {}

    def add(self, event: Seen) -> None:
        place = event.time // self._width
        held = self._ring.get(place & self._mask)
        if held is None or held.place < place:
            held = self._ring[place & self._mask] = _Pane(place)
        if held.place == place and (self._of is None or number(event.row, self._of) is not None):
            held.count += 1
            held.events.append(event)

    def made(self, time: int) -> Made:
        last = time // self._width
        first = last - kernels.PANES + 1
        found = ((place, self._ring.get(place & self._mask)) for place in range(first, last + 1))
        panes = [pane for place, pane in found if pane is not None and pane.place == place]
        events = sorted(chain.from_iterable(pane.events for pane in panes), key=lambda event: event.offset)
        return Made(events, sum(pane.count for pane in panes), events, first * self._width)


class _Lag:
    def __init__(self, n: int) -> None:
        self._events: deque[Seen] = deque(maxlen=n)
        self._n = n

    def add(self, event: Seen) -> None:
        self._events.append(event)

    def made(self, time: int) -> Made:
        del time
        counted = [self._events[0]] if len(self._events) == self._n else []
        return Made(counted, len(counted), [*self._events])


class _Newest:
    def __init__(self) -> None:
        self._events: list[Seen] = []

    def add(self, event: Seen) -> None:
        if not self._events or event.time >= self._events[0].time:
            self._events = [event]

    def made(self, time: int) -> Made:
        del time
        return Made(self._events, len(self._events), self._events)


class _Fading:
    """The events of an `ewma`. A weight is as of the newest of them; one out of order counts as if it came then."""

    def __init__(self, of: str, half_life: int) -> None:
        self._of, self._half_life, self._count = of, half_life, 0
        self._events: deque[Seen] = deque(maxlen=MOST)

    def add(self, event: Seen) -> None:
        if number(event.row, self._of) is not None:
            self._count += 1
            self._events.append(event)

    def made(self, time: int) -> Made:
        del time
        events = [*self._events]
        clocks = np.maximum.accumulate(np.array([event.time for event in events], np.int64))
        weights = 2.0 ** ((clocks - clocks[-1]) / self._half_life) if events else np.zeros(0)
        return Made(events, self._count, events, None, weights.tolist())
