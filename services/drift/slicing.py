"""Which slices explain an alert: where the mean of a column is another than before, by more than chance gives.

A slice is one value of a one-hot feature that `[drift]` names. Its mean over the blocks since the change is held
against that of the stable period, in standard errors of the column at large: a change that is of one slice only shows
there alone.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.drift.kernels import Floats
from services.drift.swings import unpacked
from services.runtime.alerts import Explained

FAR = 4.0  # standard errors
MOST_NAMED = 5


class SlicingState(msgspec.Struct):
    """What Slicing holds; arrays as bytes."""

    blocks: int
    ring: bytes
    before: bytes


class Slicing:
    """Folds sums (slices, 1 + columns): how many rows each had, and the sum of each column. In a ring of blocks."""

    def __init__(self, names: Sequence[str], columns: int, length: int) -> None:
        self._names, self._length, self._blocks = names, length, 0
        self._ring = np.zeros((length, len(names), 1 + columns), np.float32)
        self._before = np.zeros((len(names), 1 + columns))

    def fold(self, sums: NDArray[np.float32], *, stands: bool) -> None:
        """Take a block; the oldest one becomes a part of what was before, unless an alert stands."""
        if self._names:
            place = self._blocks % self._length
            if not stands:
                self._before += self._ring[place]
            self._ring[place] = sums
            self._blocks += 1

    def explain(self, column: int, back: int, deviation: float) -> list[Explained]:
        """Name the slices in which a column's mean has moved over so many blocks, in deviations; most surprising first.

        What was before is all that is older.
        """
        if not self._names or not deviation:
            return []
        order = [(self._blocks - 1 - i) % self._length for i in range(self._length)]
        after, before = self._sum(order[:back]), self._before + self._sum(order[back:])
        rows, rows_before = np.maximum(after[:, 0], 1), np.maximum(before[:, 0], 1)
        moved = (after[:, 1 + column] / rows - before[:, 1 + column] / rows_before) / deviation
        errors = np.abs(moved) / np.sqrt(1 / rows + 1 / rows_before)
        ranked = np.argsort(-errors, kind="stable")[:MOST_NAMED].tolist()
        return [Explained(self._names[i], "mean_shift", float(moved[i])) for i in ranked if errors[i] >= FAR]

    def _sum(self, places: list[int]) -> Floats:
        total: Floats = self._ring[places].astype(np.float64).sum(axis=0)
        return total

    # Snapshots

    def state(self) -> SlicingState:
        return SlicingState(self._blocks, self._ring.tobytes(), self._before.tobytes())

    def load(self, held: SlicingState) -> None:
        self._blocks = held.blocks
        self._ring, self._before = unpacked(held.ring, self._ring), unpacked(held.before, self._before)
