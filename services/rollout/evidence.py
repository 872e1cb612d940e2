"""Which of two models is better on the same labelled examples: the evidence to promote one, and the watch to roll back.

Both may be looked at after every example and believed at any of them. A difference is champion's loss - challenger's,
in nats: positive where the challenger was better. Each is a bet on the next one: a gambler who stakes the part b of
what they have owns 1 + b * difference / bound times as much after it, and cannot grow rich on average where the
challenger is no better (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B,
2024). As nobody knows the best stake, the mean over a grid of gamblers counts. "No better" is said of every example
given those before it (Choe and Ramdas, "Comparing sequential forecasters", Operations Research, 2024); a challenger
that is better for a season only is better while that lasts, and is promoted on that. An example counts once, with its
first label: a correction comes after the bet was paid.
"""

import math
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]
CLIP = 0.01
BOUND = -math.log(CLIP)  # 4.6 nats: what one example may cost
BETS: Array = np.array([0.9 / 2**k for k in range(8)])  # stakes: the rougher the differences, the less
PSI: Array = -np.log1p(-BETS) - BETS  # exp(b * x - PSI * x * x) <= 1 + b * x for every x >= -1 (Fan et al., 2015)


def log_losses(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """Return each example's log loss in nats, in (0, BOUND], from the probability of 1 and the label, 0 or 1.

    A probability counts as no nearer to 0 or 1 than CLIP, so that one example can't decide what thousands should: a
    model gains 0.01 nats at most by being surer. One that is no number costs as much as may be.
    """
    given = np.asarray(probabilities, np.float64)
    hit = np.where(np.asarray(labels) == 1, given, 1 - given)
    losses: Array = -np.log(np.clip(np.nan_to_num(hit, nan=0.0), CLIP, 1 - CLIP))
    return losses


def scaled(differences: ArrayLike, bound: float) -> Array:
    """Return differences / bound, each in [-1, 1]; ValueError for what is no difference of such losses."""
    x: Array = np.asarray(differences, np.float64) / bound
    if not (np.abs(x) <= 1).all():
        raise ValueError(f"a difference of losses is no number, or beyond {bound}: clip the losses")
    return x


class EvidenceState(msgspec.Struct):
    """What Evidence holds: the log of each gambler's wealth, the sums of differences / bound and of their squares."""

    examples: int
    shown: int | None
    wealth: list[float]
    total: float
    squares: float


class Evidence:
    """The evidence that the challenger is better, one pair of models and one way of asking.

    Where it is no better, the chance that it is ever shown to be is at most `alpha`, at whatever example one stops
    (Ville, 1939). `bound` is the largest absolute difference, in nats. Cuts of a batch leave no trace: whoever
    decides on what was known at the example `shown` cuts the batch behind it, and folds again from the state before.
    """

    def __init__(self, alpha: float, bound: float = BOUND) -> None:
        self._needed, self._bound = -math.log(alpha), bound
        self.examples = 0
        self.shown: int | None = None  # after so many examples the mean wealth reached 1 / alpha, for the first time
        self._sums = np.zeros(len(BETS) + 2)  # of log wealth per gambler, of differences / bound, of their squares

    def fold(self, differences: ArrayLike) -> None:
        """Take the differences that come next."""
        x = scaled(differences, self._bound)
        steps = np.vstack([_growth(x), x, x * x])
        sums = _running(self._sums, steps)
        if self.shown is None:
            self.shown = _first(sums[: len(BETS), 1:], self._needed, self.examples)
        self.examples += len(x)
        self._sums = sums[:, -1].copy()

    @property
    def log_wealth(self) -> float:
        """The log of the gamblers' mean wealth now; they began with 1."""
        return float(_mean(self._sums[: len(BETS), None])[0])

    @property
    def holds(self) -> bool:
        """Whether it is 1 / alpha or more now; it may have been shown, and be gone again."""
        return self.log_wealth >= self._needed

    @property
    def mean(self) -> float:
        """By how many nats an example the challenger was better so far; 0 before the first."""
        return float(self._sums[-2]) * self._bound / max(self.examples, 1)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Return by how many nats the challenger is better, at least and at most.

        It holds the mean of what was expected of the examples so far, each given those before it; with chance
        1 - alpha so does each interval, after every example, at once (as in Howard et al., "Time-uniform,
        nonparametric, nonasymptotic confidence sequences", 2021). One above 0 means that 1 / alpha was reached.
        """
        if not self.examples:
            return -self._bound, self._bound
        excess = math.log(2 * len(BETS) / alpha) + PSI * self._sums[-1]
        radius = float(np.min(excess / BETS)) / self.examples * self._bound
        return max(self.mean - radius, -self._bound), min(self.mean + radius, self._bound)

    def state(self) -> EvidenceState:
        *wealth, total, squares = self._sums.tolist()
        return EvidenceState(self.examples, self.shown, wealth, total, squares)

    def load(self, state: EvidenceState) -> None:
        self.examples, self.shown = state.examples, state.shown
        self._sums = np.array([*state.wealth, state.total, state.squares])


class WatchState(msgspec.Struct):
    """What Watch holds, per gambler: log wealth since the promotion, and the log of the sum of 1 / it at each start."""

    examples: int
    alarm: int | None
    wealth: list[float]
    starts: list[float]


class Watch:
    """Watches a promoted model: whether the differences, its predecessor's loss - its own, have turned against it.

    At every example a new gambler begins with 1 and bets against it. What all of them own is a Shiryaev-Roberts
    e-detector (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection",
    2022), for which a long good time is no capital to lose first. While the model is no worse, it takes at least
    `apart` examples on average until an alarm, and one comes within n with a chance of n / apart at most. Cuts of a
    batch leave no trace.
    """

    def __init__(self, apart: float, bound: float = BOUND) -> None:
        self._needed, self._bound = math.log(apart), bound
        self.examples = 0
        self.alarm: int | None = None  # after so many examples the detector reached `apart`, for the first time
        self._wealth, self._starts = np.zeros(len(BETS)), np.zeros(len(BETS))

    def fold(self, differences: ArrayLike) -> None:
        """Take the differences that come next."""
        x = scaled(differences, self._bound)
        wealth = _running(self._wealth, _growth(-x))
        starts = np.logaddexp.accumulate(np.column_stack([self._starts, -wealth[:, 1:]]), axis=1)
        if self.alarm is None:
            self.alarm = _first(wealth[:, 1:] + starts[:, :-1], self._needed, self.examples)
        self.examples += len(x)
        self._wealth, self._starts = wealth[:, -1].copy(), starts[:, -1].copy()

    def state(self) -> WatchState:
        return WatchState(self.examples, self.alarm, self._wealth.tolist(), self._starts.tolist())

    def load(self, state: WatchState) -> None:
        self.examples, self.alarm = state.examples, state.alarm
        self._wealth, self._starts = np.array(state.wealth), np.array(state.starts)


def _growth(x: Array) -> Array:
    """Return the log of what each gambler's wealth is multiplied by: one row a gambler, one column an example."""
    growth: Array = np.log1p(np.multiply.outer(BETS, x))
    return growth


def _running(start: Array, steps: Array) -> Array:
    """Return the sums before the first step and after each. One addition at a time: cuts give the same bits."""
    sums: Array = np.cumsum(np.column_stack([start, steps]), axis=1)
    return sums


def _mean(logs: Array) -> Array:
    """Return the log of the mean of each column, given logs; rows are added in their order."""
    mean: Array = np.logaddexp.reduce(logs, axis=0) - math.log(len(logs))
    return mean


def _first(logs: Array, needed: float, before: int) -> int | None:
    """Return the number of the first example, after `before` others, whose mean is as high as needed, if one's is."""
    near = np.flatnonzero(logs.max(axis=0) >= needed)  # a mean is no more than the greatest
    reached = near[_mean(logs[:, near]) >= needed]
    return before + int(reached[0]) + 1 if len(reached) else None
