"""From summaries to alerts. Pure: how summaries get here and alerts from here is the business of the shell."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from services.drift.alarms import Alarms
from services.drift.example_summaries import ExampleReducer
from services.drift.features import Features
from services.drift.quality import Quality
from services.drift.reducing import ScoredReducer
from services.drift.signals import Signal
from services.runtime.alerts import Alert
from services.runtime.errors import Stop
from services.runtime.stream import Stream
from services.runtime.summaries import ExampleSummary, ScoredSummary, Summary, decode_summary

__all__ = ["DriftCore", "ExampleReducer", "ScoredReducer"]


class Monitor(Protocol):
    """Folds the summaries that are its business, in order, and says what it makes of them."""

    def fold(self, summary: Any) -> list[Signal]: ...  # noqa: ANN401 - each takes its own kind of summary

    def warm_up(self) -> None: ...

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None: ...


class CoreState(msgspec.Struct):
    """What DriftCore holds: the last summary of each partition, each monitor's state, the alerts."""

    summaries: int
    seen: list[tuple[str, int, int]]
    monitors: list[bytes]
    standing: dict[str, Alert]
    raised: dict[str, int]


class DriftCore:
    """The fold of `summaries`. One that was seen before counts once."""

    def __init__(self, stream: Stream) -> None:
        self._quality, self._features = Quality(stream, 0.5), Features(stream)  # each has half of the false alarms
        monitors: list[tuple[tuple[type[Summary], ...], Monitor]] = [
            ((ScoredSummary,), self._features),
            ((ScoredSummary, ExampleSummary), self._quality),
        ]
        self._monitors = monitors
        self._alarms = Alarms()
        self._seen: dict[tuple[str, int], int] = {}
        self._summaries = 0

    def fold(self, summary: bytes) -> list[Alert]:
        """Take the next summary of the log; return what there is to say of alerts. Stop where one was left out."""
        told = decode_summary(summary)
        place, number = (told.source.topic, told.source.partition), told.source.number
        newest = self._seen.get(place, number - 1)
        if number <= newest:
            return []
        if number > newest + 1:
            raise Stop(
                f"summary {number} of {place[0]}[{place[1]}] follows {newest}: the log has lost what was between, and"
                " alerts would not be those of all rows; drop drift's changelog topics to begin with what there is"
            )
        self._seen[place] = number
        self._summaries += 1
        signals = [s for kinds, monitor in self._monitors if isinstance(told, kinds) for s in monitor.fold(told)]
        return self._alarms.fold(signals)

    def warm_up(self) -> None:
        """Compile what the monitors need, or load it from its cache, before the first summary waits for it."""
        for _, monitor in self._monitors:
            monitor.warm_up()

    def view(self) -> dict[str, object]:
        """Return what a person may ask of it, as JSON takes it."""
        standing: Sequence[Alert] = self._alarms.standing()
        return {
            "summaries": self._summaries,
            "partitions": {f"{topic}[{partition}]": number for (topic, partition), number in self._seen.items()},
            "quality": self._quality.view(),
            "alerts": [msgspec.to_builtins(alert) for alert in standing],
        }

    def strengths(self) -> dict[str, float]:
        """Return how strange each feature is, of how strange it has to be for an alert."""
        return self._features.strengths()

    # Snapshots

    def snapshot(self) -> bytes:
        seen = [(*place, number) for place, number in sorted(self._seen.items())]
        monitors = [monitor.snapshot() for _, monitor in self._monitors]
        return msgspec.msgpack.encode(CoreState(self._summaries, seen, monitors, *self._alarms.state()))

    def restore(self, state: bytes) -> None:
        held = msgspec.msgpack.decode(state, type=CoreState)
        self._summaries = held.summaries
        self._seen = {(topic, partition): number for topic, partition, number in held.seen}
        for (_, monitor), kept in zip(self._monitors, held.monitors, strict=True):
            monitor.restore(kept)
        self._alarms.load(held.standing, held.raised)
