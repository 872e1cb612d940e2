"""The registry and its page, and what a loop counts."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

from services.runtime.arrow_rows import rows_of
from services.runtime.dead_letters import dead_letter
from services.runtime.errors import Reject
from services.runtime.frames import Frame
from services.runtime.health import Health
from services.runtime.lag import Lag
from services.runtime.logs import TRACE
from services.runtime.memory import ManualClock
from services.runtime.metrics import Metrics
from services.runtime.produced import produced, timestamps
from services.runtime.records import Outgoing, Position, Record
from services.runtime.work import Work
from tests.loops import Place

OPEN = "application/openmetrics-text; version=1.0.0"
FRAME = Frame(pa.schema([pa.field("x", pa.int64()), pa.field("name", pa.string())]))


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return each sample of the page by its name and its labels' values."""
    _, page = metrics.page()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(page.decode())
        for sample in family.samples
    }


def test_a_histogram_counts_what_is_at_most_each_edge() -> None:
    """A value on an edge is within it; the sum and the count are those of all; many of one value count as many."""
    metrics = Metrics()
    histogram = metrics.histogram("x_seconds", "Help.", (0.1, 1.0))
    histogram.observe(0.1)
    histogram.observe(0.5, times=3)
    histogram.observe(7.0)
    found = values(metrics)
    assert [found["x_seconds_bucket", le] for le in ("0.1", "1.0", "+Inf")] == [1, 4, 5]
    assert (found["x_seconds_count",], found["x_seconds_sum",]) == (5, pytest.approx(8.6))


def test_both_expositions_are_what_their_parsers_read() -> None:
    """Text is the default; who accepts OpenMetrics gets it, and exemplars with it."""
    metrics = Metrics()
    metrics.of_process()
    metrics.counter("c_total", "Help.", ("why",)).labels('odd "\n').inc()
    metrics.told("g", "Help.", lambda: {("a",): 2.0}, ("where",))
    metrics.histogram("h_seconds", "Help.", (1.0,)).observe(0.5, trace="ab" * 16)
    media, page = metrics.page("text/html")
    assert media.startswith("text/plain")
    assert {family.name for family in parse(page.decode())} >= {"c", "g", "h_seconds", "process_cpu_seconds"}
    media, page = metrics.page(OPEN)
    assert media.startswith("application/openmetrics-text")
    families = {family.name: family for family in parse_open(page.decode())}
    [exemplar] = [sample.exemplar for sample in families["h_seconds"].samples if sample.exemplar]
    assert (exemplar.labels, exemplar.value) == ({"trace_id": "ab" * 16}, 0.5)
    assert families["c"].samples[0].labels == {"why": 'odd "\n'}


def test_a_name_is_one_metric() -> None:
    """A second metric of a name is refused, of whatever kind it is: one of the two would be lost."""
    metrics = Metrics()
    metrics.counter("x_total", "Help.")
    metrics.histogram("x_seconds", "Help.")
    metrics.told("y", "Help.", dict)
    again = (partial(metrics.counter, "x_total"), partial(metrics.histogram, "x_seconds"))
    for make in (*again, partial(metrics.histogram, "y"), partial(metrics.counter, "y_total")):
        with pytest.raises(ValueError, match="Duplicated"):
            make("Help.")


@pytest.mark.parametrize("rows", [0, 1, 7, 5000])
def test_rows_are_counted_without_decoding(rows: int) -> None:
    """The count read from a message's head is Arrow's own, also of an empty batch."""
    value = FRAME.encode([pa.array(range(rows), pa.int64()), pa.array(["é"] * rows, pa.string())])
    assert rows_of(value) == rows == pa.ipc.open_stream(value).read_next_batch().num_rows


def test_work_counts_what_is_committed(tmp_path: Path) -> None:
    """A batch that had to be done again is one error and counts once."""
    place = Place(tmp_path)
    health = Health("service", place.clock)
    place.put(1, 2, 3)
    place.log.fail_next = 1
    place.loop(health=health).run(count=3)
    found = values(health.metrics)
    assert found["messaging_client_consumed_messages_total", "in", "process", "kafka"] == 3
    assert found["messaging_client_sent_messages_total", "out", "send", "kafka"] == 3
    assert found["thalweg_errors_total", "Retry"] == 1
    assert (found["thalweg_batch_rows_count",], found["thalweg_batch_rows_sum",]) == (1, 3)
    assert found["messaging_process_duration_seconds_count", "process", "kafka"] == 2
    assert found["thalweg_rebalances_total",] == 1


def test_work_counts_rows_and_reasons() -> None:
    """A record of many rows counts as one record and as its rows; a dead letter counts by its reason."""
    metrics, seen = Metrics(), list[Sequence[Record]]()
    work = Work(metrics, seen.append)
    value = FRAME.encode([pa.array(range(5), pa.int64()), pa.array(["a"] * 5)])
    records = [Record("s.features", 0, n, None, value, headers=FRAME.headers) for n in range(2)]
    letter = dead_letter("s.dead-letter", "features", records[0], Reject("clock", "too late"))
    work.committed(records, [letter, Outgoing("s.predictions", b"{}"), Outgoing("s.scored", value)])
    found = values(metrics)
    assert found["messaging_client_consumed_messages_total", "s.features", "process", "kafka"] == 2
    assert found["thalweg_consumed_rows_total", "s.features"] == found["thalweg_batch_rows_sum",] == 10
    rows = {topic: found["thalweg_sent_rows_total", topic] for topic in ("s.dead-letter", "s.predictions", "s.scored")}
    assert rows == {"s.dead-letter": 1, "s.predictions": 1, "s.scored": 5}
    assert found["thalweg_dead_letters_total", "clock"] == 1
    assert seen == [records]


def test_a_duration_has_the_trace_at_work_as_its_exemplar() -> None:
    """Who measures while a trace is at work leaves its id in the bucket."""
    metrics = Metrics()
    work = Work(metrics)
    token = TRACE.set(("12" * 16, "34" * 8))
    with work.process:
        pass
    TRACE.reset(token)
    assert f'trace_id="{"12" * 16}"' in metrics.page(OPEN)[1].decode()


def test_lag_in_seconds_is_the_age_of_what_is_unread() -> None:
    """Unread is what came after the last read, or after all was read; nothing is unread: 0, however long ago."""
    clock = ManualClock()
    lag, here, there = Lag(clock.now), Position("in", 0), Position("in", 1)
    clock.time = 1000.0
    lag.unread({here: 5, there: 0})
    assert (lag.seconds(), lag.records()) == ({"in": 0.0}, {"in": 5})
    clock.time = 1010.0
    assert lag.seconds() == {"in": 10.0}
    lag.read(here, 900_000)  # read only now, and old: so may be what follows
    assert lag.seconds() == {"in": 110.0}
    lag.read(here, 1_007_000)
    lag.unread({here: 3, there: 0})
    assert lag.seconds() == {"in": 3.0}
    lag.unread({here: 0, there: 0})
    clock.time = 5000.0
    assert lag.seconds() == {"in": 0.0}
    lag.unread({here: 0, there: 1})  # the first after an hour: it may have come since all was read
    assert lag.seconds() == {"in": 3990.0}
    lag.unread({here: 0})
    assert lag.seconds() == {"in": 0.0}


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000, 4097])
def test_a_batch_tells_when_its_events_were_produced(rows: int) -> None:
    """Each row is told once, by at most 64 timestamps, each its own or that of a row at most a step before it."""
    records = [Record("s.events", 0, n, None, b"", timestamp=1000 + n) for n in range(rows)]
    batch = Record("s.features", 0, 0, None, b"", headers=[produced(records)])
    told = list(timestamps(batch))
    assert sum(count for _, count in told) == rows
    assert len(told) <= 64
    expected = [record.timestamp for record in records]
    found = [stamp for stamp, count in told for _ in range(count)]
    assert max(right - left for left, right in zip(found, expected, strict=True)) < -(-rows // 64)
    assert min(right - left for left, right in zip(found, expected, strict=True)) == 0


def test_an_unknown_time_is_no_age() -> None:
    """A batch without the header, and an event without a timestamp, tell nothing."""
    assert list(timestamps(Record("s.features", 0, 0, None, b""))) == []
    unknown = produced([Record("s.events", 0, 0, None, b"", timestamp=stamp) for stamp in (0, -1)])
    assert list(timestamps(Record("s.features", 0, 0, None, b"", headers=[unknown]))) == []
