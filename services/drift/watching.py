"""Watches over means that came in summaries, several subjects side by side: what stands, since when, how strongly."""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.drift import detectors as d
from services.runtime.alerts import Place
from services.runtime.summaries import Source

Floats: TypeAlias = NDArray[np.float64]
STATISTICS = ("e-detector", "page-hinkley", "adwin")
SKEWED = 2.0  # means of losses are not quite normal: Page and Hinkley's limit is of so many times fewer alarms
OVERSHOOT = 1.166  # Siegmund, "Sequential Analysis", 1985: by how much a random walk exceeds what it crosses, twice


class Verdict(NamedTuple):
    """What is said of one subject: in `strength`, 1 is what chance reaches at the promised rate, of `statistic`.

    `before` is the mean of the baseline, `after` that since the change, or where nothing stands of late; `error` is of
    the mean of late. `status` is one of the detectors' own.
    """

    status: int
    statistic: str
    strength: float
    since: Place
    before: float
    after: float
    lately: float
    error: float

    @property
    def alarm(self) -> bool:
        return self.status == d.ALARM

    @property
    def stands(self) -> bool:
        return self.status in (d.ALARM, d.STANDING)

    @property
    def calm(self) -> bool:
        return self.status in (d.CALM, d.SETTLED)

    @property
    def settled(self) -> bool:
        """Whether the change has lasted for so long that it is what is normal from now on."""
        return self.status == d.SETTLED


def page_limit(apart: float) -> float:
    """Return Page and Hinkley's limit for so many summaries between false alarms, on average (Siegmund, 1985)."""
    low, high, drift = 0.0, 200.0, 2 * d.DRIFT
    while high - low > 1e-6:  # noqa: PLR2004 - nobody sees a smaller difference
        middle = (low + high) / 2
        reach = drift * (middle + OVERSHOOT)
        low, high = (middle, high) if (math.exp(reach) - 1 - reach) / (drift * d.DRIFT) < apart else (low, middle)
    return high


def limits(apart: float, tolerance: float, bound: float = 0.0) -> Floats:
    """Return what a subject's detectors need for so many summaries between false alarms, on average.

    `tolerance` is by which share a mean may rise. With a `bound` of the values all three ask, the e-detector at half
    the rate and the others at a quarter each; without one it asks alone.
    """
    if not bound:
        return np.array([math.log(apart), 0.0, 0.0, tolerance, 0.0])
    return np.array([math.log(2 * apart), page_limit(SKEWED * 4 * apart), math.log(4 * apart), tolerance, bound])


class Watch:
    """The subjects of one group. A mean that stays risen for `settle` summaries is what is normal from then on."""

    def __init__(self, needed: Floats, settle: float) -> None:
        self._limits, self._settle, count = np.ascontiguousarray(needed), float(settle), len(needed)
        self._held = [
            np.zeros((count, d.BASE)),
            np.zeros((count, d.LAG, 3)),
            np.zeros((count, len(d.BETS), d.BET)),
            np.zeros((count, 1)),
            np.zeros((count, d.LEVELS, d.BUCKETS + 1, 3)),
            np.zeros((count, d.SAID)),
        ]
        self._topic = ""

    def fold(self, values: Floats, source: Source) -> bool:
        """Take a summary's values (subjects, 3): rows, sums, squares' sums. Return whether there is anything to say."""
        self._topic = source.topic
        place = np.array([source.began, source.first, source.partition], np.float64)
        base, ring, bets, pages, buckets, said = self._held
        return d.watch(values, place, self._limits, self._settle, base, ring, bets, pages, buckets, said) > 0

    @property
    def _said(self) -> Floats:
        return self._held[-1]

    def speaking(self) -> list[int]:
        """Return the subjects of whom there is something to say after the last fold."""
        speaking: list[int] = np.flatnonzero(self._said[:, d.STATUS]).tolist()
        return speaking

    def end(self, subject: int, *, settled: bool) -> None:
        """Let what stands of a subject be over; if it has settled, its baseline begins anew. Effects stay."""
        for array in self._held[1:-1]:
            array[subject] = 0.0
        self._held[0][subject, d.STANDS] = 0.0
        if settled:
            self._held[0][subject, : d.SPAN] = 0.0

    def verdict(self, subject: int) -> Verdict:
        said = self._said[subject].tolist()
        strengths = said[d.E_DETECTOR : d.ADWIN + 1]
        strength = max(strengths)
        since = Place(int(said[d.TIME]), self._topic, int(said[d.PARTITION]), int(said[d.OFFSET]))
        after = said[d.NEW] if said[d.STATUS] else said[d.LATELY]
        statistic = STATISTICS[strengths.index(strength)]
        return Verdict(int(said[0]), statistic, strength, since, said[d.OLD], after, said[d.LATELY], said[d.ERROR])

    def rises(self) -> Floats:
        """Return by how much each subject's mean of late is above its baseline, its error taken off."""
        rises: Floats = self._said[:, d.LATELY] - self._said[:, d.OLD] - self._said[:, d.ERROR]
        return rises

    # Snapshots

    def state(self) -> list[bytes]:
        return [array.tobytes() for array in self._held]

    def load(self, state: list[bytes]) -> None:
        shapes = [array.shape for array in self._held]
        self._held = [np.frombuffer(held).reshape(shape).copy() for held, shape in zip(state, shapes, strict=True)]
