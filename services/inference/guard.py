"""Whether what a version of the batch model answers can be served; a version that fails is withdrawn at once. Pure."""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BATCHES, MOST_LATE = 20, 5
ROWS = 200  # of which no score tells another apart, while the online model's do: it has collapsed
SAME, APART = 1e-6, 1e-3


class Guard:
    """Watches one version; `latency_s` is the budget that it is told to have missed."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._late: deque[bool] = deque(maxlen=BATCHES)
        self._newest: Floats = np.zeros((0, 2))  # its scores and the online model's

    def late(self) -> str | None:
        """Count a batch that was not answered in time; return why the version has to go, if it has."""
        self._late.append(True)
        if (count := sum(self._late)) < MOST_LATE:
            return None
        return f"{count} of the last {len(self._late)} batches were not answered within {self._latency_s:g} s"

    def answered(self, scores: Sequence[Floats], online: Sequence[Floats]) -> str | None:
        """Count the answers to a batch, and the online model's; return why the version has to go, if it has."""
        self._late.append(False)
        values = np.concatenate(scores)
        if strange := values[~((values >= 0) & (values <= 1))].tolist():
            return f"it answered {strange[0]}, which is no probability, for {len(strange)} of {len(values)} rows"
        both = np.column_stack([values, np.concatenate(online)])
        self._newest = np.concatenate([self._newest, both])[-ROWS:]
        own, other = np.ptp(self._newest, axis=0) if len(self._newest) == ROWS else (1.0, 0.0)
        if own < SAME and other > APART:
            return f"its scores have collapsed: the last {ROWS} are all {self._newest[-1, 0]:.6g}"
        return None
