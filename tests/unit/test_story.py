"""The story of an event, on a small run in memory: its facts are those of the log."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from services.replay.online import open_batch
from services.replay.story import finding
from services.replay.story.facts import Hop, Span, Story, Training
from services.replay.story.hops import placed
from services.replay.story.telling import story
from services.replay.verify import Span as Times
from services.runtime.artifacts import Artifacts
from services.runtime.errors import Stop
from services.runtime.models import ONLINE, Published, Registered
from services.runtime.records import Outgoing, Position, Record
from tests.recorded import FLIGHTS, Recorded, flight, label, outgoing

LABELLED = FLIGHTS - 8


@pytest.fixture
def run(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def told(run: Recorded, name: str, **more: Any) -> Story:
    return story(run.stream, run.history, run.versions(), name, lambda *_: None, **more)


def stands(run: Recorded, kind: str, n: int) -> Record:
    """Return the record of an event, its label or its prediction."""
    records = run.log.read(f"flights.{kind}")
    return next(record for record in records if f'"f{n}"'.encode() in record.value)


def rows(run: Recorded, kind: str) -> list[tuple[Record, int, dict[str, Any]]]:
    found = []
    for record in run.log.read(f"flights.{kind}"):
        found += [(record, n, row) for n, row in enumerate(open_batch(record).to_pylist())]
    return found


def test_the_facts_are_those_of_the_log(run: Recorded) -> None:
    """Of each event: where it stands, what features wrote, its scores, its label, as which example it was learned."""
    examples = [row["event_id"] for _, _, row in rows(run, "examples")]
    features = {row["event_id"]: (record, n, row) for record, n, row in rows(run, "features")}
    for n in range(FLIGHTS):
        one, event = told(run, f"f{n}"), stands(run, "events", n)
        assert (one.outcome, one.notes) == ("predicted", [])
        assert one.place == f"flights.events/{event.partition}/{event.offset}"
        assert one.event is not None
        assert one.event.value == json.loads(event.value)
        record, row, wrote = features[f"f{n}"]
        written = next(hop for hop in one.hops if hop.name == "features")
        assert (written.offset, written.row) == (record.offset, row)
        values = [value for feature in one.features for value in feature.columns.values()]
        assert values == wrote["features"]
        assert one.features_agree is True
        assert all(feature.why is not None and feature.why.proven is not False for feature in one.features)
        said = json.loads(stands(run, "predictions", n).value)
        assert one.prediction is not None
        assert {score.version: score.score for score in one.prediction.scores} == said["scores"]
        assert (one.prediction.agrees, [score.agrees for score in one.prediction.scores]) == (True, [True])
        assert one.label is not None
        assert one.learned is not None
        if n < LABELLED:
            assert (one.label.state, one.label.value) == ("known", float(label(n)["late"]))
            assert one.label.waited_s == (40 * 60 if n != 20 else pytest.approx(40 * 60 + (140 - 20) * 60))
            number = examples.index(f"f{n}") + 1
            assert [example.number for example in one.label.examples] == [number]
            assert one.learned.version == f"online@{number}"
            assert [hop.name for hop in one.hops] == ["event", "features", "scored", "prediction", "label", "example"]
        else:
            assert (one.label.state, one.learned.version) == ("waiting", None)


def test_a_window_names_its_events_and_its_panes(run: Recorded) -> None:
    """The mean of an hour is of the flights of that airport since the oldest pane began; lag names the one before."""
    one = told(run, "f30")
    whys = {feature.name: feature.why for feature in one.features}
    mean, lag, value = whys["origin_delay_1h"], whys["last_delay"], whys["delay"]
    assert mean is not None
    assert lag is not None
    assert value is not None
    before = [n for n in range(30) if n % 3 == 0]
    assert [cause.event_id for cause in mean.causes] == [f"f{n}" for n in before if n in (24, 27)]
    assert mean.start is not None
    assert one.event_time is not None
    assert 55 * 60 * 10**6 <= one.event_time - mean.start < 60 * 60 * 10**6
    assert next(iter(one.features[5].columns.values())) == pytest.approx(np.mean([c.value for c in mean.causes]))
    assert [cause.event_id for cause in lag.causes] == ["f27"]
    assert (value.said, value.count) == ("departure_delay_min is 30.0", 1)
    assert mean.group == {"origin": "JFK"}


def test_a_late_event_says_so(run: Recorded) -> None:
    """One that no window counts is told by how much it was behind, and is in no other event's why."""
    late = told(run, "f20")
    assert late.event is not None
    assert late.event.behind is not None
    assert late.event.behind > 100 * 60 * 10**6
    for n in range(21, FLIGHTS):
        whys = [feature.why for feature in told(run, f"f{n}").features]
        assert not any(cause.event_id == "f20" for why in whys if why for cause in why.causes)


def test_a_refused_record_says_why_and_where(run: Recorded) -> None:
    """It is found by its place, or by its id if that can be read; nothing else is told of it."""
    (record,) = [r for r in run.log.read("flights.events") if r.value == b"{"]
    one = told(run, f"flights.events/0/{record.offset}")
    assert (one.outcome, [hop.name for hop in one.hops]) == ("refused", ["event"])
    (why,) = one.refused
    assert (why.reason, why.service, why.letter, why.replayed) == ("json", "features", "flights.dead-letter/0/0", False)
    run.log.append(Outgoing("flights.events", json.dumps(flight(50) | {"distance_mi": "far"}).encode(), b"JFK", 1))
    run.go_on()
    one = told(run, "f50")
    assert (one.outcome, one.refused[0].reason, one.refused[0].event_id) == ("refused", "schema", "f50")


def test_one_that_waits(run: Recorded) -> None:
    """An event that nobody has read yet is told as far as it came, and what it waits for."""
    run.log.append(outgoing("events", flight(51)))
    one = told(run, "f51")
    assert (one.outcome, [hop.name for hop in one.hops]) == ("waiting", ["event"])
    assert one.notes == ["it is not on flights.features yet", "it is not on flights.scored yet"]
    assert one.features
    assert one.prediction is None


def test_what_becomes_of_a_label_that_does_not_come(run: Recorded) -> None:
    """Where the labels' clock has passed the deadline it never came; one that came after that, came too late."""
    assert told(run, "f39").label.state == "waiting"  # type: ignore[union-attr]
    key, at = flight(39)["origin"], "2013-01-09T06:00:00Z"
    other = {"event_id": "other", "origin": key, "landed_at": at, "arrival_delay_min": 0.0, "late": True}
    run.log.append(outgoing("labels", other))
    run.go_on()
    found = told(run, "f39").label
    assert found is not None
    assert (found.state, found.on_timeout, found.clock is not None) == ("never came", "drop", True)
    assert found.clock is not None
    assert found.clock > found.deadline
    run.log.append(outgoing("labels", label(39)))
    run.go_on()
    assert told(run, "f39").label.state == "came too late"  # type: ignore[union-attr]
    run.log.append(outgoing("labels", label(3)))
    run.go_on()
    letters = told(run, "f3").label.refused  # type: ignore[union-attr]
    assert [letter.reason for letter in letters] == ["duplicate"]


def test_who_learned_from_it(run: Recorded) -> None:
    """The first version that has it, the first that went live, and the trainings that had read it."""
    models = [Published(ONLINE, version, run.stream.feature_set, version, 0.3) for version in (0, 4, 20, 32)]
    for said in models:
        run.log.append(Outgoing("flights.models", msgspec.json.encode(said), b"online", 0))
    examples = rows(run, "examples")
    place = {row["event_id"]: record.offset for record, _, row in examples}
    time = {row["event_id"]: int(row["event_time"].timestamp() * 1e6) for _, _, row in examples}
    had = Training("batch@1", 3, place["f5"] + 1)
    trainings = [had, Training("batch@2", 3, place["f5"]), Training("batch@3", 9, 10**6, "after", time["f5"] + 1)]
    for training in trainings:
        version = int(training.version.partition("@")[2])
        said = Registered("batch", version, run.stream.feature_set, 9, 0.3, 0.4, "schedule")
        run.log.append(Outgoing("flights.models", msgspec.json.encode(said), b"batch", 0))
    one = told(run, "f5", trainings=trainings[:2], table=lambda offset: offset + 100)
    assert one.learned is not None
    assert one.label is not None
    number = one.label.examples[0].number
    assert number is not None
    assert one.learned.published == f"online@{min(version for version in (0, 4, 20, 32) if version >= number)}"
    assert (one.learned.trained, one.learned.unknown) == ([had], ["batch@3"])
    assert one.learned.table == place["f5"] + 100
    one = told(run, "f5", trainings=trainings)
    assert one.learned is not None
    assert one.learned.unknown == []
    assert [hop.name for hop in one.hops][-1] == one.learned.published


@pytest.mark.parametrize("first", [1, 2, 3, 5])
def test_the_newest_are_looked_at_first(run: Recorded, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the slices, each event is found; a search for a new one reads little; times narrow it."""
    monkeypatch.setattr(finding, "FIRST", first)
    monkeypatch.setattr(finding, "LARGEST", first)
    read: list[tuple[Position, int, int]] = []
    for n in range(FLIGHTS):
        found = finding.find(run.history, run.stream, f"f{n}", Times(), lambda *one: read.append(one))
        assert (found.position, found.offset) == (stands(run, "events", n).position, stands(run, "events", n).offset)
        assert found.predicted is not None
        assert found.predicted[1].event_id == f"f{n}"
        place = f"flights.events/{found.position.partition}/{found.offset}"
        assert finding.find(run.history, run.stream, place, Times(), lambda *_: None) == found
    read.clear()
    finding.find(run.history, run.stream, f"f{FLIGHTS - 1}", Times(), lambda *one: read.append(one))
    assert len(read) <= 2 + 2 // first
    with pytest.raises(Stop, match=r"0 records .*; --from and --to may leave it out"):
        finding.find(run.history, run.stream, "f3", Times(10**15), lambda *_: None)


def test_an_unknown_id_is_an_error(run: Recorded) -> None:
    """It names how much was searched, and what to try."""
    with pytest.raises(Stop, match=r"no event 'f99' among \d+ records .* \(--stream\)"):
        told(run, "f99")


def test_a_version_that_is_gone_is_named(run: Recorded, tmp_path: Path) -> None:
    """A score of a version that can't be had is told without a verdict, with the reason."""
    gone = run.versions(Artifacts(tmp_path / "nowhere", "flights"))
    one = story(run.stream, run.history, gone, "f30", lambda *_: None)
    assert one.prediction is not None
    assert [score.agrees for score in one.prediction.scores] == [True]  # made again from examples
    assert gone.refolded


def test_live_spans_stand_where_they_belong() -> None:
    """A span that sends goes to the record that it sent, one that processes to its service's, Triton's to scores."""
    parts = (
        ("event", "ingestion", "s.events"),
        ("features", "features", "s.features"),
        ("scored", "inference", "s.scored"),
    )
    made = [Hop(*one, 0, 0, 0) for one in parts]
    made.append(Hop("label", "ingestion", "s.labels", 0, 0, 0))
    names = [("POST /v1/streams/s/events", "ingestion"), ("process s.events", "features"), ("InferRequest", "triton")]
    names.append(("POST /v1/streams/s/labels", "ingestion"))
    names.append(("x", "console"))
    spans = [Span("t", str(n), None, name, service, n, n + 1) for n, (name, service) in enumerate(names)]
    found, left = placed(made, spans)
    assert [[span.name for span in hop.live] for hop in found] == [[name] for name, _ in names[:4]]
    assert [span.name for span in left] == ["x"]
