"""What examples tell: loss, calibration, estimates held against what came, and the labels' own coming. Pure.

The false alarms that are allowed are shared: half for loss, where an alarm counts most.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.drift.by_model import ByModelState
from services.drift.calibration import Calibration
from services.drift.coverage import Coverage
from services.drift.estimate import Estimate
from services.drift.example_rows import SERVED
from services.drift.example_summaries import ROWS
from services.drift.loss import Loss
from services.drift.signals import Signal
from services.runtime.layout import Layout
from services.runtime.stream import Stream
from services.runtime.summaries import ExampleSummary, ScoredSummary, Source

SHARES = {"loss": 0.5, "calibration": 0.2, "estimate": 0.15, "coverage": 0.15}
SETTLE = 5000.0  # labelled events until what lasts is normal, and at the beginning until a model is what it will be


class QualityState(msgspec.Struct):
    """What Quality holds."""

    loss: ByModelState
    calibration: tuple[ByModelState, dict[str, bytes]]
    estimate: tuple[list[bytes], float | None, int]
    coverage: tuple[list[bytes], list[int]]
    labelled: int


class Quality:
    """Folds summaries of `examples`, and of `scored` every second of the scores that were served.

    `share` is of the stream's false alarms: while nothing changes there are `false_alarms` / `share` events between two
    alarms of these monitors on average, all models, slices and statistics together (the union bound on rates).
    Models that have hardly begun to learn are not judged: the first examples are passed over.
    """

    def __init__(self, stream: Stream, share: float) -> None:
        rule, names = stream.pipeline.drift, Layout(stream).numbers
        self._columns, self._served = len(names), names.index(SERVED)
        apart = {kind: rule.false_alarms / (ROWS * share * part) for kind, part in SHARES.items()}
        self._loss = Loss(stream, apart["loss"], SETTLE / ROWS)
        self._calibration = Calibration(apart["calibration"], SETTLE / ROWS)
        self._estimate = Estimate(apart["estimate"], SETTLE / ROWS)
        self._coverage = Coverage(stream, apart["coverage"], SETTLE / ROWS)
        self._labelled = 0

    def fold(self, summary: ExampleSummary | ScoredSummary) -> list[Signal]:
        if isinstance(summary, ScoredSummary):
            quantiles = np.frombuffer(summary.quantiles, np.float32).reshape(self._columns, -1)
            return self.fold_scores(summary.source, quantiles[self._served])
        self._labelled += summary.rows
        if not self._learned:
            return self._coverage.fold(summary)
        self._estimate.fold(summary)
        return [*self._loss.fold(summary), *self._calibration.fold(summary), *self._coverage.fold(summary)]

    @property
    def _learned(self) -> bool:
        return self._labelled > SETTLE

    def fold_scores(self, source: Source, served: NDArray[np.floating]) -> list[Signal]:
        """Take the scores that were served of a summary, or a fair part of them."""
        return self._estimate.fold_scores(source, served) if self._learned else []

    def warm_up(self) -> None:
        """Compile the detectors, or load them from their cache, before the first summary waits for them: try others."""
        other = Estimate(1e4, 50.0)
        for number in range(3):
            other.fold_scores(Source("", 0, number, 0, 0, 0, 0), np.full(50, 0.5))

    def view(self) -> dict[str, object]:
        """Return what a person may ask, as JSON takes it."""
        return {
            "loss": self._loss.view(),
            "calibration": self._calibration.view(),
            "estimate": self._estimate.view(),
            "coverage": self._coverage.view(),
        }

    # Snapshots

    def snapshot(self) -> bytes:
        parts = self._loss.state(), self._calibration.state(), self._estimate.state(), self._coverage.state()
        return msgspec.msgpack.encode(QualityState(*parts, self._labelled))

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state, type=QualityState)
        self._loss.load(held.loss)
        self._calibration.load(*held.calibration)
        self._estimate.load(*held.estimate)
        self._coverage.load(*held.coverage)
        self._labelled = held.labelled
