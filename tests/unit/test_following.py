"""Sampled events on their way through real stages, on a log in memory: who is told of, under whom, linked to whom."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from services.features.core import FeaturesCore
from services.inference.mix import Scores
from services.inference.scoring import Scoring
from services.labels.core import LabelsCore
from services.learner.publishing import Publishing
from services.runtime.artifacts import Artifacts
from services.runtime.contexts import TRACEPARENT, TRACES, Context, carried, rows_carried
from services.runtime.errors import Stop
from services.runtime.following import Following
from services.runtime.logs import TRACE
from services.runtime.loop import Loop
from services.runtime.memory import Inline, ManualClock, MemoryLog, MemorySink, MemorySource
from services.runtime.models import Published
from services.runtime.records import Outgoing, Position, Record
from services.runtime.sampling import Rule
from services.runtime.signing import make_keys
from services.runtime.snapshots import Snapshots
from services.runtime.spans import EVENT_ID, VERSION, VERSION_FIRST, VERSION_LAST
from services.runtime.stage import Batches, Cores
from services.runtime.stream import load_stream
from services.runtime.tracing import Untraced
from services.runtime.waiting import Wait
from tests.departures import EVENT, LABEL
from tests.kept_spans import Kept, KeptSpan
from tests.loops import Ticking

SCHEMAS = Path(__file__).parents[2] / "schemas"
STREAM = load_stream(SCHEMAS, "flights")
CALLER = Context("ab" * 16, "cd" * 8)
OTHER = Context("ef" * 16, "12" * 8)
NEVER = Rule(0.0, frozenset(), 1e9)


class PlayedTriton:
    """Answers 0.5, and knows with which contexts it was asked."""

    def __init__(self) -> None:
        self.contexts: list[str | None] = []

    def ask(
        self, batches: Sequence[NDArray[np.float32]], version: int, contexts: Sequence[str | None] = ()
    ) -> "PlayedTriton":
        self.contexts += contexts
        self._scores = [Scores(version, np.full(len(batch), 0.5)) for batch in batches]
        return self

    def answers(self) -> list[Scores]:
        return self._scores


class Service:
    """One service's loop on a log of its own."""

    def __init__(self, line: "Line", name: str, inputs: Sequence[str], stage: Any, learned: Any = None) -> None:
        self.name, self.inputs, self.stage, self.line = name, inputs, stage, line
        self.log = MemoryLog()
        self.following = Following(STREAM, name, line.kept.of(name), line.rule, line.clock, learned)
        self.traced = True

    def run(self) -> None:
        topics = [STREAM.topic(kind) for kind in self.inputs]
        loop = Loop(
            topics,
            self.stage,
            MemorySource(self.log),
            MemorySink(self.log),
            Snapshots(self.line.folder, "flights", self.name, "rule"),
            clock=Ticking(),
            writer=Inline(),
            tracing=self.following if self.traced else Untraced(),
        )
        loop.run(timeout=1.0)

    def out(self, kind: str) -> list[Record]:
        return self.log.topics[Position(STREAM.topic(kind), 0)]


class Line:
    """Features, inference, labels and learner, each handing on what it wrote."""

    def __init__(self, folder: Path, rule: Rule = NEVER) -> None:
        self.folder, self.rule, self.kept, self.clock = folder, rule, Kept(), ManualClock()
        make_keys(folder / "keys")
        self.triton: Any = PlayedTriton()
        published = msgspec.json.encode(Published("online", 0, STREAM.feature_set, 0, None))
        self.news = [Record(STREAM.topic("models"), 0, 0, b"online", published)]
        self.features = Service(self, "features", ["events"], Cores(lambda p: FeaturesCore(STREAM, p)))
        self.inference = Service(self, "inference", ["features"], None)
        self.inference.stage = Scoring(STREAM, self.triton, self.triton, self._models, tracing=self.inference.following)
        self.labels = Service(self, "labels", ["scored", "labels"], Cores(lambda p: LabelsCore(STREAM, p)))
        publishing = Publishing(STREAM, Artifacts(folder, "flights"), 9, self.clock, Wait(self.clock))
        self.learner = Service(self, "learner", ["examples"], publishing, publishing.learned)
        self.carried: dict[tuple[str, str], int] = {}

    def _models(self) -> list[Record]:
        taken, self.news = self.news, []
        return taken

    def send(self, name: str, context: Context | None = None, **more: Any) -> None:
        value = msgspec.json.encode(EVENT | {"event_id": name} | more)
        self.features.log.append(Outgoing(STREAM.topic("events"), value, b"JFK", 0, headers(context)))

    def label(self, name: str, context: Context | None = None) -> None:
        value = msgspec.json.encode(LABEL | {"event_id": name})
        self.labels.log.append(Outgoing(STREAM.topic("labels"), value, b"JFK", 0, headers(context)))

    def run(self) -> None:
        self.features.run()
        self.hand(self.features, "features", self.inference)
        self.inference.run()
        self.hand(self.inference, "scored", self.labels)
        self.labels.run()
        self.hand(self.labels, "examples", self.learner)
        self.learner.run()

    def hand(self, giver: Service, kind: str, taker: Service) -> None:
        done = self.carried.get((giver.name, kind), 0)
        for record in giver.out(kind)[done:]:
            taker.log.append(Outgoing(record.topic, record.value, record.key, 0, record.headers))
        self.carried[giver.name, kind] = len(giver.out(kind))


def headers(context: Context | None) -> Any:
    return None if context is None else [(TRACEPARENT, str(context).encode())]


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


TREE = {
    ("", "features: process flights.events"),
    ("features: process flights.events", "features: send flights.features"),
    ("features: send flights.features", "inference: process flights.features"),
    ("inference: process flights.features", "inference: send flights.predictions"),
    ("inference: process flights.features", "inference: send flights.scored"),
    ("inference: send flights.scored", "labels: process flights.scored"),
    ("labels: process flights.scored", "labels: process flights.labels"),
    ("labels: process flights.labels", "labels: send flights.examples"),
    ("labels: send flights.examples", "learner: process flights.examples"),
    ("learner: process flights.examples", "learner: send flights.models"),
}


def follow(line: Line) -> None:
    """Have a label come later than its event, and a version later than what it learned."""
    line.run()
    line.label("a")
    line.run()
    line.clock.time += 10
    line.learner.run()


def test_a_sampled_event_is_followed_to_the_version_that_learned_it(line: Line) -> None:
    """Each stage's span is under what the one before it sent, however late, and all are ended without an error."""
    line.send("a", CALLER)
    line.send("b")
    follow(line)
    assert line.kept.edges(CALLER.trace_id) == TREE
    assert {span.context.trace_id for span in line.kept.spans} == {CALLER.trace_id}
    assert all(span.ended and span.error is None for span in line.kept.spans)
    assert {span.attributes.get(EVENT_ID, "a") for span in line.kept.spans} == {"a"}


def test_an_event_that_came_straight_to_kafka_begins_a_trace(tmp_path: Path) -> None:
    """Without a context features begins one, at most the rate; the tree below it is the same."""
    line = Line(tmp_path, Rule(1.0, frozenset(), 1e9))
    line.send("a")
    line.send("b")
    follow(line)
    (trace_id,) = {span.context.trace_id for span in line.kept.spans}
    assert line.kept.edges(trace_id) == TREE


def test_of_a_key_every_event_is_followed(tmp_path: Path) -> None:
    """A key of `trace_keys` is followed whatever the rate; other keys are not."""
    line = Line(tmp_path, Rule(0.0, frozenset({b"JFK"}), 1e9))
    for name in "abc":
        line.send(name)
    value = msgspec.json.encode(EVENT | {"event_id": "d", "origin": "LGA"})
    line.features.log.append(Outgoing(STREAM.topic("events"), value, b"LGA", 0))
    line.features.run()
    found = line.kept.named("process flights.events")
    assert [span.attributes[EVENT_ID] for span in found] == ["a", "b", "c"]
    assert len({span.context.trace_id for span in found}) == 3


def test_nothing_is_told_or_carried_of_what_is_not_sampled(line: Line) -> None:
    """Without a sampled event there is no span, no header, and no trace in a prediction."""
    line.send("a")
    line.send("b", msgspec.structs.replace(CALLER, sampled=False))
    line.label("a")
    line.run()
    assert line.kept.spans == []
    for service, kind in ((line.features, "features"), (line.inference, "scored"), (line.labels, "examples")):
        (record,) = service.out(kind)
        assert {name for name, _ in record.headers or ()} <= {"thalweg-schema", "thalweg-produced"}
    assert [record.headers for record in line.inference.out("predictions")] == [None, None]
    assert set(line.triton.contexts) == {None}


def test_a_batch_has_one_span_linked_to_every_sampled_member(line: Line) -> None:
    """The batch's span is in the first one's trace; each other has its own, in its own trace, linked to the batch's."""
    line.send("a", CALLER)
    line.send("b", OTHER)
    line.send("c")
    line.features.run()
    line.hand(line.features, "features", line.inference)
    line.inference.run()
    for name, sender in (("process flights.events", ""), ("process flights.features", "send flights.features")):
        whole, own = line.kept.named(name)
        senders = {span.context for span in line.kept.named(sender)} or {CALLER, OTHER}
        assert {context for context, _ in whole.links} == senders
        assert [context for context, _ in own.links] == [whole.context]
        assert (whole.context.trace_id, own.context.trace_id) == (CALLER.trace_id, OTHER.trace_id)
    assert (whole.attributes["thalweg.rows"], whole.attributes["messaging.batch.message_count"]) == (2, 1)


def test_what_goes_out_carries_the_context_of_its_own_event(line: Line) -> None:
    """A row's context, a prediction's header and its `trace_id` are those of its own event, and Triton is told too."""
    line.send("a")
    line.send("b", CALLER)
    line.send("c", OTHER)
    line.features.run()
    line.hand(line.features, "features", line.inference)
    line.inference.run()
    (features,), (scored,) = line.features.out("features"), line.inference.out("scored")
    for batch in (features, scored):
        assert {row: found.trace_id for row, found in rows_carried(batch).items()} == {
            1: CALLER.trace_id,
            2: OTHER.trace_id,
        }
    predictions = line.inference.out("predictions")
    traces = [msgspec.json.decode(record.value)["trace_id"] for record in predictions]
    assert traces == [None, CALLER.trace_id, OTHER.trace_id]
    assert [found and found.trace_id for found in map(carried, predictions)] == traces
    whole = line.kept.named("process flights.features")[0]
    assert set(line.triton.contexts) == {str(whole.context)}


def test_many_events_of_one_trace_share_its_span(line: Line) -> None:
    """A caller's trace of three events has one span a stage, linked to all three."""
    for name in "abc":
        line.send(name, CALLER)
    line.run()
    (whole,) = line.kept.named("process flights.features")
    assert whole.attributes["thalweg.rows"] == 3
    assert [said[EVENT_ID] for _, said in whole.links] == ["a", "b", "c"]


def test_the_label_that_is_followed_itself_is_linked(line: Line) -> None:
    """A label with a trace of its own has its span there, and the row's span for its label is linked to it."""
    line.send("a", CALLER)
    line.run()
    line.label("a", OTHER)
    line.label("b")
    line.run()
    labels, row = line.kept.named("process flights.labels")
    assert (labels.context.trace_id, row.context.trace_id) == (OTHER.trace_id, CALLER.trace_id)
    assert [context for context, _ in row.links] == [labels.context]


def test_a_restart_forgets_the_rows_that_wait(line: Line) -> None:
    """What the labels' process remembered is gone with it: the trace ends there, the example is as it would be."""
    line.send("a", CALLER)
    line.run()
    line.labels.following = Following(STREAM, "labels", line.kept.of("labels"), NEVER, line.clock)
    line.labels.stage = Cores(lambda p: LabelsCore(STREAM, p))
    line.label("a")
    line.run()
    assert len(line.labels.out("examples")) == 1
    assert line.kept.named("process flights.labels") == []


def test_what_is_logged_meanwhile_names_the_trace() -> None:
    """From when a batch with a sampled event was read until it is committed; afterwards nothing is named."""
    kept = Kept()
    following = Following(STREAM, "features", kept.of("features"), NEVER, ManualClock())
    record = Record(STREAM.topic("events"), 0, 7, b"JFK", b"{}", headers=headers(CALLER))
    with following.batch([record]):
        assert TRACE.get() == (CALLER.trace_id, kept.spans[0].context.span_id)
    with following.batch([]):
        assert TRACE.get() is None


def test_a_fold_in_silence_is_not_told_of_again(line: Line) -> None:
    """A restart folds what was committed once more, and no span comes of it."""
    line.send("a", CALLER)
    line.run()
    before = list(line.kept.spans)
    line.features.stage = Cores(lambda p: FeaturesCore(STREAM, p))
    line.features.run()
    assert line.kept.spans == before


def test_a_batch_that_is_not_committed_says_so_and_is_followed_again(line: Line) -> None:
    """Its spans end with the error, and the next try has new ones under the same parent."""
    line.send("a", CALLER)
    line.features.log.fail_next = 1
    line.features.run()
    first, second = line.kept.named("process flights.events")
    assert (first.error, second.error) == ("Retry: the log was told to fail", None)
    assert first.parent == second.parent == CALLER


def test_a_failed_batch_is_told_of_though_nobody_follows_it(line: Line) -> None:
    """Each try that fails has its span; the one that does not has none."""
    line.send("a")
    line.features.log.fail_next = 3
    line.features.run()
    failed = line.kept.named("process flights.events")
    assert [span.error for span in failed] == ["Retry: the log was told to fail"] * 3
    assert len(line.features.out("features")) == 1


def test_an_error_of_the_stage_goes_on_its_way(line: Line) -> None:
    """Following a batch swallows nothing."""

    class Broken(Cores[FeaturesCore]):
        def fold(self, batches: Batches) -> list[Outgoing]:
            raise Stop(f"no more of {len(batches)} partitions")

    line.send("a", CALLER)
    line.features.stage = Broken(lambda p: FeaturesCore(STREAM, p))
    with pytest.raises(Stop, match="no more"):
        line.features.run()
    assert [span.error for span in line.kept.spans] == ["Stop: no more of 1 partitions"]


def test_what_is_slow_is_told_of(tmp_path: Path) -> None:
    """A batch that took longer than the rule says has its span, sampled or not."""
    line = Line(tmp_path, Rule(0.0, frozenset(), 0.0))
    line.send("a")
    line.features.run()
    assert [span.name for span in line.kept.spans] == ["process flights.events"]


def refused(line: Line) -> Iterator[KeptSpan]:
    for record in line.features.out("dead-letter"):
        context = carried(record)
        yield from (span for span in line.kept.spans if span.context == context)


def test_a_dead_letter_is_followed_sampled_or_not(line: Line) -> None:
    """A refused event has a span with the reason, in its own trace or one of its own, and its letter is under that."""
    line.send("a", CALLER, distance_mi="far")
    line.send("b", distance_mi="far")
    line.send("c")
    line.features.run()
    ours, new = refused(line)
    assert [span.name for span in (ours, new)] == ["send flights.dead-letter"] * 2
    assert ours.context.trace_id == CALLER.trace_id != new.context.trace_id
    by_id = {span.context.span_id: span for span in line.kept.spans}
    parents = [by_id[span.parent.span_id] for span in (ours, new) if span.parent]
    assert [span.attributes["error.type"] for span in parents] == ["schema", "schema"]
    assert [span.attributes["messaging.kafka.offset"] for span in parents] == [0, 1]


def test_dead_letters_in_a_flood_are_told_of_within_bounds(line: Line) -> None:
    """Ten a second have a trace; the others are written all the same."""
    for place in range(50):
        line.send(f"{place}", distance_mi="far")
    line.features.run()
    assert len(line.features.out("dead-letter")) == 50
    assert len(line.kept.named("send flights.dead-letter")) == 10


def test_the_versions_that_an_event_went_into_are_known(line: Line) -> None:
    """The learner's span says which versions its batch made, and the next that is published is under it."""
    for name in "abc":
        line.send(name, CALLER if name == "b" else None)
    line.run()
    for name in "abc":
        line.label(name)
    line.run()
    line.clock.time += 10
    line.learner.run()
    (learned,), (published,) = line.kept.named("process flights.examples"), line.kept.named("send flights.models")
    assert (learned.attributes[VERSION_FIRST], learned.attributes[VERSION_LAST]) == (1, 3)
    assert published.attributes[VERSION] == 3
    assert line.learner.following.pending == []


def test_traces_change_nothing_that_is_written_but_who_it_belongs_to(tmp_path: Path) -> None:
    """With and without tracing the same values are written, on every topic; predictions say their trace alone."""
    lines = [Line(tmp_path / "on"), Line(tmp_path / "off")]
    for service in (lines[1].features, lines[1].inference, lines[1].labels, lines[1].learner):
        service.traced = False
    for line in lines:
        line.send("a", CALLER)
        line.send("b", distance_mi="far")
        line.label("a")
        line.run()
    on, off = lines
    for name, kind in (("features", "features"), ("features", "dead-letter"), ("inference", "scored")):
        pair = [[record.value for record in getattr(line, name).out(kind)] for line in lines]
        assert pair[0] == pair[1]
    values = [[record.value for record in line.inference.out("predictions")] for line in (on, off)]
    assert values[0] == [values[1][0].replace(b"null}", b'"' + CALLER.trace_id.encode() + b'"}')]
    assert [record.value for record in on.labels.out("examples")] == [r.value for r in off.labels.out("examples")]


def test_a_batch_whose_rows_can_not_be_read_is_the_cores_to_judge(line: Line) -> None:
    """A record with our headers and no batch in it is no reason for tracing to fail: the core says what it is."""
    packed = msgspec.msgpack.encode({0: str(CALLER)})
    out = Outgoing(STREAM.topic("features"), b"junk", None, 0, [("thalweg-schema", b"x"), (TRACES, packed)])
    line.inference.log.append(out)
    with pytest.raises(Stop, match="this service was built for"):
        line.inference.run()
