"""What a score costs where its label is known, and what it should cost on average where it is not known yet."""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
CLIP = 0.01  # a score counts as no nearer to 0 or 1, so that no example costs more than 4.6 nats


def clipped_losses(scores: Floats, labels: Floats) -> Floats:
    """Return each row's log loss in nats, in [0.01, 4.6], from the probability of 1 and the label, 0 or 1."""
    losses: Floats = -np.log(np.clip(np.where(labels > 0, scores, 1 - scores), CLIP, 1 - CLIP))
    return losses


def expected_loss(scores: ArrayLike) -> Floats:
    """Return the log loss in nats that each score is to have on average, if it is the probability that it says it is.

    This is confidence-based performance estimation (CBPE; Bialek et al., "Estimating model performance under covariate
    shift without labels", 2024): the entropy of the score, with the loss clipped as where labels are known.
    """
    p = np.asarray(scores, np.float64)
    kept = np.clip(p, CLIP, 1 - CLIP)
    expected: Floats = -p * np.log(kept) - (1 - p) * np.log(1 - kept)
    return expected
