"""Temperature: the one number that a network's logits are divided by, so that its probabilities are honest.

And a slope and an offset, for logits of a network that the world has changed under.
"""

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

COLDEST, HOTTEST = 0.25, 20.0
HALVINGS = 60
STEPS = 50  # of Newton; some ten are enough


def log_loss(logits: Doubles, labels: Doubles) -> float:
    """Return the mean log loss in nats; NaN where a logit is."""
    with np.errstate(invalid="ignore"):
        return float((np.logaddexp(0.0, logits) - labels * logits).mean())


def temperature(logits: Doubles, labels: Doubles) -> float:
    """Return the temperature with the lowest log loss (Guo et al., 2017), a float32; 1 where no other is better.

    With b = 1 / temperature the loss is convex, so its slope in b, the mean of logit · (sigmoid(b · logit) - label),
    is bisected, on a logarithmic scale. One class alone would ask for a temperature of 0, and gets 1.
    """
    if labels.min() == labels.max():
        return 1.0
    low, high = math.log(1 / HOTTEST), math.log(1 / COLDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _slope(math.exp(middle), logits, labels) > 0 else (middle, high)
    found = float(np.float32(math.exp(-(low + high) / 2)))
    return found if log_loss(logits / found, labels) < log_loss(logits, labels) else 1.0


def _slope(b: float, logits: Doubles, labels: Doubles) -> float:
    return float((logits * ((1 + np.tanh(b * logits / 2)) / 2 - labels)).mean())


def straightened(logits: Doubles, labels: Doubles) -> tuple[float, float]:
    """Return the slope and the offset of the logits with the lowest log loss (Platt, 1999); the slope may be negative.

    A weak normal prior, of deviation 1 around (1, 0), keeps both finite. The loss is convex: damped Newton steps.
    """
    inputs, prior = np.column_stack([logits, np.ones_like(logits)]), np.array([1.0, 0.0])
    found = prior.copy()
    for _ in range(STEPS):
        said = (1 + np.tanh(inputs @ found / 2)) / 2
        slope = inputs.T @ (said - labels) + found - prior
        curve = (inputs * (said * (1 - said))[:, None]).T @ inputs + np.eye(2)
        found -= np.clip(np.linalg.solve(curve, slope), -1, 1)
    return float(found[0]), float(found[1])
