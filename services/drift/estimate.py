"""Performance without labels: what the scores that were served say they will lose, and how wrong that turned out to be.

The estimate (CBPE, see `losses.py`) is of the newest events, whose labels are hours away. It holds as far as scores are
the probabilities that they say they are, and so is blind to a change in what labels mean; `error` says how far off it
was, summary by summary, once labels came. It may rise, the events being harder, or fall, the model being surer.
"""

import numpy as np
from numpy.typing import NDArray

from services.drift.example_rows import SERVED
from services.drift.losses import expected_loss
from services.drift.signals import Signal
from services.drift.watching import Verdict, Watch, limits
from services.runtime.alerts import Place
from services.runtime.summaries import EXPECTED, LOSS, ExampleSummary, Source

WAYS = ("risen", "fallen")
HIGHEST = 0.7  # above what any score is expected to lose: ln 2
TOLERANCE = 0.05
MEMORY = 50.0  # summaries that the estimate's error is the mean of


class Estimate:
    """`apart` is how many summaries there are to be between false alarms, on average, both ways together."""

    def __init__(self, apart: float, settle: float) -> None:
        self._watch = Watch(np.array([limits(2 * apart, TOLERANCE) for _ in WAYS]), settle)
        self.error: float | None = None  # mean absolute, in nats
        self._judged = 0

    def fold(self, summary: ExampleSummary) -> None:
        """Take note of how far the estimate was off for rows whose labels have come."""
        for judged in summary.models:
            if judged.model == SERVED:
                sums = np.frombuffer(judged.sums)
                off = abs(float(sums[EXPECTED] - sums[LOSS])) / judged.rows
                self._judged += 1
                before = self.error or 0.0
                self.error = before + (off - before) / min(self._judged, MEMORY)

    def fold_scores(self, source: Source, served: NDArray[np.floating]) -> list[Signal]:
        """Take a summary's scores as they were served, or a fair part of them."""
        expected = expected_loss(served[~np.isnan(served)])
        values = np.array([_sums(expected), _sums(HIGHEST - expected)])
        if not self._watch.fold(values, source):
            return []
        return [self._signal(place, self._watch.verdict(place), source.end) for place in self._watch.speaking()]

    def _signal(self, way: int, verdict: Verdict, at: Place) -> Signal:
        before, after = (HIGHEST - v if way else v for v in (verdict.before, verdict.after))
        so_far = "" if self.error is None else f"; so far estimates were off by {self.error:.3f} where labels came"
        over = " and is back" if verdict.calm and not verdict.settled else ""
        return Signal(
            "estimate",
            f"{SERVED}: {WAYS[way]}",
            verdict.alarm,
            verdict.calm,
            at,
            verdict.since,
            verdict.statistic,
            verdict.strength,
            f"the loss that scores foretell has {WAYS[way]} from {before:.3f} to {after:.3f} nats{over}{so_far}",
        )

    def view(self) -> dict[str, object]:
        """Return what the newest scores foretell, what was usual, and how far off estimates were, in nats."""
        one = self._watch.verdict(0)
        return {"before": one.before, "lately": one.lately, "mean_absolute_error": self.error}

    def state(self) -> tuple[list[bytes], float | None, int]:
        return self._watch.state(), self.error, self._judged

    def load(self, watch: list[bytes], error: float | None, judged: int) -> None:
        self._watch.load(watch)
        self.error, self._judged = error, judged


def _sums(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(len(values)), float(values.sum()), float((values * values).sum())
