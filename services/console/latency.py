"""How long each service takes, by the spans of the last minute. Pure."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from services.console.span import Span

KEPT = 500  # durations of a service
LASTS_MS = 60_000
TRITON = "triton"
WORK = ("SERVER", "CONSUMER")  # the kinds of span that are a service's own time


class Latencies:
    """Keeps the newest durations of each service."""

    def __init__(self) -> None:
        self._found: dict[str, deque[tuple[float, float]]] = {}

    def fold(self, spans: Sequence[Span]) -> None:
        for span in spans:
            if span.kind in WORK and span.service != TRITON:
                self._add(span.service, span.end_ns, span.end_ns - span.start_ns)
            elif span.service == TRITON:
                self._triton(span)

    def _triton(self, span: Span) -> None:
        """Read queue and compute off the events by which Triton marks them."""
        marks = {str(event.get("name")): int(event.get("time_ns", 0)) for event in span.events}
        queued, began, ended = (marks.get(name) for name in ("QUEUE_START", "COMPUTE_START", "COMPUTE_END"))
        if queued is not None and began is not None:
            self._add("queue", span.end_ns, began - queued)
        if began is not None and ended is not None:
            self._add("compute", span.end_ns, ended - began)

    def _add(self, name: str, end_ns: int, taken_ns: int) -> None:
        self._found.setdefault(name, deque(maxlen=KEPT)).append((end_ns / 1e6, taken_ns / 1e6))

    def of(self, name: str, now_ms: int) -> dict[str, float] | None:
        """Return the median and the 99th percentile in ms; None where no span says."""
        taken = sorted(ms for at, ms in self._found.get(name, ()) if at >= now_ms - LASTS_MS)
        if not taken:
            return None
        return {"p50": round(taken[len(taken) // 2], 3), "p99": round(taken[len(taken) * 99 // 100], 3)}

    def triton(self, now_ms: int, *, ready: bool) -> dict[str, Any]:
        queue, compute = self.of("queue", now_ms), self.of("compute", now_ms)
        return {"ready": ready, "queue_ms": queue and queue["p50"], "compute_ms": compute and compute["p50"]}
