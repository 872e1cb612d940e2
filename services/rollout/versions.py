"""What is known of one version of the batch model, from examples: its state, its weight, and what speaks for it."""

import msgspec
import numpy as np

from services.rollout.comparison import Comparison, ComparisonState
from services.rollout.evidence import Array
from services.rollout.hedge import Hedge
from services.runtime.grammar import RolloutRule
from services.runtime.models import EVEN, State


class VersionState(msgspec.Struct):
    """What Version holds."""

    state: State
    weight: float
    seen: int
    reigned: int
    said: State | None
    said_at: int
    settled: bool
    comparison: ComparisonState | None


class Version:
    """A version as examples tell of it, `seen` at so many examples last. `reigned` orders reigns; 0: never champion.

    `said` is what was decided last, until examples show that it came to be: labels are hours late, and nothing is
    decided twice meanwhile. A decision that they don't show within `patience` examples is made again.
    """

    def __init__(self, rule: RolloutRule) -> None:
        self._rule = rule
        self.state: State = "shadow"
        self.weight = EVEN
        self.seen = self.reigned = 0
        self.said: State | None = None
        self._said_at = 0
        self.settled = False  # it has reigned for `patience` examples: those before it are let go
        self.comparison: Comparison | None = None

    @property
    def former(self) -> bool:
        """Whether it was champion, and is a shadow since."""
        return self.state != "champion" and self.reigned > 0

    @property
    def believed(self) -> State:
        """Its state, once what was decided is so."""
        return self.said or self.state

    def move(self, state: State) -> None:
        """Take note that it has another state. A champion that we did not make is judged by what comes after."""
        if state == "champion" and self.said == "champion" and self.comparison:
            self.comparison.begin()
        elif state == "champion":
            self.comparison = None
        self.state, self.said, self.settled = state, None, False

    def decide(self, state: State, examples: int) -> None:
        self.said, self._said_at = state, examples

    def waits(self, examples: int) -> bool:
        """Say whether its fate is decided already; forget a decision that examples have not shown for too long."""
        if self.said is not None and examples - self._said_at > self._rule.patience:
            self.said = None
        return self.said in ("champion", "retired")

    def weigh(self, online: Array, scores: Array, labels: Array) -> None:
        """Take the examples that come next: the probabilities of both models, and 0 or 1."""
        both = ~(np.isnan(online) | np.isnan(scores))
        hedge = Hedge(["online", "batch"], self._rule.floor, self._rule.window, self._rule.rate)
        hedge.weights = {"online": 1 - self.weight, "batch": self.weight}
        hedge.fold(np.column_stack([online, scores])[both], labels[both])
        self.weight = hedge.weights["batch"]

    def state_of(self) -> VersionState:
        return VersionState(
            self.state,
            self.weight,
            self.seen,
            self.reigned,
            self.said,
            self._said_at,
            self.settled,
            self.comparison.state() if self.comparison else None,
        )

    def load(self, held: VersionState) -> None:
        self.state, self.weight, self.seen, self.reigned = held.state, held.weight, held.seen, held.reigned
        self.said, self._said_at, self.settled = held.said, held.said_at, held.settled
        if held.comparison is not None:
            self.comparison = Comparison(self._rule, held.comparison.rival)
            self.comparison.load(held.comparison)
