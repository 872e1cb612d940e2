"""How good the predictions of a whole run were, computed here from all of them: ROC AUC, log loss, accuracy.

`services/runtime/quality.py` counts the same while labels come and are corrected.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-15  # log loss takes probabilities no nearer to 0 and 1 than this


class Quality(msgspec.Struct, frozen=True):
    """`roc_auc` is None where only one class was seen; log loss is in nats; accuracy takes 0.5 as the threshold."""

    n: int
    roc_auc: float | None
    log_loss: float | None
    accuracy: float | None


def quality(probabilities: Sequence[float], labels: Sequence[bool]) -> Quality:
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.bool_)
    if not len(p):
        return Quality(0, None, None, None)
    return Quality(len(p), roc_auc(p, y), float(losses(p, y).mean()), float(((p > 0.5) == y).mean()))  # noqa: PLR2004


def losses(p: NDArray[np.float64], y: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the log loss of each prediction, in nats."""
    taken: NDArray[np.float64] = np.clip(np.where(y, p, 1 - p), SMALLEST, 1.0)
    return -np.log(taken)


def roc_auc(p: NDArray[np.float64], y: NDArray[np.bool_]) -> float | None:
    """Return the chance that a true one scores above a false one, ties counting half (Mann and Whitney, 1947)."""
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of each distinct value, from 1
    return float((ranks[inverse][y].sum() - positives * (positives + 1) / 2) / (positives * negatives))
