"""The monitor of features taken together: whether they depend on each other as before, each alone being as it was.

The statistic is the maximum mean discrepancy with a Gaussian kernel (Gretton et al., "A kernel two-sample test", JMLR
2012), by way of random Fourier features (Rahimi and Recht, "Random features for large-scale kernel machines", NeurIPS
2007), as in NEWMA (Keriven, Garreau and Poli, 2020): the squared distance between the mean of the features over a
window of rows, and that over the stable period. Rows are standardised by those of the stable period, so a summary
carries some whole rows. It sees fewer rows than the tests of single columns: it is for what these can't see.
"""

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.drift import row_kernels
from services.drift.kernels import Floats
from services.drift.reducing import WHOLE
from services.drift.signals import Signal, calm
from services.drift.swings import Swings, unpacked
from services.runtime.alerts import Place
from services.runtime.summaries import Source

SPANS = np.array([2, 8, 24], np.int64)  # blocks
WAVES = 32
FREEDOM = 12.0  # degrees that the distance has at least: it is spread over more directions than that
FAR = 5.0  # deviations at which rows are clipped
CALM = 0.5


class JointState(msgspec.Struct):
    """What Joint holds; arrays are bytes."""

    blocks: int
    standing: int
    kept_from: int
    marks: list[list[int]]
    arrays: list[bytes]
    swings: tuple[int, bytes]


class Joint:
    """Folds whole rows (WHOLE, columns), of all partitions. `length` blocks are what the stream is like at first."""

    tests = len(SPANS)

    def __init__(self, columns: int, needed: float, length: int) -> None:
        self._needed, self._length = needed, max(length, int(SPANS.max()))
        self._waves = normals(columns, WAVES) / math.sqrt(max(columns, 1))
        self._rows = np.zeros((self._length, WHOLE, columns), np.float32)
        self._means = np.zeros((self._length, 2 * WAVES))
        self._center, self._spread = np.zeros(columns), np.ones(columns)
        self._before = np.zeros(2 * WAVES + 1)  # the stable period's sum of block means, and how many
        self._marks: list[list[int]] = []
        self._blocks = self._standing = self._kept_from = 0
        self._swings = Swings(SPANS, FREEDOM)

    def fold(self, source: Source, rows: NDArray[np.float32]) -> list[Signal]:
        place = self._blocks % self._length
        if not self._standing and self._blocks - self._length >= self._kept_from and self._kept_from:
            self._before[:-1] += self._means[place]
            self._before[-1] += 1
        self._rows[place] = rows
        self._marks = [*self._marks[-self._length + 1 :], [source.began, source.partition, source.first]]
        self._blocks += 1
        if self._blocks < self._length:
            return []
        if not self._kept_from:
            self._adopt()
            return []
        self._means[place] = self._wave(rows)
        return self._weigh(source)

    def _weigh(self, source: Source) -> list[Signal]:
        distances = self._distances()
        surprise = self._swings.fold(distances, stands=bool(self._standing))
        greatest = max(surprise.tolist())
        if self._standing:
            return self._go_on(source, greatest)
        if greatest < self._needed:
            return []
        self._standing = self._blocks
        span = int(surprise.argmax())
        return [self._signal(source, int(SPANS[span]), float(distances[span]))]

    def _distances(self) -> Floats:
        """Return each span's squared distance over what it is on average where rows are independent."""
        found = np.empty(len(SPANS))
        row_kernels.window_gaps(self._means, self._blocks, SPANS, self._before, WHOLE, found)
        return found

    def _go_on(self, source: Source, greatest: float) -> list[Signal]:
        if greatest < CALM * self._needed:
            self._standing = 0
            return [calm("joint", "stream", source, "mmd", 0.0, "features depend on each other again as before")]
        if self._blocks - self._standing >= self._length:
            self._adopt()
            return [
                calm(
                    "joint",
                    "stream",
                    source,
                    "mmd",
                    0.0,
                    f"for {self._length} summaries they have stayed as they are now: that is normal now",
                )
            ]
        return []

    def _adopt(self) -> None:
        """Let the rows that are held be what the stream is like."""
        held = np.nan_to_num(self._rows.reshape(-1, self._rows.shape[2]).astype(np.float64))
        self._center, self._spread = held.mean(axis=0), np.maximum(held.std(axis=0), 1e-9)
        self._means = np.array([self._wave(rows) for rows in self._rows])
        self._before[:-1], self._before[-1] = self._means.sum(axis=0), self._length
        self._standing, self._kept_from = 0, self._blocks

    def _wave(self, rows: NDArray[np.float32]) -> Floats:
        waves = np.empty(2 * WAVES)
        row_kernels.mean_waves(rows, self._center, self._spread, self._waves, FAR, waves)
        return waves

    def _signal(self, source: Source, span: int, distance: float) -> Signal:
        time, partition, offset = self._marks[-span]
        return Signal(
            "joint",
            "stream",
            on=True,
            calm=False,
            at=source.end,
            since=Place(time, source.topic, partition, offset),
            statistic="mmd",
            strength=distance,
            reason=f"features do not go together as before: {distance:.3g} times as far from it as rows of then are",
            retrain_from=time,
        )

    # Snapshots

    def state(self) -> JointState:
        arrays = [array.tobytes() for array in self._arrays()]
        return JointState(self._blocks, self._standing, self._kept_from, self._marks, arrays, self._swings.state())

    def load(self, held: JointState) -> None:
        self._blocks, self._standing = held.blocks, held.standing
        self._kept_from, self._marks = held.kept_from, held.marks
        loaded = [unpacked(kept, like) for kept, like in zip(held.arrays, self._arrays(), strict=True)]
        self._rows, self._means, self._center, self._spread, self._before = loaded
        self._swings.load(*held.swings)

    def _arrays(self) -> list[NDArray[Any]]:
        return [self._rows, self._means, self._center, self._spread, self._before]


def normals(rows: int, columns: int) -> Floats:
    """Return standard normal numbers that are always the same: splitmix64, by the Box-Muller transform."""
    count = rows * columns
    with np.errstate(over="ignore"):
        z = np.arange(1, 2 * count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**53
    radius = np.sqrt(-2 * np.log1p(-uniform[:count]))
    found: Floats = (radius * np.cos(2 * math.pi * uniform[count:])).reshape(rows, columns)
    return found
