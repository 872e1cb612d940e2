"""What scores were worth on rows that a model never saw: by value of a feature, and by what was said. Pure."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.trainer.calibration import Doubles, log_loss

BINS = 10


class Part(msgspec.Struct, frozen=True):
    """Some of the rows: how many, the share of positives, and the mean log loss in nats."""

    rows: int
    positives: float
    loss: float


class Bin(msgspec.Struct, frozen=True):
    """Rows with like scores: how many, their mean score, and the share of positives, which should be the same."""

    rows: int
    said: float
    found: float


def by_value(
    features: Sequence[str], columns: Sequence[str], vectors: NDArray[np.float32], logits: Doubles, labels: Doubles
) -> dict[str, Part]:
    """Return what scores were worth for each value of these one-hot features that came up, by its column's name."""
    wanted = [n for n, column in enumerate(columns) if column.partition("=")[0] in features and "=" in column]
    chosen = {columns[n]: vectors[:, n] == 1 for n in wanted}
    return {name: _part(logits[rows], labels[rows]) for name, rows in chosen.items() if rows.any()}


def _part(logits: Doubles, labels: Doubles) -> Part:
    return Part(len(labels), float(labels.mean()), log_loss(logits, labels))


def reliability(logits: Doubles, labels: Doubles) -> list[Bin]:
    """Return the rows by tenths of what was said, from 0 to 1; a tenth without rows is left out."""
    scores = (1 + np.tanh(logits / 2)) / 2
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    groups = [place == number for number in range(BINS)]
    return [Bin(int(g.sum()), float(scores[g].mean()), float(labels[g].mean())) for g in groups if g.any()]
