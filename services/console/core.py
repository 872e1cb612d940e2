"""The picture that an operator looks at, folded from what services sum up. Pure.

Each part has a number that grows with every change, by which whoever shows it sees that there is news.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from services.console.flow import Flow, Probe
from services.console.latency import Latencies
from services.console.span import Span
from services.console.tape import Tape
from services.runtime.records import Record
from services.runtime.stream import Stream

Part: TypeAlias = Literal["flow", "quality", "tape", "models", "alerts", "drift", "dead"]
PARTS: tuple[Part, ...] = ("flow", "tape")


class ConsoleCore:
    """Folds records, and looks at what is no record: the ends of topics, probes, spans."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._latencies = Latencies()
        self.flow = Flow(self._latencies)
        self.tape = Tape(stream.pipeline.label.field)
        self.news: dict[Part, int] = dict.fromkeys(PARTS, 0)

    def probed(self, at_ms: int, reports: Mapping[str, Probe | None]) -> None:
        self.flow.probe(at_ms, reports)
        self._changed("flow")

    def ended(self, at_ms: int, ends: Mapping[str, int], waiting: str | None = None) -> None:
        """Take where topics end, by their kind."""
        self.flow.ends(at_ms, ends, waiting)
        self._changed("flow")

    def sampled(self, predictions: Sequence[Record]) -> None:
        self.tape.fold(predictions)
        self._changed("tape")

    def traced(self, spans: Sequence[Span]) -> None:
        self._latencies.fold(spans)

    def view(self, part: Part) -> dict[str, Any]:
        views = {"flow": self.flow.view, "tape": self.tape.view}
        return views[part]()

    def _changed(self, part: Part) -> None:
        self.news[part] += 1
