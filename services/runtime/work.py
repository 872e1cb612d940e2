"""What a loop does, counted: records and rows in and out, how long a batch takes, errors, dead letters, snapshots.

A batch is counted once it is committed: what had to be done again counts once.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from time import perf_counter
from types import TracebackType
from typing import Literal, TypeAlias

import msgspec

from services.runtime.arrow_rows import FRAMED, rows_of
from services.runtime.dead_letters import REASONS
from services.runtime.errors import Refusal, Retry
from services.runtime.logs import trace_id
from services.runtime.metrics import SECONDS, SIZES, Histogram, Metrics
from services.runtime.records import Outgoing, Record

SYSTEM = {"messaging_system": "kafka"}
_topic = attrgetter("topic")
AfterCommit: TypeAlias = Callable[[Sequence[Record]], None]


class Work:
    """Counts for one loop. `after` is called with the records of a batch once it is committed."""

    def __init__(self, metrics: Metrics, after: AfterCommit | None = None) -> None:
        self._after = after
        where = ("messaging_system", "messaging_operation_name", "messaging_destination_name")
        name, said = "messaging_client_consumed_messages_total", "Records that were folded and committed."
        self._consumed = metrics.counter(name, said, where)
        name, said = "messaging_client_sent_messages_total", "Records that were written and committed."
        self._sent = metrics.counter(name, said, where)
        topic = where[2:]
        name, said = "thalweg_consumed_rows_total", "Rows that were folded and committed; a record may hold many."
        self._rows_in = metrics.counter(name, said, topic)
        name, said = "thalweg_sent_rows_total", "Rows that were written and committed; a record may hold many."
        self._rows_out = metrics.counter(name, said, topic)
        self._batch = metrics.histogram("thalweg_batch_rows", "Rows of a batch, which is a transaction.", SIZES)
        name, said = "messaging_process_duration_seconds", "How long the fold of a batch took."
        self.process = Timed(metrics.histogram(name, said, SECONDS, {**SYSTEM, "messaging_operation_name": "process"}))
        name, said = "messaging_client_operation_duration_seconds", "How long a commit took, outputs and offsets."
        self.commit = Timed(metrics.histogram(name, said, SECONDS, {**SYSTEM, "messaging_operation_name": "commit"}))
        self._errors = metrics.counter("thalweg_errors_total", "Failures after which a batch was tried again.", TYPE)
        for kind in (Retry, Refusal):
            self._errors.labels(kind.__name__)
        name, said = "thalweg_dead_letters_total", "Records that were refused, each of which is a dead letter."
        self._dead = metrics.counter(name, said, ("reason",))
        for reason in REASONS:
            self._dead.labels(reason)
        name, said = "thalweg_rebalances_total", "How often the group gave its partitions out anew."
        self._rebalances = metrics.counter(name, said)

    def committed(self, records: Sequence[Record], outgoing: Sequence[Outgoing]) -> None:
        """Count a batch that holds now."""
        rows = 0
        for topic, count in Counter(map(_topic, records)).items():
            found = _rows(topic, count, records)
            rows += found
            self._consumed.labels(*SYSTEM.values(), "process", topic).inc(count)
            self._rows_in.labels(topic).inc(found)
        for topic, count in Counter(map(_topic, outgoing)).items():
            self._sent.labels(*SYSTEM.values(), "send", topic).inc(count)
            self._rows_out.labels(topic).inc(_rows(topic, count, outgoing))
            if topic.endswith(".dead-letter"):
                self._count_dead([out for out in outgoing if out.topic == topic])
        if rows:
            self._batch.observe(rows)
        if self._after is not None:
            self._after(records)

    def failed(self, error: Exception) -> None:
        self._errors.labels(type(error).__name__).inc()

    def rebalanced(self) -> None:
        self._rebalances.inc()

    def _count_dead(self, letters: Collection[Outgoing]) -> None:
        for letter in letters:
            self._dead.labels(_reason.decode(letter.value).reason).inc()


class _Letter(msgspec.Struct, frozen=True):
    """The one field of a dead letter that is counted by."""

    reason: str


TYPE = ("error_type",)
_reason = msgspec.json.Decoder(_Letter)


class Timed:
    """A context that lasts as long as what it measures; one thread at a time."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram, self._began = histogram, 0.0

    def __enter__(self) -> None:
        self._began = perf_counter()

    def took(self, seconds: float) -> None:
        self._histogram.observe(seconds, trace=trace_id())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.took(perf_counter() - self._began)
        return False


def _rows(topic: str, count: int, records: Sequence[Record] | Sequence[Outgoing]) -> int:
    if topic.rpartition(".")[2] not in FRAMED:
        return count
    return sum(rows_of(record.value) for record in records if record.topic == topic)


def saving(metrics: Metrics, age: Callable[[], float]) -> Mapping[bool, Histogram]:
    """Return the histograms of how long a snapshot took, by whether it was written; `age` is told beside."""
    name, said = "thalweg_snapshot_duration_seconds", "How long it took to write a snapshot, from when it was taken."
    made = metrics.histograms(name, said, SECONDS, ("outcome",))
    name = "thalweg_snapshot_age_seconds"
    metrics.told(name, "Age of the oldest fold that no snapshot holds; 0 if all are held.", lambda: {(): age()})
    return {True: made("written"), False: made("failed")}
