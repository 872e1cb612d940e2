"""The trace of one event as a graph, on a whole run: who is under whom, Kafka's and Triton's edges included."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Producer

from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime import spans
from services.runtime.contexts import Context, with_context
from services.runtime.history import read_all
from services.runtime.records import Outgoing
from services.runtime.spans import EVENT_ID
from services.runtime.stream import load_stream
from tests.departures import EVENT, LABEL
from tests.received import Receiver, Seen

SCHEMAS = REPOSITORY / "schemas"
BROWSER = Context("ab" * 16, "cd" * 8, state="rojo=00f0,congo=t61")  # a caller over HTTP
AIRPORT = Context("ef" * 16, "12" * 8, state="azul=1")  # a producer on Kafka that traces
REGISTER = Context("34" * 16, "56" * 8)  # who sends labels, and traces them
CALLERS = {BROWSER.span_id: ("caller", "http"), AIRPORT.span_id: ("caller", "kafka")}
ROUTE = "/v1/streams/{stream}"

# service and name of a span, and those of its parent
DOWNSTREAM = {
    ("features", "send flights.features"): ("features", "process flights.events"),
    ("inference", "process flights.features"): ("features", "send flights.features"),
    ("triton", "InferRequest"): ("inference", "process flights.features"),
    ("triton", "flights_online"): ("triton", "InferRequest"),
    ("triton", "compute"): ("triton", "flights_online"),
    ("inference", "send flights.predictions"): ("inference", "process flights.features"),
    ("inference", "send flights.scored"): ("inference", "process flights.features"),
    ("labels", "process flights.scored"): ("inference", "send flights.scored"),
    ("labels", "process flights.labels"): ("labels", "process flights.scored"),
    ("labels", "send flights.examples"): ("labels", "process flights.labels"),
    ("learner", "process flights.examples"): ("labels", "send flights.examples"),
    ("learner", "send flights.models"): ("learner", "process flights.examples"),
    ("trainer", "process flights.examples"): ("labels", "send flights.examples"),
    ("rollout", "process flights.examples"): ("labels", "send flights.examples"),
}
OVER_HTTP = DOWNSTREAM | {
    ("ingestion", f"POST {ROUTE}/events"): ("caller", "http"),
    ("ingestion", "send flights.events"): ("ingestion", f"POST {ROUTE}/events"),
    ("features", "process flights.events"): ("ingestion", "send flights.events"),
}
ON_KAFKA = DOWNSTREAM | {("features", "process flights.events"): ("caller", "kafka")}
BEGUN_HERE = DOWNSTREAM | {("features", "process flights.events"): None}
OF_A_LABEL = {f"POST {ROUTE}/labels", "send flights.labels", "process flights.labels"}
KINDS = {"POST": "server", "send": "producer", "process": "consumer"}
OURS = {value for name, value in vars(spans).items() if name.isupper() and isinstance(value, str)}


class Run:
    """A run in which three events were followed to a version of the model, and the spans that came of it."""

    def __init__(self, stack: Stack, receiver: Receiver) -> None:
        self._stack, self._receiver = stack, receiver
        self._base = f"{stack.ingestion}/v1/streams/flights"
        self._producer = Producer({"bootstrap.servers": stack.broker.address, "partitioner": "murmur2_random"})
        self.event("http", BROWSER)
        self.produce("kafka", "LGA", AIRPORT)
        self.produce("begun", "JFK", None)
        self.produce("not sampled", "LGA", None)
        for name, key in (("http", "EWR"), ("begun", "JFK"), ("kafka", "LGA")):
            self.label(name, key, REGISTER if name == "kafka" else None)
        self.spans = receiver.wait(self._complete, 60)

    def event(self, name: str, context: Context) -> None:
        self._post("events", EVENT | {"event_id": name, "origin": "EWR"}, context)
        self._wait("send flights.scored", name)

    def produce(self, name: str, key: str, context: Context | None) -> None:
        value = msgspec.json.encode(EVENT | {"event_id": name, "origin": key})
        headers = with_context(Outgoing("", b""), context).headers if context else []
        self._producer.produce("flights.events", value, key.encode(), headers=headers)
        assert self._producer.flush(20) == 0
        if context is not None or key == "JFK":
            self._wait("send flights.scored", name)

    def label(self, name: str, key: str, context: Context | None) -> None:
        self._post("labels", LABEL | {"event_id": name, "origin": key}, context)
        self._wait("send flights.examples", name)

    def _post(self, kind: str, record: dict[str, Any], context: Context | None) -> None:
        headers = {} if context is None else {"traceparent": str(context), "tracestate": context.state}
        answer = httpx.post(f"{self._base}/{kind}", json=record, headers=headers, timeout=30)
        assert answer.status_code == 202, answer.text

    def _wait(self, span: str, name: str) -> None:
        """Wait until this was said in the trace of an event."""
        found = self._receiver.wait(lambda spans: span in names(spans, trace_of(spans, name)), 60)
        assert span in names(found, trace_of(found, name)), f"no {span} of {name}: {self._stack.children.logs}"

    def _complete(self, spans: list[Seen]) -> bool:
        enough = len(BEGUN_HERE)
        return all(len(edges(spans, trace_of(spans, name))) >= enough for name in ("http", "kafka", "begun"))

    def prediction(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a prediction and its headers."""
        for records in read_all(self._stack.settings, "flights.predictions"):
            for record in records:
                said = msgspec.json.decode(record.value)
                if said["event_id"] == name:
                    return said, dict(record.headers or [])
        raise AssertionError(f"no prediction of {name}")


def trace_of(spans: list[Seen], name: str) -> str:
    """Return the trace that features follows an event in."""
    found = [s.trace_id for s in spans if s.service == "features" and s.attributes.get(EVENT_ID) == name]
    return found[0] if found else ""


def names(spans: list[Seen], trace_id: str) -> set[str]:
    return {span.name for span in spans if span.trace_id == trace_id}


def edges(spans: list[Seen], trace_id: str) -> dict[tuple[str, str], tuple[str, str] | None]:
    """Return each span of a trace, with its parent."""
    mine = [span for span in spans if span.trace_id == trace_id]
    known = {span.span_id: (span.service, span.name) for span in mine} | CALLERS
    return {(span.service, span.name): known[span.parent_id] if span.parent_id else None for span in mine}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    settings = {
        "THALWEG_TRACE_RATE": "0",
        "THALWEG_TRACE_KEYS": "JFK",
        "THALWEG_TRACE_SLOW_S": "600",
        "THALWEG_TRAINER_COMMIT_EVERY_S": "0.3",
    }
    with Receiver() as receiver:
        options = Options("flights", run_dir=folder, settings=settings, otlp=receiver.url)
        with Stack(options, load_stream(SCHEMAS, "flights"), SCHEMAS) as stack:
            yield Run(stack, receiver)


def test_an_event_over_http_is_one_tree(run: Run) -> None:
    """From the caller's own span to the version that learned the event: every edge, and no other."""
    assert edges(run.spans, BROWSER.trace_id) == OVER_HTTP


def test_an_event_on_kafka_is_one_tree_under_its_producer(run: Run) -> None:
    """The context in the record's headers is the parent; below it the tree is the same."""
    assert edges(run.spans, AIRPORT.trace_id) == ON_KAFKA


def test_an_event_on_kafka_without_a_context_begins_a_trace(run: Run) -> None:
    """Of a key that is followed, features begins the trace."""
    assert edges(run.spans, trace_of(run.spans, "begun")) == BEGUN_HERE


def test_a_callers_state_is_on_every_span_of_its_trace(run: Run) -> None:
    """What a caller says in `tracestate`, over HTTP or on Kafka, is on each span of ours; without one nothing is."""
    for span in run.spans:
        if span.service != "triton":
            said = {caller.trace_id: caller.state for caller in (BROWSER, AIRPORT)}
            assert span.state == said.get(span.trace_id, ""), span


@pytest.mark.parametrize("name", ["http", "kafka", "begun"])
def test_a_trace_is_whole(run: Run, name: str) -> None:
    """At least 9 spans of at least 6 services, Triton, labels and learner among them, and each began after its parent.

    Clocks are one machine's; Triton's own count in microseconds.
    """
    mine = {span.span_id: span for span in run.spans if span.trace_id == trace_of(run.spans, name)}
    assert len(mine) >= 9
    assert {"triton", "labels", "learner"} < {span.service for span in mine.values()}
    assert len({span.service for span in mine.values()}) >= 6
    for span in mine.values():
        assert span.end_ns >= span.start_ns
        if span.parent_id in mine:
            assert span.start_ns >= mine[span.parent_id].start_ns - 1_000_000


def test_nothing_else_is_followed(run: Run) -> None:
    """There are five traces: of three events, of the label that came with one, and of that of the key to follow."""
    events = {trace_of(run.spans, name) for name in ("http", "kafka", "begun")}
    others = [span for span in run.spans if span.trace_id not in events | {REGISTER.trace_id}]
    assert len({span.trace_id for span in others}) == 1
    assert {span.name for span in others} == OF_A_LABEL
    assert {span.attributes.get("thalweg.key", "JFK") for span in others} == {"JFK"}
    assert trace_of(run.spans, "not sampled") == ""


def test_a_label_that_is_followed_is_linked_from_its_events_trace(run: Run) -> None:
    """The label's own trace leads from its request to the labels' service, and the event's is linked to that."""
    label = {span.name: span for span in run.spans if span.trace_id == REGISTER.trace_id}
    assert set(label) == OF_A_LABEL
    assert label["process flights.labels"].parent_id == label["send flights.labels"].span_id
    (row,) = [s for s in run.spans if s.trace_id == AIRPORT.trace_id and s.name == "process flights.labels"]
    assert row.links == ((REGISTER.trace_id, label["process flights.labels"].span_id),)


def test_a_batch_is_linked_to_its_members(run: Run) -> None:
    """A stage's span is linked to what each member was sent with, saying where its record stands, or is a member's own.

    Then it is linked to the batch's: a batch may have held two of the events.
    """
    by_id = {(span.trace_id, span.span_id): span for span in run.spans}
    for span in run.spans:
        if span.name in ("process flights.features", "process flights.scored", "process flights.examples"):
            linked = [by_id[link] for link in span.links]
            if (span.trace_id, span.parent_id) in span.links:
                assert len(linked) == span.attributes["thalweg.rows"]
                for said in span.link_attributes:
                    assert said.keys() >= {"messaging.kafka.offset", "messaging.destination.partition.id", EVENT_ID}
            else:
                (whole,) = linked
                assert (whole.service, whole.name) == (span.service, span.name)
                assert len(whole.links) > 1


def test_spans_are_described_by_the_table_alone(run: Run) -> None:
    """A span of ours has attributes of `spans.py` and no others; its name begins with what its kind says."""
    for span in run.spans:
        if span.service != "triton":
            assert span.attributes.keys() <= OURS, span
            assert span.kind == KINDS[span.name.partition(" ")[0]]
            assert span.error is None
            assert "messaging.destination.name" in span.attributes or span.kind == "server"


def test_a_prediction_says_its_trace(run: Run) -> None:
    """`trace_id` and the record's own `traceparent` are the event's trace, and null where there is none."""
    for name in ("http", "kafka", "begun"):
        said, headers = run.prediction(name)
        assert said["trace_id"] == trace_of(run.spans, name)
        assert Context.parse(headers["traceparent"], headers.get("tracestate")) in [
            Context(span.trace_id, span.span_id, state=span.state)
            for span in run.spans
            if span.name == "send flights.predictions"
        ]
    said, headers = run.prediction("not sampled")
    assert (said["trace_id"], headers) == (None, {})


def test_the_learning_says_its_versions(run: Run) -> None:
    """What learned an event made versions up to what was published next, which has them."""
    for name in ("http", "kafka", "begun"):
        mine = {(s.service, s.name): s for s in run.spans if s.trace_id == trace_of(run.spans, name)}
        learned = mine["learner", "process flights.examples"].attributes
        published = mine["learner", "send flights.models"].attributes["thalweg.version"]
        assert 1 <= learned["thalweg.version.first"] <= learned["thalweg.version.last"] <= published
