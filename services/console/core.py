"""The picture that an operator looks at, folded from what services sum up. Pure.

Each part has a number that grows with every change, by which whoever shows it sees that there is news.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from services.console.alarms import Alarms
from services.console.dead import Dead
from services.console.drifting import Drifting
from services.console.flow import Flow, Probe
from services.console.latency import Latencies
from services.console.quality import Quality
from services.console.span import Span
from services.console.tape import Mask, Tape
from services.console.versions import Versions
from services.runtime.layout import Layout
from services.runtime.records import Record
from services.runtime.stream import Stream
from services.runtime.summaries import ExampleSummary, ScoredSummary

Part: TypeAlias = Literal["flow", "quality", "tape", "models", "alerts", "drift", "dead"]
PARTS: tuple[Part, ...] = ("flow", "quality", "tape", "models", "alerts", "drift", "dead")
Cursor: TypeAlias = tuple[int, int]


class ConsoleCore:
    """Folds records, and looks at what is no record: the ends of topics, probes, spans."""

    def __init__(self, stream: Stream, mask: Mask) -> None:
        self._latencies = Latencies()
        self.flow = Flow(self._latencies)
        self.tape = Tape(stream, mask)
        layout = Layout(stream)
        self.quality, self.drift = Quality(layout), Drifting(layout)
        self.versions, self.alarms, self.dead = Versions(stream), Alarms(), Dead()
        self.news: dict[Part, int] = dict.fromkeys(PARTS, 0)

    def probed(self, at_ms: int, reports: Mapping[str, Probe | None]) -> None:
        self.flow.probe(at_ms, reports)
        self._changed("flow")

    def ended(self, at_ms: int, ends: Mapping[str, int], waiting: str | None = None) -> None:
        """Take where topics end, by their kind."""
        self.flow.ends(at_ms, ends, waiting)
        self._changed("flow")

    def sampled(self, predictions: Sequence[Record], filled: float) -> None:
        """Take some of the newest predictions, and which share of the offsets there were predictions."""
        self.tape.fold(predictions)
        self.flow.filled("predictions", filled)
        self._changed("tape")

    def labelled(self, event_id: str, label: float) -> None:
        """Take the label of an event that somebody asked for."""
        self.tape.label(event_id, label)
        self._changed("tape")

    def traced(self, spans: Sequence[Span]) -> None:
        self._latencies.fold(spans)

    def summed_up(self, examples: Sequence[ExampleSummary], scored: Sequence[ScoredSummary]) -> None:
        if examples:
            self.quality.fold(examples, self.versions.champion)
            self._changed("quality")
        if scored:
            self.drift.fold(scored)
            self._changed("drift")

    def moved(self, models: Sequence[Record]) -> None:
        self.versions.fold(models)
        self._changed("models")

    def alarmed(self, alerts: Sequence[Record]) -> None:
        self.alarms.fold(alerts)
        self._changed("alerts")

    def ordered(self, commands: Sequence[Record]) -> None:
        self.alarms.obey(commands)
        self._changed("alerts")

    def refused(self, letters: Sequence[Record]) -> None:
        self.dead.fold(letters)
        self._changed("dead")

    def view(self, part: Part) -> dict[str, Any]:
        """Return a part whole."""
        views: dict[Part, Callable[[], dict[str, Any]]] = {
            "flow": self.flow.view,
            "quality": lambda: self.quality.view()[0],
            "tape": self.tape.view,
            "models": self.versions.view,
            "alerts": self.alarms.view,
            "drift": self.drift.view,
            "dead": self.dead.view,
        }
        return views[part]()

    def _changed(self, part: Part) -> None:
        self.news[part] += 1
