"""A version against its rival on the same labelled examples: all that is gathered before somebody decides.

What is compared is what would be served: the mix of either with the online model, with the weights of the time, or the
online model alone. A network that is no better than the online model, and errs elsewhere, makes a better mix.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.rollout.evidence import BOUND, Array, Evidence, EvidenceState, Watch, WatchState
from services.rollout.slices import Slices, SlicesState
from services.runtime.grammar import RolloutRule
from services.runtime.models import BATCH, ONLINE

MOST = 64  # slices of a feature; what more values it has share one
THAN_ITS_RIVAL, THAN_GUESSING = 0.02, 0.3  # nats an example by which a champion may be worse, as in its first storm


class ComparisonState(msgspec.Struct):
    """What Comparison holds. `rival` is a version of the batch model; None is the online model."""

    rival: int | None
    canary: int
    better: EvidenceState
    worse: EvidenceState
    slices: SlicesState
    watch: WatchState
    baseline: WatchState


class Comparison:
    """The evidence that a version is better than its rival, and that it is worse, overall and by slice.

    `canary` counts the examples of the time when it was a canary. `watch` and `baseline` are for a champion: whether
    it turns worse than its rival, and whether it comes to know much less than how frequent the label was. Cuts leave no
    trace.
    """

    def __init__(self, rule: RolloutRule, rival: int | None) -> None:
        self._rule, self.rival, self.canary = rule, rival, 0
        self.slices = Slices(rule.slices, rule.alpha, MOST)
        self.begin()

    def begin(self) -> None:
        """Let what was shown overall, of whom it was shown, be: a reign is judged by itself. Slices go on."""
        self.better, self.worse = Evidence(self._rule.alpha), Evidence(self._rule.alpha)
        self.watch, self.baseline = Watch(self._rule.apart), Watch(self._rule.apart)

    def fold(self, differences: Array, values: Mapping[str, Sequence[str]], canary: NDArray[np.bool_]) -> None:
        """Take the differences, rival's loss - the version's in nats, of the examples that come next."""
        self.better.fold(differences)
        self.worse.fold(-differences)
        self.slices.fold(differences, values)
        self.canary += int(canary.sum())

    def watch_over(self, differences: Array, guessing: Array) -> None:
        """Take the same differences for the watches, and with guessing in the rival's place, the version alone."""
        self.watch.fold(np.minimum(differences + THAN_ITS_RIVAL, BOUND))
        self.baseline.fold(np.minimum(guessing + THAN_GUESSING, BOUND))

    @property
    def rival_name(self) -> str:
        return f"{ONLINE} alone" if self.rival is None else f"{BATCH}@{self.rival}"

    def odds(self) -> tuple[int, float, float]:
        """Return the examples so far, and log10 of the odds that the version is better, and that it is worse."""
        return self.better.examples, _log10(self.better), _log10(self.worse)

    def evidence(self) -> dict[str, float]:
        """Return what a record of a decision carries: nats an example, positive where the version was better."""
        low, high = self.better.interval(self._rule.alpha)
        wealth = self.better.log_wealth
        return {
            "examples": self.better.examples,
            "mean": self.better.mean,
            "low": low,
            "high": high,
            "log_wealth": wealth,
        }

    def state(self) -> ComparisonState:
        parts = self.better.state(), self.worse.state(), self.slices.state(), self.watch.state()
        return ComparisonState(self.rival, self.canary, *parts, self.baseline.state())

    def load(self, state: ComparisonState) -> None:
        self.rival, self.canary = state.rival, state.canary
        self.better.load(state.better)
        self.worse.load(state.worse)
        self.slices.load(state.slices)
        self.watch.load(state.watch)
        self.baseline.load(state.baseline)


def _log10(evidence: Evidence) -> float:
    return round(evidence.log_wealth / math.log(10), 3)
