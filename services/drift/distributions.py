"""The monitor of what comes in and what is predicted: whether it is distributed as it was while nothing was wrong.

All tests of a stream share its budget. Each of T tests, a table by a span by a statistic, is on where its chance is
below ROWS / (2 T false_alarms). Then the chance that any is on within n blocks without a change is at most
n ROWS / (2 false_alarms), whatever depends on what (the union bound), and so it takes at least `false_alarms` events
on average until one is (a window-limited scheme, Lai, "Sequential changepoint detection in quality control and
dynamical systems", JRSS B, 1995). Features are named likewise: what explains an alert is itself beyond that level.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.drift.kernels import STATISTICS, Ints
from services.drift.panel import SPANS, Panel, PanelState
from services.drift.reducing import ROWS
from services.drift.signals import Signal
from services.drift.summaries import Source
from services.runtime.alerts import Explained, Histogram, Kind, Place, Severity

TOLD_EVERY = 4  # blocks, while an alert stands
CALM = 0.5  # of the surprise that is needed
MOST_NAMED = 12


class Table(NamedTuple):
    """What a table is of: the kind of alert, the column's name, and the names of its cells if it has no edges.

    `field` is what the column is made of, `direct` where it is that itself: it comes first among those it explains.
    """

    kind: Kind
    name: str
    cells: Sequence[str] = ()
    field: str = ""
    direct: bool = False


class Distributions:
    """Turns a panel's surprises into signals: one subject a kind, ranked by what is most surprising."""

    def __init__(self, panel: Panel, tables: Sequence[Table], needed: float, settle: int) -> None:
        self.panel, self._tables, self._needed, self._settle = panel, tables, needed, settle // ROWS
        self._of = {
            kind: [i for i, t in enumerate(tables) if t.kind == kind] for kind in dict.fromkeys(t.kind for t in tables)
        }
        self.standing: dict[Kind, int] = {}  # since which block an alert of a kind stands

    def fold(self, source: Source, quantiles: NDArray[np.float32], missing: Ints, rest: Ints) -> list[Signal]:
        mark = [source.began, source.partition, source.first]
        greatest = self.panel.fold(quantiles, missing, rest, mark, learns=not self.standing)
        if greatest < self._needed and not self.standing:
            return []
        return [signal for kind in self._of for signal in self._say(kind, source)] + self._settled(source)

    def adopt(self, source: Source, reason: str) -> list[Signal]:
        """Let the stream as it is be how it is; what stands is resolved for that reason."""
        self.panel.adopt()
        signals = [self._calm(kind, source, reason) for kind in self.standing]
        self.standing = {}
        return signals

    def state(self) -> tuple[PanelState, dict[Kind, int]]:
        return self.panel.state(), self.standing

    def load(self, panel: PanelState, standing: dict[Kind, int]) -> None:
        self.panel.load(panel)
        self.standing = standing

    def _settled(self, source: Source) -> list[Signal]:
        if self.standing and self.panel.blocks - min(self.standing.values()) >= self._settle:
            events = self._settle * ROWS
            return self.adopt(
                source, f"it has stayed as it is now for {events:,} events: that is what it is held against"
            )
        return []

    def _say(self, kind: Kind, source: Source) -> list[Signal]:
        surprise = self.panel.surprise[self._of[kind]]
        greatest = float(surprise.max())
        if kind not in self.standing:
            if greatest < self._needed:
                return []
            self.standing[kind] = self.panel.blocks
        elif greatest < CALM * self._needed:
            del self.standing[kind]
            return [self._calm(kind, source, "it is again what it was before")]
        elif (self.panel.blocks - self.standing[kind]) % TOLD_EVERY:
            return []
        return [self._signal(kind, source, on=greatest >= self._needed)]

    def _calm(self, kind: Kind, source: Source, reason: str) -> Signal:
        return Signal(
            kind,
            "stream",
            on=False,
            calm=True,
            at=source.end,
            since=source.end,
            statistic="psi",
            strength=0.0,
            reason=reason,
        )

    def _signal(self, kind: Kind, source: Source, *, on: bool) -> Signal:
        ranked = self._ranked(kind)
        lead = ranked[0]
        back = self.panel.since(lead)
        time, partition, offset = self.panel.mark(back)
        since = Place(time, source.topic, partition, offset)
        features = [self._explained(table, back) for table in ranked[:MOST_NAMED]]
        first = features[0]
        others = f"; also {', '.join(one.name for one in features[1:])}" if features[1:] else ""
        reason = f"{_SAID[kind]}{first.name}: {first.statistic} {first.value:.3g} over {back * ROWS:,} events{others}"
        severity: Severity = "critical" if kind != "features" and first.value > 1 else "warning"
        return Signal(
            kind,
            "stream",
            on=on,
            calm=False,
            at=source.end,
            since=since,
            statistic=first.statistic,
            strength=first.value,
            reason=reason,
            severity=severity,
            features=features,
            retrain_from=time,
        )

    def _ranked(self, kind: Kind) -> list[int]:
        """Return the tables that are beyond the level, or the one nearest to it: first what explains most.

        A field's own column stands before those that are made of it, if it is beyond the level too.
        """
        of = {table: float(self.panel.surprise[table].max()) for table in self._of[kind]}
        named = [table for table, surprise in of.items() if surprise >= self._needed]
        named = named or [max(of, key=lambda table: of[table])]
        best: dict[str, float] = {}
        for table in named:
            field = self._tables[table].field
            best[field] = max(best.get(field, 0.0), of[table])

        def rank(table: int) -> tuple[float, bool, float]:
            told = self._tables[table]
            group = best[told.field] if told.field and told.direct else of[table]
            return -group, not told.direct, -of[table]

        return sorted(named, key=rank)

    def _explained(self, table: int, back: int) -> Explained:
        span, statistic = np.unravel_index(self.panel.surprise[table].argmax(), (len(SPANS), 3))
        value = float(self.panel.values[table, span, statistic])
        before, after = self.panel.before(table), self.panel.window(table, back)
        return Explained(
            self._tables[table].name,
            STATISTICS[statistic],
            value,
            self._histogram(table, np.rint(before).astype(np.int64)),
            self._histogram(table, after),
        )

    def _histogram(self, table: int, counts: Ints) -> Histogram:
        if names := self._tables[table].cells:
            return Histogram(counts.tolist(), names=list(names))
        edges = self.panel.edges[table, : self.panel.filled[table]]
        return Histogram(counts[:-1].tolist(), edges.tolist(), missing=int(counts[-1]))


_SAID: dict[Kind, str] = {
    "features": "features are not distributed as before. ",
    "predictions": "predictions are not distributed as before. ",
    "missing": "values are missing, or their defaults stand in, more or less often than before. ",
    "range": "values are far outside of what was seen before. ",
}
