"""What a process counts and measures, as Prometheus reads it: one registry of ours a process, and its page.

Names are OpenTelemetry's where its conventions have one (`messaging_…`, `http_…`, labelled as its spans are), and
`thalweg_…` in base units otherwise. What is emitted by whom stands in `infra/telemetry.toml`. Values are set once a
batch; what can be read when somebody asks is read then, and costs nothing before.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar

__all__ = ["Counter", "Histogram", "Metrics"]

Values: TypeAlias = tuple[str, ...]  # of a metric's labels, in their order
Found: TypeAlias = Mapping[Values, float]
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
AGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
SIZES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0, 30000.0)


class Metrics:
    """The metrics of one process; two of one name are refused."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def of_process(self) -> None:
        """Have memory, CPU, open files and the interpreter told as well; of nothing when it began to be counted."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        """Return a counter; a name ends in `_total`."""
        return Counter(name, meaning, labels, registry=self._registry)

    def histogram(
        self, name: str, meaning: str, edges: Sequence[float] = SECONDS, labels: Mapping[str, str] | None = None
    ) -> "Histogram":
        """Return one histogram; its labels, if any, never change. There may be several of a name: see `histograms`."""
        histograms = self.histograms(name, meaning, edges, tuple(labels or {}))
        return histograms(*(labels or {}).values())

    def histograms(self, name: str, meaning: str, edges: Sequence[float], labels: Sequence[str]) -> "Histograms":
        """Return what makes the histogram of each of the labels' values when it is asked for it first."""
        found = Histograms(name, meaning, tuple(edges), tuple(labels))
        self._registry.register(found)
        return found

    def told(
        self,
        name: str,
        meaning: str,
        read: Callable[[], Found],
        labels: Sequence[str] = (),
        kind: Literal["gauge", "counter"] = "gauge",
    ) -> None:
        """Have values read, by those of the labels, whenever the page is: on the asker's thread."""
        self._registry.register(_Told(name, meaning, read, tuple(labels), kind))

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """Return the content type and the page: OpenMetrics, with exemplars, for those who accept that."""
        encode, media = choose_encoder(accept)
        return media, encode(self._registry)


class Histogram:
    """Counts how often a value was at most each of `edges`; takes many of one value at once."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = list(edges)
        self._counts = [0] * (len(edges) + 1)
        self._sum = 0.0
        self._exemplars: dict[int, Exemplar] = {}  # the newest one of a bucket that had a trace
        self._lock = threading.Lock()

    def observe(self, value: float, times: int = 1, trace: str | None = None) -> None:
        bucket = bisect_left(self._edges, value)
        with self._lock:
            self._counts[bucket] += times
            self._sum += value * times
            if trace is not None:
                self._exemplars[bucket] = Exemplar({"trace_id": trace}, value, time.time())

    def read(self) -> tuple[list[Any], float]:
        """Return the cumulative buckets, with their exemplars, and the sum."""
        with self._lock:
            counts, total, exemplars = list(self._counts), self._sum, dict(self._exemplars)
        seen, buckets = 0, []
        for place, (edge, count) in enumerate(zip([*map(str, self._edges), "+Inf"], counts, strict=True)):
            seen += count
            buckets.append((edge, seen, exemplars.get(place)))
        return buckets, total


class Histograms:
    """The histograms of one name, by the values of their labels."""

    def __init__(self, name: str, meaning: str, edges: tuple[float, ...], labels: Values) -> None:
        self._name, self._meaning, self._edges, self._labels = name, meaning, edges, labels
        self._found: dict[Values, Histogram] = {}

    def __call__(self, *values: str) -> Histogram:
        found = self._found.get(values)
        return found if found is not None else self._found.setdefault(values, Histogram(self._edges))

    def describe(self) -> Iterator[Metric]:
        """Say the name, so that a second metric of it is refused."""
        yield HistogramMetricFamily(self._name, self._meaning, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._meaning, labels=self._labels)
        for values, histogram in list(self._found.items()):
            family.add_metric(values, *histogram.read())
        yield family


class _Told:
    """A metric whose values are read when it is collected."""

    def __init__(self, name: str, meaning: str, read: Callable[[], Found], labels: Values, kind: str) -> None:
        self._family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        self._name, self._meaning, self._read, self._labels = name, meaning, read, labels

    def describe(self) -> Iterator[Metric]:
        yield self._family(self._name, self._meaning, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        family = self._family(self._name, self._meaning, labels=self._labels)
        for values, number in self._read().items():
            family.add_metric(values, number)
        yield family
