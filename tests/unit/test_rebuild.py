"""Rebuilt topics: the same as what was written, or what another version or feature set would have made of the log."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from services.features.core import FeaturesCore
from services.learner.core import LearnerCore
from services.replay.online import open_batch
from services.replay.rebuild import KINDS, Rebuild
from services.replay.scores import OneVersion, Scores, trained_on
from services.replay.scores import Recorded as RecordedScores
from services.replay.verify import Span, verify
from services.runtime.errors import Stop
from services.runtime.frames import micros, rows
from services.runtime.models import Published
from services.runtime.records import Outgoing, Record
from services.runtime.stream import Stream
from services.trainer.export import build
from tests.nets import network
from tests.recorded import FLIGHTS, STREAM, Recorded, flight, label, outgoing


@pytest.fixture
def run(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def rebuilt(run: Recorded, scores: Scores | None = None, stream: Stream = STREAM, **more: Any) -> Rebuild:
    """Rebuild into the same log, under the prefix `again`."""
    rebuild = Rebuild(stream, "again", scores or recorded(run), more.get("span", Span()), more.get("kinds", KINDS))

    def write(outgoing: Sequence[Outgoing]) -> None:
        for out in outgoing:
            run.log.append(out)

    rebuild.run(run.history, write, lambda *_: None)
    return rebuild


def recorded(run: Recorded) -> RecordedScores:
    return RecordedScores(run.stream, run.history)


def table(run: Recorded, topic: str) -> pa.Table:
    batches = [open_batch(record) for record in run.log.read(topic)]
    return pa.Table.from_batches(batches).sort_by("event_id")


def topics(run: Recorded) -> set[str]:
    return {position.topic for position in run.log.topics if position.topic.startswith("again")}


def values(run: Recorded, topic: str) -> list[tuple[int, bytes | None, bytes]]:
    return sorted((record.partition, record.key, record.value) for record in run.log.read(topic))


def test_everything_comes_out_as_it_was_written(run: Recorded) -> None:
    """With the recorded scores every topic is the same: rows bit for bit, predictions byte for byte."""
    counts = rebuilt(run).counts
    for kind in ("features", "scored", "examples"):
        assert table(run, f"again.{kind}").equals(table(run, f"flights.{kind}")), kind
        assert {r.partition for r in run.log.read(f"again.{kind}")} == ({0, 1} if kind != "examples" else {0})
    assert values(run, "again.predictions") == values(run, "flights.predictions")
    assert (counts["features"], counts["scored"], counts["left out"]) == (FLIGHTS, FLIGHTS, 1)
    assert counts["examples"] == table(run, "flights.examples").num_rows > 20
    assert topics(run) == {f"again.{kind}" for kind in KINDS}


def test_what_a_network_said_beside_is_the_same_too(tmp_path: Path) -> None:
    """Its scores, states and weights, rows without a score among them; and verify makes its scores again."""
    run = Recorded(tmp_path, graph=build(network(7)))
    states = table(run, "flights.scored")["batch"].combine_chunks().flatten().field("state").to_pylist()
    assert set(states) == {"shadow", "champion"}
    rebuilt(run)
    for kind in ("scored", "examples"):
        assert table(run, f"again.{kind}").equals(table(run, f"flights.{kind}")), kind
    assert values(run, "again.predictions") == values(run, "flights.predictions")
    found = verify(STREAM, run.history, run.versions(), Span(), lambda *_: None)
    assert [partition.differing.total() for partition in found] == [0, 0]


def test_one_version_scores_every_row(run: Recorded) -> None:
    """`online@N` says of every row what a learner of N examples says, and predictions name it."""
    examples = run.log.read("flights.examples")
    learner = LearnerCore(STREAM)
    learner.fold(examples[:3])
    rebuilt(run, OneVersion(run.versions(), learner.learned))
    said = {p["event_id"]: p for p in (json.loads(record.value) for record in run.log.read("again.predictions"))}
    name = f"online@{learner.learned}"
    assert len(said) == FLIGHTS
    assert {tuple(p["scores"]) for p in said.values()} == {(name,)}
    found = table(run, "again.features")
    for event_id, vector in zip(found["event_id"].to_pylist(), found["features"].to_pylist(), strict=True):
        proba = learner._model.predict_proba_one(dict(zip(STREAM.columns, vector, strict=True)))
        assert said[event_id]["prediction"] == {"late": said[event_id]["scores"][name]} == {"late": proba[True]}
    online = table(run, "again.examples")["online"].combine_chunks()
    assert set(online.field("version").to_pylist()) == {learner.learned}


def test_a_version_that_cannot_be_had_is_refused_before_anything_is_written(run: Recorded) -> None:
    with pytest.raises(Stop, match=r"online@999 has no artifact and can't be made again"):
        OneVersion(run.versions(), 999)


def test_a_span_bounds_what_is_written_and_not_what_is_folded(run: Recorded) -> None:
    """Of a span come its rows, with the history that they had, and their predictions and examples."""
    whole = table(run, "flights.features")
    times = sorted(micros(whole["event_time"].combine_chunks()).tolist())
    rebuild = rebuilt(run, span=Span(times[10], times[20]))
    found = table(run, "again.features")
    inside = pc.and_(
        pc.greater_equal(whole["event_time"].cast("int64"), times[10]),
        pc.less(whole["event_time"].cast("int64"), times[20]),
    )
    assert found.equals(whole.filter(inside))
    assert rebuild.counts["features"] == 10 == len(run.log.read("again.predictions"))
    assert set(table(run, "again.examples")["event_id"].to_pylist()) <= set(found["event_id"].to_pylist())


@pytest.mark.parametrize("kinds", [("features",), ("examples",), ("features", "examples"), ("predictions",)])
def test_only_what_is_wanted_is_written(run: Recorded, kinds: tuple[str, ...]) -> None:
    """Other topics are not touched, and what is written does not depend on them."""
    rebuilt(run, kinds=kinds)
    assert topics(run) == {f"again.{kind}" for kind in kinds}
    if "examples" in kinds:
        assert table(run, "again.examples").equals(table(run, "flights.examples"))


def test_a_new_feature_is_filled_in_for_the_past(run: Recorded) -> None:
    """With another feature set rows are those of its own fold, and examples have them beside the recorded scores."""
    features = dict(STREAM.pipeline.features)
    del features["quiet"]
    columns = tuple(column for column in STREAM.columns if column != "quiet")
    pipeline = msgspec.structs.replace(STREAM.pipeline, features=features)
    other = msgspec.structs.replace(STREAM, pipeline=pipeline, columns=columns, feature_set="flights:other")
    rebuilt(run, stream=other, kinds=("features", "scored", "examples"))
    core = FeaturesCore(other, 0)
    good = [record for record in run.log.read("flights.events") if record.partition == 0 and record.value != b"{"]
    (out,) = [out for out in core.fold(good) if out.topic == "flights.features"]
    expected = {
        name: vector.tobytes()
        for batch in [open_batch(Record("", 0, 0, None, out.value))]
        for name, vector in zip(batch["event_id"].to_pylist(), rows(batch["features"]), strict=True)
    }
    was, found = table(run, "flights.examples"), table(run, "again.examples")
    for column in ("event_id", "online", "served", "label", "label_time"):
        assert found[column].equals(was[column])
    vectors = zip(found["event_id"].to_pylist(), found["features"].to_pylist(), strict=True)
    made = {name: np.array(vector, np.float32).tobytes() for name, vector in vectors}
    common = set(made) & set(expected)
    assert len(common) > 10
    assert all(made[name] == expected[name] for name in common)


def test_rows_without_a_recorded_score_are_features_only(run: Recorded) -> None:
    """What inference has not come to has its features, and no prediction is made up for it."""
    run.log.append(outgoing("events", flight(FLIGHTS)))
    counts = rebuilt(run).counts
    assert (counts["features"], counts["scored"]) == (FLIGHTS + 1, FLIGHTS)
    assert f"f{FLIGHTS}" not in {json.loads(record.value)["event_id"] for record in run.log.read("again.predictions")}


def test_what_was_refused_and_sent_again_counts_once(run: Recorded) -> None:
    """A label that was refused, and came again after a fix, makes one example; the refused record makes none."""
    event = flight(FLIGHTS)
    run.log.append(outgoing("events", event))
    run.log.append(msgspec.structs.replace(outgoing("labels", label(FLIGHTS)), key=b"wrong"))
    run.go_on()
    run.log.append(outgoing("labels", label(FLIGHTS)))
    run.go_on()
    assert table(run, "flights.examples")["event_id"].to_pylist().count(event["event_id"]) == 1
    rebuilt(run)
    assert table(run, "again.examples").equals(table(run, "flights.examples"))


def test_the_feature_sets_of_the_models_are_known(run: Recorded) -> None:
    """`models` says what the versions were trained on."""
    for feature_set in ("a", "b", "a"):
        said = msgspec.json.encode(Published("online", 1, feature_set, 1, None))
        run.log.append(Outgoing("flights.models", said, b"online", 0))
    assert trained_on(run.history, STREAM) == {"a", "b"}


def test_records_come_in_the_order_of_the_broker(run: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions are merged by the broker's time, so that examples are in an order from which one can learn."""
    monkeypatch.setattr("services.replay.rebuild.SLICE", 3)
    stamp(run, lambda n: 1_400_000_000_000 + 1000 * n)
    rebuilt(run)
    ids = [name for record in run.log.read("again.examples") for name in open_batch(record)["event_id"].to_pylist()]
    order = [int(name[1:]) for name in ids]
    assert len(order) == len(set(order)) > 20
    assert max(abs(place - number) for place, number in enumerate(order)) < 12


def stamp(run: Recorded, time: Callable[[int], int]) -> None:
    """Give each event and label the time of its flight's number; a label comes eight flights later."""
    for topic, later in (("flights.events", 0), ("flights.labels", 8)):
        for position, records in run.log.topics.items():
            if position.topic == topic:
                for place, record in enumerate(records):
                    name = json.loads(record.value)["event_id"] if record.value != b"{" else "f11"
                    records[place] = msgspec.structs.replace(record, timestamp=time(int(name[1:]) + later))
