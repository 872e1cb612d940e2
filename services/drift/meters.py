"""What drift counts, and what it tells of alerts and of how strange each feature is."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import get_args

from services.drift.core import DriftCore
from services.runtime.alerts import Alert, Kind
from services.runtime.metrics import Found, Metrics

KINDS: tuple[Kind, ...] = get_args(Kind)
EVENTS = ("raised", "updated", "resolved")


class Meters:
    """`standing` are the alerts that are not resolved, `cores` those that fold summaries here."""

    def __init__(
        self, metrics: Metrics, standing: Callable[[], Sequence[Alert]], cores: Callable[[], Sequence[DriftCore]]
    ) -> None:
        self._standing, self._cores = standing, cores
        self._judged: float | None = None  # when a summary was folded last, seconds since 1970
        self._written = metrics.counter("thalweg_alerts_total", "Records of alerts.", ("kind", "event"))
        for kind in KINDS:
            for event in EVENTS:
                self._written.labels(kind, event)
        told = metrics.told
        told("thalweg_open_alerts", "Alerts that are not resolved.", self._open, ("kind",))
        said = "Since when no summary has come to be judged; without a value before the first."
        told("thalweg_summary_age_seconds", said, self._age)
        said = "How strange a feature is, of how strange it has to be for an alert, which is 1."
        told("thalweg_drift_strength_ratio", said, self._strengths, ("feature",))

    def judged(self, alerts: Sequence[Alert]) -> None:
        """Note that a summary was folded, and what was written because of it."""
        self._judged = time.time()
        for alert in alerts:
            self._written.labels(alert.kind, alert.event).inc()

    def _open(self) -> Found:
        counts = Counter(alert.kind for alert in self._standing())
        return {(kind,): float(counts[kind]) for kind in KINDS}

    def _age(self) -> Found:
        return {} if self._judged is None else {(): max(time.time() - self._judged, 0.0)}

    def _strengths(self) -> Found:
        return {(name,): value for core in self._cores() for name, value in core.strengths().items()}
