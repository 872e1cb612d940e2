"""Axes: where a time or a number stands in a picture, and which of them are written beside it."""

import datetime as dt
import math
from typing import NamedTuple

from services.replay.drift.words import DAY, HOUR, MINUTE, SECOND

_STEPS = (
    *(SECOND * n for n in (1, 5, 15, 30)),
    *(MINUTE * n for n in (1, 5, 15, 30)),
    *(HOUR * n for n in (1, 3, 6, 12)),
    *(DAY * n for n in (1, 2, 7, 14)),
)
_MONTHS = (1, 2, 3, 6, 12, 24, 60, 120)
MOST = 8
_MONTH = 30 * DAY
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Axis(NamedTuple):
    """Values from `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def within(self, value: float) -> float:
        """Return the same, at an end where it would be beyond it."""
        return self(min(max(value, self.low), self.high))


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Return round numbers between the two: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    if rough <= 0 or not math.isfinite(rough):
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last == first and most < 2 * MOST:  # one alone says nothing of the scale
        return ticks(low, high, 2 * most)
    return [round(n * step, 12) for n in range(first, last + 1)]


def time_ticks(start: int, end: int, most: int = MOST) -> list[tuple[int, str]]:
    """Return round times (µs) and what is written at each."""
    rough = (end - start) / most
    step = next((step for step in _STEPS if step >= rough), None)
    if step is None:
        return _months(start, end, next((n for n in _MONTHS if n * _MONTH >= rough), _MONTHS[-1]))
    form = "%d %b" if step >= DAY else "%H:%M:%S" if step < MINUTE else "%H:%M"
    first = -(-start // step) * step
    return [(time, _named(time, form)) for time in range(first, end + 1, step)]


def _months(start: int, end: int, every: int) -> list[tuple[int, str]]:
    first = _EPOCH + dt.timedelta(microseconds=start)
    month, found = first.year * 12 + first.month - 1, list[tuple[int, str]]()
    month = -(-month // every) * every
    while True:
        at = dt.datetime(month // 12, month % 12 + 1, 1, tzinfo=dt.UTC)
        time = (at - _EPOCH) // dt.timedelta(microseconds=1)
        if time > end:
            return found
        if time >= start:
            found.append((time, f"{at:%b %Y}" if at.month == 1 or not found else f"{at:%b}"))
        month += every


def _named(time: int, form: str) -> str:
    at = _EPOCH + dt.timedelta(microseconds=time)
    midnight = form != "%d %b" and time % DAY == 0
    return f"{at:%d %b}" if midnight else f"{at:{form}}"
