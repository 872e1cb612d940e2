"""Calibration: whether a model's probabilities still are what they say, as far as they ever were.

Four means may rise, each by its own watch: the Brier score beyond what the model expected of it (surer than it may be;
Spiegelhalter, 1986), the same the other way round (less sure than it may be), labels beyond scores, scores beyond
labels. A row's is between -1 and 1; 1 is added, so that it is no less than 0.
"""

import numpy as np
from numpy.typing import NDArray

from services.drift.by_model import ByModel, ByModelState
from services.drift.signals import Signal
from services.drift.watching import Verdict, Watch, limits
from services.runtime.alerts import Explained, Histogram
from services.runtime.summaries import BIAS, BIAS2, BINS, GAP, GAP2, ExampleSummary, Judged, Source

Floats = NDArray[np.float64]
WAYS = ("surer than it may be", "less sure than it may be", "too low", "too high")
TOLERANCE = 0.01  # of the mean, which is near 1
SIGNS, TOTALS, SQUARES = np.array([1.0, -1.0, 1.0, -1.0]), [GAP, GAP, BIAS, BIAS], [GAP2, GAP2, BIAS2, BIAS2]
MEMORY = 50.0  # summaries of which the reliability diagram is, that a person is shown


class Calibration:
    """`apart` is how many summaries there are to be between false alarms, on average, all subjects together."""

    def __init__(self, apart: float, settle: float) -> None:
        def make(share: float) -> Watch:
            return Watch(np.array([limits(len(WAYS) * apart / share, TOLERANCE) for _ in WAYS]), settle)

        self._models = ByModel(make)
        self._bins: dict[str, Floats] = {}

    def fold(self, summary: ExampleSummary) -> list[Signal]:
        return [signal for one in summary.models for signal in self._fold(one, summary.source)]

    def _fold(self, judged: Judged, source: Source) -> list[Signal]:
        watch, sums = self._models[judged.model], np.frombuffer(judged.sums)
        self._count(judged)
        values, totals = np.empty((len(WAYS), 3)), SIGNS * sums[TOTALS]
        values[:, 0] = judged.rows
        values[:, 1] = judged.rows + totals
        values[:, 2] = judged.rows + 2 * totals + sums[SQUARES]
        if not watch.fold(values, source):
            return []
        return [self._signal(judged.model, place, watch.verdict(place), source) for place in watch.speaking()]

    def _count(self, judged: Judged) -> None:
        if judged.model not in self._bins:
            self._bins = {model: bins for model, bins in self._bins.items() if model in self._models.watches}
            self._bins[judged.model] = np.zeros((BINS, 3))
        bins = self._bins[judged.model]
        bins *= 1 - 1 / MEMORY
        bins += np.frombuffer(judged.bins).reshape(BINS, 3)

    def _signal(self, model: str, way: int, verdict: Verdict, source: Source) -> Signal:
        subject, rise = f"{model}: {WAYS[way]}", verdict.after - verdict.before
        over = " no longer" if verdict.calm else ""
        return Signal(
            "calibration",
            subject,
            verdict.alarm,
            verdict.calm,
            source.end,
            verdict.since,
            verdict.statistic,
            verdict.strength,
            f"what {model} says is{over} {WAYS[way]}, by {rise:.3f} more than before",
            features=[Explained(model, "expected calibration error", self._error(model), None, self._histogram(model))],
            retrain_from=verdict.since.time,
        )

    def _error(self, model: str) -> float:
        """Return the expected calibration error of late: |labels - scores| by bin, weighted by rows."""
        rows, scores, labels = self._bins[model].T
        return float(np.abs(labels - scores).sum() / max(rows.sum(), 1.0))

    def _histogram(self, model: str) -> Histogram:
        edges = [place / BINS for place in range(1, BINS)]
        return Histogram(self._bins[model][:, 0].round().astype(int).tolist(), edges)

    def view(self) -> dict[str, object]:
        """Return each model's expected calibration error of late, and its reliability diagram: rows, scores, labels."""
        return {
            model: {"error": self._error(model), "bins": bins.round(3).tolist()} for model, bins in self._bins.items()
        }

    def state(self) -> tuple[ByModelState, dict[str, bytes]]:
        return self._models.state(), {model: bins.tobytes() for model, bins in self._bins.items()}

    def load(self, models: ByModelState, bins: dict[str, bytes]) -> None:
        self._models.load(models)
        self._bins = {model: np.frombuffer(held).reshape(BINS, 3).copy() for model, held in bins.items()}
