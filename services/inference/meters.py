"""What inference measures beside its loop: how old events are when they are predicted, and what was degraded."""

import time
from collections.abc import Sequence

from services.runtime.logs import trace_id
from services.runtime.metrics import AGES, Metrics
from services.runtime.produced import timestamps
from services.runtime.records import Record


class Ages:
    """Measures the events of a batch once their predictions are committed, by the log's own timestamps."""

    def __init__(self, metrics: Metrics) -> None:
        name, said = "thalweg_prediction_age_seconds", "Age of an event when its prediction was committed."
        self._ages = metrics.histogram(name, said, AGES)

    def after(self, records: Sequence[Record]) -> None:
        now = time.time()
        for record in records:
            for timestamp, rows in timestamps(record):
                self._ages.observe(max(now - timestamp / 1000, 0.0), rows, trace_id())
