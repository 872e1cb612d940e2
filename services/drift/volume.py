"""The monitor of how many events there are in an hour of event time, against the same hour of the days before.

A block of rows of a partition took as long as from the newest event of the block before to its own newest. What was to
be expected in that time is the sum of what each hour of the day had, hours of the last weeks counting most. The log of
what came over what was to be expected, over several spans of blocks, is held against how it swings: rows that came
independently (a Poisson process) swing least.
"""

import math

import msgspec
import numpy as np

from services.drift import row_kernels
from services.drift.kernels import Floats
from services.drift.panel import SPANS
from services.drift.reducing import ROWS
from services.drift.signals import Signal, calm
from services.drift.swings import Swings, unpacked
from services.runtime.alerts import Place
from services.runtime.summaries import Source

_ROWS = ROWS * SPANS  # of each window
HOUR = 3_600_000_000  # µs
DAY = 24
MEMORY = 14.0  # days
CALM = 0.5
LITTLE = 0.5  # of what was to be expected


class VolumeState(msgspec.Struct):
    """What Volume holds."""

    last: dict[int, int]
    profiles: dict[int, bytes]
    logs: bytes
    marks: list[list[int]]
    count: int
    standing: int
    swings: tuple[int, bytes]


class Volume:
    """Folds the sources of summaries of all partitions. `length` blocks are what the stream is like at first."""

    tests = len(SPANS)

    def __init__(self, needed: float, length: int) -> None:
        self._needed, self._length = needed, length
        self._last: dict[int, int] = {}
        self._profiles: dict[int, Floats] = {}  # by partition: rows and hours by hour of the day
        self._logs = np.zeros(length)  # of what came over what was to be expected, block by block, in a ring
        self._marks: list[list[int]] = []
        self._count = 0
        self._standing = 0  # since which block an alert stands
        self._swings = Swings(SPANS, 1.0)

    def fold(self, source: Source) -> list[Signal]:
        last = self._last.get(source.partition)
        self._last[source.partition] = max(source.ended, last or source.ended)
        if last is None or source.ended <= last:
            return []
        if source.partition not in self._profiles:
            self._profiles[source.partition] = np.zeros((2, DAY))
        learned = 0 if self._standing else ROWS
        expected = row_kernels.expect(self._profiles[source.partition], last, source.ended, HOUR, learned, MEMORY)
        if not expected:
            return []
        self._logs[self._count % self._length] = math.log(ROWS / expected)
        self._marks = [*self._marks[-self._length + 1 :], [source.began, source.partition, source.first]]
        self._count += 1
        return self._weigh(source) if self._count >= self._length // 2 else []

    def _weigh(self, source: Source) -> list[Signal]:
        means = np.empty(len(SPANS))
        row_kernels.window_means(self._logs, self._count, SPANS, means)
        surprise = self._swings.fold(means * means * _ROWS, stands=bool(self._standing))
        if self._count < self._length:
            return []
        greatest = max(surprise.tolist())
        if self._standing:
            return self._go_on(source, greatest)
        if greatest < self._needed:
            return []
        self._standing = self._count
        return [self._signal(source, float(means[surprise.argmax()]))]

    def _go_on(self, source: Source, greatest: float) -> list[Signal]:
        if greatest < CALM * self._needed:
            self._standing = 0
            return [calm("volume", "stream", source, "rate_ratio", 1.0, "as many events come again as before")]
        if self._count - self._standing >= self._length:
            self._standing = 0
            self._scale(float(self._logs.mean()))
            return [
                calm(
                    "volume",
                    "stream",
                    source,
                    "rate_ratio",
                    1.0,
                    f"for {self._length * ROWS:,} events as many have come as now: that is normal now",
                )
            ]
        return []

    def _scale(self, mean: float) -> None:
        """Let what came lately be what is to be expected."""
        for profile in self._profiles.values():
            profile[0] *= math.exp(mean)
        self._logs -= mean

    def _signal(self, source: Source, mean: float) -> Signal:
        order = [(self._count - 1 - back) % self._length for back in range(self._length)]
        back = int(np.cumsum((self._logs[order] - mean / 2) * math.copysign(1, mean)).argmax())
        time, partition, offset = self._marks[-1 - back]
        factor = math.exp(mean)
        return Signal(
            "volume",
            "stream",
            on=True,
            calm=False,
            at=source.end,
            since=Place(time, source.topic, partition, offset),
            statistic="rate_ratio",
            strength=factor,
            reason=f"{factor:.3g} times as many events come as is usual at this time of day",
            severity="critical" if factor < LITTLE else "warning",
        )

    # Snapshots

    def state(self) -> VolumeState:
        profiles = {partition: profile.tobytes() for partition, profile in self._profiles.items()}
        held = self._last, profiles, self._logs.tobytes(), self._marks, self._count, self._standing
        return VolumeState(*held, self._swings.state())

    def load(self, held: VolumeState) -> None:
        self._last, self._marks = held.last, held.marks
        self._logs = unpacked(held.logs, self._logs)
        self._profiles = {
            partition: unpacked(profile, np.zeros((2, DAY))) for partition, profile in held.profiles.items()
        }
        self._count, self._standing = held.count, held.standing
        self._swings.load(*held.swings)
