"""Spans on their way to a real receiver, and what becomes of them, and of the service, when there is none."""

import gc
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.runtime.clock import SystemClock
from services.runtime.contexts import Context
from services.runtime.errors import ConfigError
from services.runtime.following import Following
from services.runtime.records import Outgoing, Record
from services.runtime.sampling import Rule
from services.runtime.settings import Settings
from services.runtime.spans import KEY, ROWS
from services.runtime.stream import load_stream
from services.runtime.telemetry import QUEUE, Telemetry
from services.runtime.tracing import Untraced, open_tracing, rule
from tests.kept_spans import Kept
from tests.received import Receiver

ROOT = Path(__file__).parents[2]
CALLER = Context("ab" * 16, "cd" * 8)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_what_is_masked_is_not_sent(receiver: Receiver) -> None:
    """Attributes of a span, of its links and those that come later go through the mask."""
    telemetry = Telemetry(receiver.url, "features", lambda said: dict.fromkeys(said, "masked"))
    span = telemetry.begin("process a", "consumer", None, {KEY: "JFK"}, [(CALLER, {KEY: "JFK"})])
    span.note({ROWS: 2})
    span.end()
    telemetry.close()
    (sent,) = receiver.spans
    assert (sent.attributes, sent.link_attributes) == ({KEY: "masked", ROWS: "masked"}, ({KEY: "masked"},))


def test_a_span_arrives_as_it_was_told(receiver: Receiver) -> None:
    """Ids, parent, the caller's state, kind, times, attributes, links and an error go through the wire unchanged."""
    telemetry = Telemetry(receiver.url, "features", **{"service.instance.id": "1"})
    caller = msgspec.structs.replace(CALLER, state="b=2,a=1")
    link = Context("12" * 16, "34" * 8)
    began = time.time_ns() - 5_000_000
    span = telemetry.begin("process a", "consumer", caller, {KEY: "JFK"}, [(link, {ROWS: 2})], began)
    child = telemetry.begin("send b", "producer", span.context, {})
    child.note({ROWS: 3})
    child.end()
    span.end("Retry: the broker is away")
    telemetry.close()
    sent, processed = receiver.spans
    assert (processed.trace_id, processed.span_id) == (CALLER.trace_id, span.context.span_id)
    assert (processed.parent_id, processed.service, processed.kind) == (CALLER.span_id, "features", "consumer")
    assert (processed.start_ns, processed.error) == (began, "Retry: the broker is away")
    assert processed.end_ns - began >= 5_000_000
    assert processed.attributes == {KEY: "JFK", "error.type": "Retry"}
    assert processed.links == (("12" * 16, "34" * 8),)
    assert processed.link_attributes == ({ROWS: 2},)
    assert (sent.parent_id, sent.attributes, sent.kind) == (span.context.span_id, {ROWS: 3}, "producer")
    assert (sent.state, processed.state) == ("b=2,a=1", "b=2,a=1")
    assert telemetry.dropped == 0


def test_without_a_parent_a_trace_begins(receiver: Receiver) -> None:
    """Two spans without a parent are of two traces, each its root."""
    telemetry = Telemetry(receiver.url, "features")
    for _ in range(2):
        telemetry.begin("process a", "consumer", None, {}).end()
    telemetry.close()
    assert len({span.trace_id for span in receiver.spans}) == 2
    assert [span.parent_id for span in receiver.spans] == ["", ""]


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of a receiver that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["silent", "closed", "refusing"])
def test_a_receiver_that_takes_nothing_holds_nobody_up(kind: str, silent: str, receiver: Receiver) -> None:
    """Spans are begun and ended as fast as ever, what does not fit is counted, and the end takes seconds at most."""
    receiver.status = 400
    telemetry = Telemetry({"silent": silent, "closed": closed(), "refusing": receiver.url}[kind], "features")
    slowest = 0.0
    gc.disable()  # a collection goes through all that the tests before this one hold
    try:
        for _ in range(2 * QUEUE):
            began = time.perf_counter()
            telemetry.begin("process a", "consumer", None, {}).end()
            slowest = max(slowest, time.perf_counter() - began)
    finally:
        gc.enable()
    assert slowest < 1.0
    assert telemetry.dropped > 0
    began = time.perf_counter()
    telemetry.close()
    assert time.perf_counter() - began < 4.0
    assert receiver.spans == []


def test_what_is_lost_is_counted(receiver: Receiver) -> None:
    """Every span is either at the receiver or counted as dropped."""
    telemetry = Telemetry(receiver.url, "features")
    for place in range(3 * QUEUE):
        telemetry.begin("process a", "consumer", None, {ROWS: place}).end()
    telemetry.close()
    assert len(receiver.spans) + telemetry.dropped == 3 * QUEUE
    assert len({span.attributes[ROWS] for span in receiver.spans}) == len(receiver.spans) >= QUEUE


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    """A service that traces nothing has nobody to follow its batches, and has not imported OpenTelemetry."""
    code = """if True:
        import sys
        from pathlib import Path
        import services.runtime.process
        from services.runtime.settings import Settings
        from services.runtime.stream import load_stream
        from services.runtime.tracing import Untraced, open_tracing
        settings = Settings.load("features", {})
        tracing = open_tracing("features", settings, load_stream(settings.schemas, "flights"))
        assert isinstance(tracing, Untraced), tracing
        assert not [name for name in sys.modules if name.startswith("opentelemetry")]
    """
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_with_an_endpoint_batches_are_followed(receiver: Receiver, tmp_path: Path) -> None:
    """THALWEG_OTLP opens telemetry by the settings' own rule; an address that is none is refused at the start."""
    given = {"THALWEG_OTLP": receiver.url, "THALWEG_TRACE_RATE": "3", "THALWEG_TRACE_KEYS": "JFK,LGA"}
    given["THALWEG_DATA"] = str(tmp_path)
    settings = Settings.load("features", given)
    assert rule(settings) == Rule(3.0, frozenset({b"JFK", b"LGA"}), 2.0)
    stream = load_stream(settings.schemas, "flights")
    tracing = open_tracing("features", settings, stream)
    assert not isinstance(tracing, Untraced)
    tracing.close()
    wrong = Settings.load("features", {"THALWEG_OTLP": "127.0.0.1:4318"})
    with pytest.raises(ConfigError, match=r"found '127\.0\.0\.1:4318', expected a base URL"):
        open_tracing("features", wrong, stream)


def test_following_what_is_not_sampled_costs_next_to_nothing() -> None:
    """A batch of 2,000 unsampled records costs less than a millisecond more than without tracing: 0.5 µs a record."""
    stream = load_stream(ROOT / "schemas", "flights")
    kept = Kept()
    following = Following(stream, "features", kept.of("features"), Rule(0.0, frozenset(), 600.0), SystemClock())
    now = time.time_ns() // 1_000_000
    records = [Record("flights.events", 0, place, b"JFK", b"{}", now) for place in range(2000)]
    outgoing = [Outgoing("flights.predictions", b"{}", b"JFK", 0)] * 2000
    taken = []
    for _ in range(50):
        began = time.perf_counter()
        with following.batch(records) as batch:
            assert batch.stamped(outgoing) is outgoing
        taken.append(time.perf_counter() - began)
    assert kept.spans == []
    assert sorted(taken)[10] < 0.001
