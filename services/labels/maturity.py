"""How mature the labels are: of the predictions of each hour, how many have their label, and how long it took.

Hours are of event time. Without this a metric over labelled examples misleads: the quick labels come first, and they
may be the easy ones. Waits are counted in buckets a fifth wide, so a median is right to a tenth.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.runtime.labelled import Hour

Ints: TypeAlias = NDArray[np.int64]
HOUR_US = 3_600_000_000
HOURS = 168  # kept, up to the newest event's
NEVER = -(2**62)
EDGES_US = np.round(1e6 * 2 ** (np.arange(4 * 24) / 4)).astype(np.int64)  # a second to half a year
PREDICTED, LABELLED, WAITS = 0, 1, 2  # places in an hour's counts, the last one the first of many
NOTHING = np.zeros(WAITS + len(EDGES_US) + 1, np.int64)


class Maturity:
    """Counts of one partition; equal for equal sets of rows and pairs, in whatever order they come."""

    def __init__(self) -> None:
        self._hours: dict[int, Ints] = {}
        self._newest = NEVER

    def add_rows(self, times: Ints) -> None:
        """Count predictions by their event times, in microseconds."""
        for hour, count in zip(*np.unique(times // HOUR_US, return_counts=True), strict=True):
            self._newest = max(self._newest, int(hour))
            self._add(int(hour), PREDICTED, int(count))
        for hour in [hour for hour in self._hours if hour <= self._newest - HOURS]:
            del self._hours[hour]

    def add_labels(self, times: Ints, label_times: Ints) -> None:
        """Count the labels that rows of these event times have met."""
        buckets = np.searchsorted(EDGES_US, label_times - times, side="right")
        for hour, bucket in zip((times // HOUR_US).tolist(), buckets.tolist(), strict=True):
            self._add(hour, LABELLED, 1)
            self._add(hour, WAITS + bucket, 1)

    def _add(self, hour: int, place: int, count: int) -> None:
        if hour > self._newest - HOURS:
            if hour not in self._hours:
                self._hours[hour] = NOTHING.copy()
            self._hours[hour][place] += count

    @property
    def hours(self) -> Mapping[int, Ints]:
        return self._hours

    def state(self) -> list[tuple[int, list[int]]]:
        return [(hour, self._hours[hour].tolist()) for hour in sorted(self._hours)]

    def load(self, state: Sequence[tuple[int, list[int]]]) -> None:
        self._hours = {hour: np.array(counts, np.int64) for hour, counts in state}
        self._newest = max(self._hours, default=NEVER)


def summed(partitions: Sequence[Mapping[int, Ints]], most: int) -> tuple[Hour, ...]:
    """Return what these partitions say together of the newest hours, at most so many, the newest first."""
    newest = sorted({hour for partition in partitions for hour in partition}, reverse=True)[:most]
    return tuple(_hour(hour, sum((part.get(hour, NOTHING) for part in partitions), NOTHING)) for hour in newest)


def _hour(hour: int, counts: Ints) -> Hour:
    return Hour(hour * HOUR_US // 1_000_000, int(counts[PREDICTED]), int(counts[LABELLED]), _median_s(counts[WAITS:]))


def _median_s(waits: Ints) -> float | None:
    """Return the geometric middle of the bucket in which the median is."""
    reached = np.cumsum(waits)
    if not reached[-1]:
        return None
    bucket = int(np.searchsorted(reached, (reached[-1] + 1) // 2))
    low, high = EDGES_US[max(bucket - 1, 0)], EDGES_US[min(bucket, len(EDGES_US) - 1)]
    return round(float(np.sqrt(float(low) * float(high))) / 1e6, 1)
