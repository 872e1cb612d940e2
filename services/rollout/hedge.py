"""The served mix: how much each live model counts, by the examples whose labels are known.

Hedge, the exponentially weighted forecaster (Cesa-Bianchi and Lugosi, "Prediction, learning, and games", 2006, chapters
2 and 9). A weight is multiplied by the probability that its model gave to what came true, to the power of the learning
rate. At a rate of 1 what the mix loses is exactly what all weights lose (log loss is mixable: Vovk, "Aggregating
strategies", 1990), and it never loses ln N nats more than the best of N models; at a lower rate ln N / rate. That is
for labels that come at once. While thousands are on their way a rate of 1 follows what chance said last, and the mix
gets worse than its parts; a low one gives the mean of those that are about as good (Joulani et al., "Online learning
under delayed feedback", 2013). Two things let it follow a change: losses fade within a window, and no weight is below a
floor (Herbster and Warmuth, "Tracking the best expert", 1998). `Hedge.bound` says the price of all three.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]
SMALLEST = 1e-6  # a model's probability counts as no nearer to 0 or 1: a mistake costs 14 nats at most
LOWEST = 1e-300  # the floor where none is asked for: a weight of 0 would stay 0 for good


class Hedge:
    """The weights of the live models: each at least `floor`, 1 in all. Its whole state is these weights, in order.

    A loss counts 1/e after `window` examples (`math.inf`: for ever); `rate` is in (0, 1]. Cuts leave no trace.
    """

    def __init__(self, models: Sequence[str], floor: float, window: float, rate: float = 1.0) -> None:
        self._floor, self._kept, self._rate = max(floor, LOWEST), 1 - 1 / window, rate
        self.weights: dict[str, float] = dict.fromkeys(models, 1 / max(len(models), 1))

    def fold(self, probabilities: ArrayLike, labels: ArrayLike) -> None:
        """Take labelled examples: a column for each live model's probability of 1, and 0 or 1."""
        given = np.clip(np.asarray(probabilities, np.float64), SMALLEST, 1 - SMALLEST)
        hits = np.where(np.asarray(labels)[:, None] == 1, given, 1 - given)
        weights = list(self.weights.values())
        for row in hits.tolist():
            weights = self._after(weights, row)
        self.weights = dict(zip(self.weights, weights, strict=True))

    def bound(self, examples: int, changes: int = 0) -> float:
        """Return by how many nats the mix may lose more than the best model in all, over so many examples.

        Or more than the best sequence of models with so many changes. It holds for any labels whatever, if each
        example is mixed with the weights after the one before; while labels are on their way, weights are older, and
        the price is higher. Below a rate of 1 it is what mixing the rate-th powers would cost, divided by the rate: the
        mean of probabilities is no less than the mean of their powers, to the power of 1 / rate.
        """
        count, floor = len(self.weights), self._least(len(self.weights))
        staying = (1 - self._kept) * math.log(count) - math.log1p(-(count - 1) * floor)
        price = math.log(count) - changes * math.log(floor) + max(examples - 1 - changes, 0) * staying
        return price / self._rate

    def _least(self, count: int) -> float:
        return min(self._floor, 1 / count)

    def _after(self, weights: list[float], hits: list[float]) -> list[float]:
        """Return the weights after an example, from what each model gave to what came true."""
        grown = [weight * hit**self._rate for weight, hit in zip(weights, hits, strict=True)]
        served = sum(grown)
        faded = [(weight / served) ** self._kept for weight in grown]
        floor, total = self._least(len(weights)), sum(faded)
        return [floor + (1 - len(weights) * floor) * weight / total for weight in faded]
