"""The monitor of how many events there are in an hour of event time, against the same hour of the days before.

A block of rows of a partition took as long as from the newest event of the block before to its own newest. What was to
be expected in that time is the sum of what each hour of the day had, hours of the last weeks counting most. The log of
what came over what was to be expected, over several spans of blocks, is held against how it swings: rows that came
independently (a Poisson process) swing least.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from services.drift.kernels import Floats
from services.drift.panel import SPANS
from services.drift.reducing import ROWS
from services.drift.signals import Signal
from services.drift.summaries import Source
from services.drift.swings import Swings, unpacked
from services.runtime.alerts import Place

HOUR = 3_600_000_000  # µs
DAY = 24
MEMORY = 14.0  # days
CALM = 0.5
LITTLE = 0.5  # of what was to be expected


class Block(NamedTuple):
    """The log of what came over what was to be expected, and where the block began."""

    log: float
    time: int
    partition: int
    offset: int


class VolumeState(msgspec.Struct):
    """What Volume holds."""

    last: dict[int, int]
    profiles: dict[int, bytes]
    blocks: list[Block]
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
        self._blocks: list[Block] = []
        self._count = 0
        self._standing = 0  # since which block an alert stands
        self._swings = Swings(SPANS, 1.0)

    def fold(self, source: Source) -> list[Signal]:
        last = self._last.get(source.partition)
        self._last[source.partition] = max(source.ended, last or source.ended)
        if last is None or source.ended <= last:
            return []
        shares = _hours(last, source.ended)
        if source.partition not in self._profiles:
            self._profiles[source.partition] = np.zeros((2, DAY))
        profile = self._profiles[source.partition]
        expected = _expected(profile, shares)
        if not self._standing:
            _learn(profile, shares)
        if not expected:
            return []
        self._count += 1
        block = Block(math.log(ROWS / expected), source.began, source.partition, source.first)
        self._blocks = [*self._blocks[-self._length + 1 :], block]
        return self._weigh(source) if self._count >= self._length // 2 else []

    def _weigh(self, source: Source) -> list[Signal]:
        means = np.array([sum(block.log for block in self._blocks[-span:]) / span for span in SPANS.tolist()])
        surprise = self._swings.fold(means * means * ROWS * SPANS, stands=bool(self._standing))
        if self._count < self._length:
            return []
        greatest = float(surprise.max())
        if self._standing:
            return self._go_on(source, greatest)
        if greatest < self._needed:
            return []
        self._standing = self._count
        return [self._signal(source, float(means[surprise.argmax()]))]

    def _go_on(self, source: Source, greatest: float) -> list[Signal]:
        if greatest < CALM * self._needed:
            self._standing = 0
            return [_calm(source, "as many events come again as before")]
        if self._count - self._standing >= self._length:
            self._standing = 0
            self._scale(math.exp(float(np.mean([block.log for block in self._blocks]))))
            return [_calm(source, f"for {self._length * ROWS:,} events as many have come as now: that is normal now")]
        return []

    def _scale(self, factor: float) -> None:
        """Let what came lately be what is to be expected."""
        for profile in self._profiles.values():
            profile[0] *= factor
        self._blocks = [block._replace(log=block.log - math.log(factor)) for block in self._blocks]

    def _signal(self, source: Source, mean: float) -> Signal:
        logs = np.array([block.log for block in self._blocks[::-1]])
        back = int(np.cumsum((logs - mean / 2) * math.copysign(1, mean)).argmax())
        began = self._blocks[-1 - back]
        factor = math.exp(mean)
        return Signal(
            "volume",
            "stream",
            on=True,
            calm=False,
            at=source.end,
            since=Place(began.time, source.topic, began.partition, began.offset),
            statistic="rate_ratio",
            strength=factor,
            reason=f"{factor:.3g} times as many events come as is usual at this time of day",
            severity="critical" if factor < LITTLE else "warning",
        )

    # Snapshots

    def state(self) -> VolumeState:
        profiles = {partition: profile.tobytes() for partition, profile in self._profiles.items()}
        held = self._last, profiles, self._blocks, self._count, self._standing
        return VolumeState(*held, self._swings.state())

    def load(self, held: VolumeState) -> None:
        self._last, self._blocks = held.last, held.blocks
        self._profiles = {
            partition: unpacked(profile, np.zeros((2, DAY))) for partition, profile in held.profiles.items()
        }
        self._count, self._standing = held.count, held.standing
        self._swings.load(*held.swings)


def _calm(source: Source, reason: str) -> Signal:
    return Signal(
        "volume",
        "stream",
        on=False,
        calm=True,
        at=source.end,
        since=source.end,
        statistic="rate_ratio",
        strength=1.0,
        reason=reason,
    )


def _hours(start: int, end: int) -> Floats:
    """Return how much of each hour of the day (UTC) lies between two event times, in hours."""
    shares: Floats = np.full(DAY, float((end - start) // (DAY * HOUR)))
    start = end - (end - start) % (DAY * HOUR)
    while start < end:
        step = min(HOUR - start % HOUR, end - start)
        shares[start // HOUR % DAY] += step / HOUR
        start += step
    return shares


def _expected(profile: Floats, shares: Floats) -> float:
    """Return how many rows were to be expected; an hour of which little is known is like the others."""
    rows, hours = profile
    total = float(hours.sum())
    if not total:
        return 0.0
    return float((shares * ((rows + float(rows.sum()) / total) / (hours + 1))).sum())


def _learn(profile: Floats, shares: Floats) -> None:
    """Add a block's rows, spread evenly over its time."""
    profile += np.stack([shares * (ROWS / float(shares.sum())), shares])
    profile *= np.minimum(1.0, MEMORY / np.maximum(profile[1], MEMORY))
