"""The monitor of what comes in and what is predicted: whether it is distributed as it was while nothing was wrong.

All tests of a stream share its budget. Each of T tests, a table by a span by a statistic, is on where its chance is
below ROWS / (2 T false_alarms). Then the chance that any is on within n blocks without a change is at most
n ROWS / (2 false_alarms), whatever depends on what (the union bound), and so it takes at least `false_alarms` events
on average until one is (a window-limited scheme, Lai, "Sequential changepoint detection in quality control and
dynamical systems", JRSS B, 1995). Features are named likewise: what explains an alert is itself beyond that level.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.drift.kernels import STATISTICS, Ints
from services.drift.panel import SPANS, Panel, PanelState
from services.drift.reducing import ROWS
from services.drift.signals import Signal, calm
from services.drift.slicing import Slicing
from services.drift.watched import Table
from services.runtime.alerts import Explained, Kind, Place, Severity
from services.runtime.summaries import Source

TOGETHER = 8  # blocks within which what begins is one case
TOLD_EVERY = 2  # blocks, while an alert stands
CALM = 0.5  # of the surprise that is needed
MOST_NAMED = 12


class Case(msgspec.Struct):
    """The tables that an alert is of, and since which block it stands. The first one gave it its name.

    `version` is the newest one that had answered by then. A silent case is of what is to change: it is adopted, and
    nothing is said of it.
    """

    kind: Kind
    subject: str
    raised: int
    version: int
    tables: list[int]
    silent: bool = False


class Distributions:
    """Turns a panel's surprises into signals: what begins together, or is made of the same field, is one case."""

    def __init__(self, panel: Panel, slicing: Slicing, tables: Sequence[Table], needed: float) -> None:
        self.panel, self.slicing, self._tables, self._needed = panel, slicing, tables, needed
        self._of: dict[Kind, list[int]] = {}
        for place, table in enumerate(tables):
            self._of.setdefault(table.kind, []).append(place)
        self.cases: list[Case] = []
        self.version = -1  # the newest one of the batch model that has answered

    def fold(self, source: Source, quantiles: NDArray[np.float32], missing: Ints, rest: Ints) -> list[Signal]:
        mark = [source.began, source.partition, source.first]
        greatest = self.panel.fold(quantiles, missing, rest, mark)
        if greatest < self._needed and not self.cases:
            return []
        self._open()
        return [signal for case in tuple(self.cases) for signal in self._say(case, source)]

    def renew(self, source: Source, version: int) -> list[Signal]:
        """Let a new champion's predictions be as they come to be; if it was trained on what has changed, adopt that."""
        reason = f"batch@{version} answers, which is newer: what it was trained on is normal now"
        said = []
        for case in [case for case in self.cases if case.kind == "predictions" or case.version < version]:
            if not case.silent:
                self.panel.adopt(case.tables, self.panel.blocks - case.raised + 1)
                said.append(self._close(case, source, reason))
        self.cases = [case for case in self.cases if not case.silent]
        mine = self._of.get("predictions", [])
        self.panel.alerted[mine] = True
        self.cases.append(Case("predictions", "", self.panel.blocks, version, list(mine), silent=True))
        return said

    def strengths(self, kind: Kind) -> dict[str, float]:
        """Return the greatest surprise of each table of a kind, of what an alert needs."""
        return {
            self._tables[table].name: float(self.panel.surprise[table].max()) / self._needed
            for table in self._of.get(kind, [])
        }

    def _open(self) -> None:
        """Make cases of the tables that have come to be beyond the level, or add these to their like."""
        surprise = self.panel.surprise.max(axis=(1, 2))
        new = (surprise >= self._needed) & ~self.panel.alerted
        if not new.any():
            return
        for kind, mine in self._of.items():
            for table in self._ranked([table for table in mine if new[table]]):
                self._join(kind, table)
                self.panel.alerted[table] = True

    def _join(self, kind: Kind, table: int) -> None:
        told = self._tables[table]
        for case in self.cases:
            akin = told.field and any(self._tables[other].field == told.field for other in case.tables)
            if case.kind == kind and (akin or self.panel.blocks - case.raised < TOGETHER):
                case.tables.append(table)
                return
        self.cases.append(Case(kind, told.name, self.panel.blocks, self.version, [table]))

    def _say(self, case: Case, source: Source) -> list[Signal]:
        age = self.panel.blocks - case.raised
        if case.silent:
            if age >= self.panel.length:
                self.panel.adopt(case.tables)
                self.panel.alerted[case.tables] = False
                self.cases.remove(case)
            return []
        greatest = float(self.panel.surprise[case.tables].max())
        if greatest < CALM * self._needed:
            return [self._close(case, source, "it is again what it was before")]
        if age >= self.panel.length:
            self.panel.adopt(case.tables)
            events = self.panel.length * ROWS
            return [self._close(case, source, f"for {events:,} events it has stayed as it is now: that is normal now")]
        if age > TOGETHER and age % TOLD_EVERY:
            return []
        return [self._signal(case, source, on=greatest >= self._needed)]

    def _close(self, case: Case, source: Source, reason: str) -> Signal:
        self.cases.remove(case)
        self.panel.alerted[case.tables] = False
        return calm(case.kind, case.subject, source, "psi", 0.0, reason)

    def state(self) -> tuple[PanelState, list[Case], int]:
        return self.panel.state(), self.cases, self.version

    def load(self, panel: PanelState, cases: list[Case], version: int) -> None:
        self.panel.load(panel)
        self.cases, self.version = cases, version

    def _signal(self, case: Case, source: Source, *, on: bool) -> Signal:
        beyond = self.panel.surprise[case.tables].max(axis=(1, 2)) >= self._needed
        named = [table for table, far in zip(case.tables, beyond.tolist(), strict=True) if far]
        ranked = self._ranked(named or case.tables[:1])
        lead = ranked[0]
        back = self.panel.since(lead)
        time, partition, offset = self.panel.mark(back)
        since = Place(time, source.topic, partition, offset)
        features = [self._explained(table, back) for table in ranked[:MOST_NAMED]]
        first = features[0]
        others = f"; also {', '.join(one.name for one in features[1:])}" if features[1:] else ""
        reason = (
            f"{_SAID[case.kind]}{first.name}: {first.statistic} {first.value:.3g} over {back * ROWS:,} events{others}"
        )
        severity: Severity = "critical" if case.kind != "features" and first.value > 1 else "warning"
        return Signal(
            case.kind,
            case.subject,
            on=on,
            calm=False,
            at=source.end,
            since=since,
            statistic=first.statistic,
            strength=first.value,
            reason=reason,
            severity=severity,
            features=features,
            slices=self.slicing.explain(lead, back, self.panel.deviation(lead)),
            retrain_from=time,
        )

    def _ranked(self, tables: Sequence[int]) -> list[int]:
        """Return tables in the order of what they explain.

        A field's own column stands before those that are made of it, in the place of the best of them.
        """
        of = {table: float(self.panel.surprise[table].max()) for table in tables}
        best: dict[str, float] = {}
        for table in tables:
            field = self._tables[table].field
            best[field] = max(best.get(field, 0.0), of[table])

        def rank(table: int) -> tuple[float, bool, float]:
            told = self._tables[table]
            group = best[told.field] if told.field and told.direct else of[table]
            return -group, not told.direct, -of[table]

        return sorted(tables, key=rank)

    def _explained(self, table: int, back: int) -> Explained:
        span, statistic = np.unravel_index(self.panel.surprise[table].argmax(), (len(SPANS), 3))
        value = float(self.panel.values[table, span, statistic])
        before, after = self.panel.before(table), self.panel.window(table, back)
        told, edges = self._tables[table], self.panel.edges_of(table)
        return Explained(
            told.name,
            STATISTICS[statistic],
            value,
            told.histogram(edges, np.rint(before).astype(np.int64)),
            told.histogram(edges, after),
        )


_SAID: dict[Kind, str] = {
    "features": "features are not distributed as before. ",
    "predictions": "predictions are not distributed as before. ",
    "missing": "values are missing, or their defaults stand in, more or less often than before. ",
    "range": "values are far outside of what was seen before. ",
}
