"""The same per slice: where a challenger is shown to be worse, though it may win on average.

A slice is one value of one field, as `carrier = "EV"`. To find none where there is none with a chance of 1 - alpha,
whatever slices come up, fields share alpha alike, and the k-th value that a field shows has 6 / (pi k)^2 of its share:
these sum to 1 (a union bound), so nobody need know beforehand how many will come. What is frequent is met early.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from services.rollout.evidence import BOUND, Evidence, EvidenceState, scaled

OTHER = "other"
SlicesState: TypeAlias = dict[str, dict[str, EvidenceState]]  # by field, then by value in order of appearance


class Worse(NamedTuple):
    """A slice in which the challenger was shown to be worse: by `mean` nats an example, or `low` to `high`."""

    field: str
    value: str
    examples: int
    mean: float
    low: float
    high: float


class Slices:
    """The evidence per slice that the challenger is worse. What was shown stays so, until a comparison begins anew.

    The first `most` values of a field have a slice each, later ones share `other`; a value of that name is among them.
    `alpha` is the chance that any slice is ever named where the challenger is nowhere worse. Cuts leave no trace.
    """

    def __init__(self, fields: Sequence[str], alpha: float, most: int, bound: float = BOUND) -> None:
        self._alpha, self._most, self._bound = alpha / max(len(fields), 1), most, bound
        self._slices: dict[str, dict[str, Evidence]] = {field: {} for field in fields}

    def fold(self, differences: ArrayLike, values: Mapping[str, Sequence[str]]) -> None:
        """Take the differences (champion's loss - challenger's) that come next, and each field's value for them."""
        x = np.asarray(differences, np.float64)
        scaled(x, self._bound)
        if any(len(values[field]) != len(x) for field in self._slices):
            raise ValueError(f"{len(x)} differences need as many values of each field")
        for field in self._slices:
            for name, places in self._places(field, values[field]).items():
                self._slices[field][name].fold(-x[places])

    def worse(self) -> list[Worse]:
        """Name the slices that hold the challenger back, in order of appearance, each with its interval."""
        return [
            Worse(field, value, slice_.examples, slice_.mean, *slice_.interval(self._level(place)))
            for field, slices in self._slices.items()
            for place, (value, slice_) in enumerate(slices.items(), 1)
            if slice_.shown is not None
        ]

    def state(self) -> SlicesState:
        return {
            field: {value: slice_.state() for value, slice_ in slices.items()} for field, slices in self._slices.items()
        }

    def load(self, state: SlicesState) -> None:
        for field, slices in state.items():
            for value, held in slices.items():
                self._slice(field, value).load(held)

    def _places(self, field: str, values: Sequence[str]) -> dict[str, list[int]]:
        """Return where each slice's examples are; slices that are new begin."""
        places: dict[str, list[int]] = {}
        for place, value in enumerate(values):
            places.setdefault(self._named(field, value), []).append(place)
        return places

    def _named(self, field: str, value: str) -> str:
        name = value if value in self._slices[field] or len(self._slices[field]) < self._most else OTHER
        self._slice(field, name)
        return name

    def _slice(self, field: str, name: str) -> Evidence:
        slices = self._slices[field]
        if name not in slices:
            slices[name] = Evidence(self._level(len(slices) + 1), self._bound)
        return slices[name]

    def _level(self, place: int) -> float:
        return self._alpha * 6 / (math.pi * place) ** 2
