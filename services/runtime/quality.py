"""How good scores are, counted so that a label may be taken back: in whole numbers, which leave no trace.

A sum of floats from which one is subtracted again is not the sum without it. So a loss is rounded to a 2**-40th of a
nat when it is counted, and any order of labels and corrections ends in exactly the metrics of the labels that hold.
"""

import math
from collections.abc import Iterable

UNIT = 2**40
SMALLEST = 1e-15  # a probability of 0 would make one mistake cost without end


def log_loss(score: float, label: float) -> float:
    """Return what a score, a probability of 1, costs where the label is 0 or 1, in nats."""
    return -math.log(max(score if label > 0 else 1 - score, SMALLEST))


class Quality:
    """Sums over rows that have a label."""

    def __init__(self, n: int = 0, loss: int = 0, correct: int = 0) -> None:
        self.n, self.loss, self.correct = n, loss, correct

    def count(self, score: float, label: float) -> None:
        """Count the score, a probability of 1, of a row whose label is 0 or 1."""
        self._add(score, label, 1)

    def retract(self, score: float, label: float) -> None:
        """Take back what was counted with these."""
        self._add(score, label, -1)

    def _add(self, score: float, label: float, sign: int) -> None:
        self.n += sign
        self.loss += sign * round(UNIT * log_loss(score, label))
        self.correct += sign * ((score > 0.5) == (label > 0))  # noqa: PLR2004 - the more likely one

    @property
    def log_loss(self) -> float | None:
        """In nats; None before the first label."""
        return self.loss / UNIT / self.n if self.n else None

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.n if self.n else None

    def state(self) -> tuple[int, int, int]:
        return self.n, self.loss, self.correct


def together(parts: Iterable[Quality]) -> Quality:
    return Quality(*map(sum, zip(*(part.state() for part in [Quality(), *parts]), strict=True)))
