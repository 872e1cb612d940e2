"""The river as it runs: what each process says of itself, and how fast each topic grows. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from services.console.latency import Latencies
from services.console.rates import Rate
from services.console.topology import EDGES, PARTS


class Probe(msgspec.Struct, frozen=True):
    """What is read of a probe's answer; `services/runtime/health.py` writes it. `lag` counts records by topic."""

    service: str
    status: str
    waiting_for: str | None = None
    folded: int = 0
    lag: Mapping[str, int] | None = None
    busy: str | None = None

    @property
    def ready(self) -> bool:
        return self.status == "ready"


class Flow:
    """Folds looks at probes and at the ends of topics. A process that gave no answer is `silent`."""

    def __init__(self, latencies: Latencies) -> None:
        self._latencies = latencies
        self.at = 0
        self._reports: Mapping[str, Probe | None] = {}
        self._waiting: str | None = None
        self._folded: dict[str, Rate] = {}
        self._ends: Mapping[str, int] = {}
        self._topics: dict[str, Rate] = {}
        self._filled: dict[str, float] = {}

    def probe(self, at_ms: int, reports: Mapping[str, Probe | None]) -> None:
        """Take what each process answered, by its name."""
        self.at, self._reports = at_ms, reports
        self._folded = {name: self._folded.get(name) or Rate() for name in reports}
        for name, report in reports.items():
            if report is not None:
                self._folded[name].look(at_ms, report.folded)

    def ends(self, at_ms: int, ends: Mapping[str, int], waiting: str | None = None) -> None:
        """Take where each topic ends, all its partitions together; `waiting`: what keeps the broker from saying so."""
        self.at, self._waiting = at_ms, waiting
        self._ends = {**self._ends, **ends}
        for topic, end in ends.items():
            self._topics.setdefault(topic, Rate()).look(at_ms, end)

    def filled(self, topic: str, share: float) -> None:
        """Take which share of a topic's newest offsets were records: the others mark where transactions ended."""
        self._filled[topic] = share

    def view(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "waiting_for": self._waiting,
            "services": [self._service(name, report) for name, report in self._reports.items()],
            "topics": [
                {"name": topic, "rate": round(self._rate(topic), 2), "end": end} for topic, end in self._ends.items()
            ],
            "edges": EDGES,
            "triton": self._latencies.triton(self.at, ready=not self._waits_for_triton()),
        }

    def _service(self, name: str, report: Probe | None) -> dict[str, Any]:
        service, _, instance = name.partition("-")
        rate = self._folded[name]
        part = PARTS.get(service)
        out_rate = self._rate(part.writes[0]) if part else 0.0
        in_rate = out_rate if service == "ingestion" else rate.a_second
        lag = sum(report.lag.values()) if report is not None and report.lag is not None else None
        return {
            "name": service,
            "instance": instance or "1",
            "status": "silent" if report is None else report.status,
            "waiting_for": None if report is None else report.waiting_for,
            "busy": None if report is None else report.busy,
            "in_rate": round(in_rate, 2),
            "out_rate": round(out_rate, 2),
            "lag_records": lag,
            "lag_s": _seconds(lag, in_rate),
            "latency_ms": self._latencies.of(service, self.at),
            "restarts": rate.begun_again,
        }

    def _rate(self, topic: str) -> float:
        return self._topics[topic].a_second * self._filled.get(topic, 1.0) if topic in self._topics else 0.0

    def _waits_for_triton(self) -> bool:
        return any("Triton" in (report.waiting_for or "") for report in self._reports.values() if report is not None)


def _seconds(lag: int | None, rate: float) -> float | None:
    """Return how long it takes to read what is not read yet, at the pace of now; None if that is not known."""
    if lag == 0:
        return 0.0
    return None if lag is None or rate <= 0 else round(lag / rate, 2)
