"""How long labels were awaited, counted in bins of a constant ratio: quantiles to 2 %.

Masson, Rim, Lee: "DDSketch", VLDB 2019, without its collapsing: the range here is bounded.
"""

import numpy as np

from services.replay.drift.buckets import Floats

LEAST, RATIO, BINS = 1e-3, 1.04, 720  # seconds; up to about 50 years


class Delays:
    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)

    def fold(self, seconds: Floats) -> None:
        places = np.ceil(np.log(np.maximum(seconds, LEAST) / LEAST) / np.log(RATIO))
        self.counts += np.bincount(np.minimum(places, BINS - 1).astype(np.int64), minlength=BINS)

    def quantile(self, share: float) -> float | None:
        """Return the delay, in seconds, that so many are within; None before the first."""
        total = int(self.counts.sum())
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(self.counts), share * total))
        return float(LEAST * RATIO**place * 2 / (1 + RATIO))
