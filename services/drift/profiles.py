"""What the stream was like before the live version of the batch model first answered: that is what it was trained on.

It is held against the newest blocks when the stable period has moved on to another world without the version having
been trained anew: what stands as an alert anyway is not said twice.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from services.drift.kernels import STATISTICS, Floats, Ints
from services.drift.panel import SPANS, Cuts, Panel
from services.drift.signals import Signal
from services.drift.watched import Table
from services.runtime.alerts import Explained, Place
from services.runtime.summaries import Source

CALM = 0.5
MOST_NAMED = 12


class ProfileState(msgspec.Struct):
    """What Profile holds."""

    version: int
    began: list[int]
    standing: bool
    cuts: Cuts | None


class Profile:
    """The tables as they were when version `version` became champion, or, if later, first known."""

    def __init__(self, panel: Panel, tables: Sequence[Table], needed: float) -> None:
        self._panel, self._tables, self._needed = panel, tables, needed
        self._mine = np.array([place for place, table in enumerate(tables) if table.kind == "features"], np.int64)
        self.version, self._began = -1, [0, 0, 0]
        self._standing = False
        self._cuts: Cuts | None = None

    def renew(self, version: int, source: Source) -> list[Signal]:
        """Take the stream as the panel knows it for what a new champion was trained on."""
        said = [self._signal(source, "another version answers now")] if self._standing else []
        self.version, self._began, self._standing = version, [source.began, source.partition, source.first], False
        self._cuts = self._panel.cuts() if self._panel.ready else None
        return said

    def fold(self, source: Source) -> list[Signal]:
        """Look at the newest blocks, as often as they are all new ones."""
        if self.version >= 0 and self._cuts is None and self._panel.ready:
            self._cuts = self._panel.cuts()
        if self._cuts is None or self._panel.blocks % int(SPANS[-1]):
            return []
        surprise, values, counts = self._panel.against(self._cuts)
        mine = self._mine[~self._panel.alerted[self._mine]]
        greatest = float(surprise[mine].max()) if len(mine) else 0.0
        if self._standing and greatest < CALM * self._needed:
            self._standing = False
            return [self._signal(source, "the stream is again what it was then")]
        if greatest < self._needed:
            return []
        self._standing = True
        named = mine[surprise[mine].max(axis=1) >= self._needed]
        ranked = named[np.argsort(-surprise[named].max(axis=1), kind="stable")][:MOST_NAMED].tolist()
        features = [
            self._explained(self._cuts, place, surprise[place], values[place], counts[place]) for place in ranked
        ]
        names = ", ".join(one.name for one in features)
        return [self._signal(source, f"the stream is not what the version was trained on: {names}", features)]

    def _explained(self, cuts: Cuts, table: int, surprise: Floats, values: Floats, counts: Ints) -> Explained:
        statistic = int(surprise.argmax())
        edges, reference = self._panel.cut_then(cuts, table)
        told = self._tables[table]
        before, after = told.histogram(edges, np.rint(reference).astype(np.int64)), told.histogram(edges, counts)
        return Explained(told.name, STATISTICS[statistic], float(values[statistic]), before, after)

    def _signal(self, source: Source, reason: str, features: Sequence[Explained] = ()) -> Signal:
        time, partition, offset = self._began
        since = Place(time, source.topic, partition, offset)
        first = features[0] if features else Explained("", "psi", 0.0)
        return Signal(
            "features",
            f"batch@{self.version}",
            on=bool(features),
            calm=not features,
            at=source.end,
            since=since,
            statistic=first.statistic,
            strength=first.value,
            reason=reason,
            features=list(features),
        )

    # Snapshots

    def state(self) -> ProfileState:
        return ProfileState(self.version, self._began, self._standing, self._cuts)

    def load(self, held: ProfileState) -> None:
        self.version, self._began, self._standing, self._cuts = held.version, held.began, held.standing, held.cuts
