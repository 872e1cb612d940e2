"""Labels themselves: whether fewer of them come than did, and whether they come later.

A share is of the examples that were settled, by a label or by none in time. A stream that drops events whose label
never came has no example of them, so of it only the delay is watched.
"""

import numpy as np

from services.drift.example_rows import OUTCOMES
from services.drift.signals import Signal
from services.drift.watching import Verdict, Watch, limits
from services.runtime.stream import Stream
from services.runtime.summaries import ExampleSummary, Source

SUBJECTS = ("missing labels", "label delay")
TOLERANCES = (0.25, 0.1)  # by which share of what it was each may rise
LABEL, TIMEOUT = OUTCOMES.index("label"), OUTCOMES.index("timeout")


class Coverage:
    """`apart` is how many summaries there are to be between false alarms, on average, both subjects together."""

    def __init__(self, stream: Stream, apart: float, settle: float) -> None:
        self._horizon = stream.pipeline.label.horizon.seconds
        self._watch = Watch(np.array([limits(2 * apart, tolerance) for tolerance in TOLERANCES]), settle)
        self._totals = np.zeros(len(OUTCOMES), np.int64)

    def fold(self, summary: ExampleSummary) -> list[Signal]:
        self._totals += summary.outcomes
        missing, settled = summary.outcomes[TIMEOUT], summary.outcomes[TIMEOUT] + summary.outcomes[LABEL]
        came, total, squares, _ = summary.delays
        unit = self._horizon
        values = np.array([[settled, missing, missing], [came, total / unit, squares / unit**2]], np.float64)
        if not self._watch.fold(values, summary.source):
            return []
        return [self._signal(place, self._watch.verdict(place), summary.source) for place in self._watch.speaking()]

    def _signal(self, subject: int, verdict: Verdict, source: Source) -> Signal:
        return Signal(
            "coverage",
            SUBJECTS[subject],
            verdict.alarm,
            verdict.calm,
            source.end,
            verdict.since,
            verdict.statistic,
            verdict.strength,
            self._reason(subject, verdict),
        )

    def _reason(self, subject: int, verdict: Verdict) -> str:
        after = verdict.lately if verdict.calm else verdict.after
        if subject:
            waited, before = after * self._horizon, verdict.before * self._horizon
            return f"labels come {waited:,.0f} s after their event, {before:,.0f} s before the change"
        return f"{after:.1%} of labels never come in time, {verdict.before:.1%} before the change"

    def view(self) -> dict[str, object]:
        """Return how many rows of each outcome there were, the share without a label and the delay of late."""
        missing, delay = self._watch.verdict(0), self._watch.verdict(1)
        return {
            "outcomes": dict(zip(OUTCOMES, self._totals.tolist(), strict=True)),
            "missing": missing.lately,
            "delay_s": delay.lately * self._horizon,
            "usual_missing": missing.before,
            "usual_delay_s": delay.before * self._horizon,
        }

    def state(self) -> tuple[list[bytes], list[int]]:
        return self._watch.state(), self._totals.tolist()

    def load(self, watch: list[bytes], totals: list[int]) -> None:
        self._watch.load(watch)
        self._totals = np.array(totals, np.int64)
