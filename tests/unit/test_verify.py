"""Verify: what is the same passes; whatever is changed, lost, doubled or of no event is named, the first row first."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from services.replay.compare import row_differs
from services.replay.findings import SHOWN, Findings
from services.replay.online import Layout, Row
from services.replay.verify import Span, verify
from services.runtime.artifacts import Artifacts
from services.runtime.dead_letters import dead_letter
from services.runtime.errors import Reject, Stop
from services.runtime.frames import matrix, micros, rows
from services.runtime.memory import MemoryHistory, MemoryLog
from services.runtime.records import Outgoing, Position, Record
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream, load_stream
from tests.recorded import FLIGHTS, ROOT, STREAM, Recorded, flight, outgoing

FEATURES = features_frame(STREAM)


@pytest.fixture
def run(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def verified(run: Recorded, span: Span = Span(), **more: Any) -> list[Findings]:  # noqa: B008 - it is frozen
    stream = more.get("stream", run.stream)
    versions = run.versions(more.get("artifacts"), stream)
    return [*verify(stream, more.get("history", run.history), versions, span, lambda *_: None)]


def total(found: list[Findings], name: str) -> int:
    return sum(partition.counts[name] for partition in found)


def the_difference(found: list[Findings]) -> str:
    (difference,) = [difference for partition in found for difference in partition.differences]
    return str(difference)


def test_what_was_written_online_is_what_is_folded(run: Recorded) -> None:
    """Nothing differs; every event is a row, a prediction, or refused; versions are those that scored."""
    versions = run.versions()
    found = [*verify(STREAM, run.history, versions, Span(), lambda *_: None)]
    assert [partition.differences for partition in found] == [[], []]
    assert (total(found, "rows"), total(found, "predictions"), total(found, "refused")) == (FLIGHTS, FLIGHTS, 1)
    assert (total(found, "waiting"), total(found, "unscored"), total(found, "accepted now")) == (0, 0, 0)
    assert {partition.feature_set for partition in found} == {STREAM.feature_set}
    assert len(versions.used) > 3
    assert not versions.refolded


def test_late_events_are_explained(run: Recorded) -> None:
    """A late event is named with its place and how far it was behind the newest before it, which was 19 · 7 minutes."""
    (late,) = [late for partition in verified(run) for late in partition.late]
    assert (late.event_id, late.behind) == ("f20", (19 * 7 - 20) * 60_000_000)
    assert late.event.startswith("flights.events/0/")


def test_lateness_is_counted_from_the_newest_of_all(run: Recorded) -> None:
    """A late event does not move the clock back: the next one is as late as if that had not come."""
    run.log.append(outgoing("events", flight(61, minutes=7 * 38 - 60)))
    run.log.append(outgoing("events", flight(62, minutes=7 * 38 - 30)))
    run.go_on()
    late = {late.event_id: late.behind for partition in verified(run) for late in partition.late}
    assert (late["f61"], late["f62"]) == (60 * 60_000_000, 30 * 60_000_000)


# What is changed


def change(log: MemoryLog, kind: str, wanted: Callable[[Record], Record | None]) -> None:
    """Replace the first record of partition 0 for which `wanted` returns another."""
    records = log.topics[Position(f"flights.{kind}", 0)]
    for place, record in enumerate(records):
        if (changed := wanted(record)) is not None:
            records[place] = changed
            return
    pytest.fail("nothing was changed")


def with_column(name: str, row: int, value: Callable[[Any], Any]) -> Callable[[Record], Record | None]:
    """Return a change of one row's value in a column of a features batch."""

    def changed(record: Record) -> Record | None:
        batch = FEATURES.decode(record)
        if batch.num_rows <= row:
            return None
        columns = batch.columns
        place = batch.schema.get_field_index(name)
        values = columns[place].to_pylist()
        values[row] = value(values[row])
        columns[place] = pa.array(values, columns[place].type)
        return msgspec.structs.replace(record, value=FEATURES.encode(columns))

    return changed


def with_bit(column: str, row: int) -> Callable[[Record], Record | None]:
    """Return a change of the lowest bit of one number."""

    def changed(record: Record) -> Record | None:
        batch = FEATURES.decode(record)
        if batch.num_rows <= row:
            return None
        vectors = np.array(rows(batch.column("features")), np.float32)
        vectors.view(np.uint32)[row, STREAM.columns.index(column)] ^= 1
        return msgspec.structs.replace(record, value=FEATURES.encode([*batch.columns[:4], matrix(vectors)]))

    return changed


@pytest.mark.parametrize(
    ("change_of", "said"),
    [
        (with_bit("distance", 1), r"features: distance of f2 \(flights.events/0/1\) in flights.features/0/0: "),
        (with_column("event_id", 1, lambda _: "g"), r"features: event_id of f2 .*: online 'g', replayed 'f2'"),
        (with_column("key", 0, lambda _: "JFK"), r"features: key of f1 .*: online 'JFK', replayed 'EWR'"),
        (
            with_column("event_time", 0, lambda time: time.replace(year=2014)),
            r"features: event_time of f1 .*: online 2014-01-05T06:07:00.000000Z, replayed 2013-01-05T06:07:00.000000Z",
        ),
    ],
)
def test_a_changed_row_is_named(run: Recorded, change_of: Callable[[Record], Record | None], said: str) -> None:
    """One bit of one number is enough: the difference says field, both values, the event and where the row stands."""
    change(run.log, "features", change_of)
    found = verified(run)
    assert re.match(said, the_difference(found))


def test_vectors_are_compared_by_their_bits() -> None:
    """Minus zero is not zero, and one NaN not another: what reads the same is shown with its bits; a NaN is itself."""
    layout = Layout("made:0", ("a", "b"))

    def row(*bits: int) -> Row:
        return Row(0, "f0", "EWR", 0, np.array(bits, np.uint32).tobytes())

    assert [*row_differs(row(0, 0x80000000), row(0, 0), layout, layout)] == [("b", "-0.0", "0.0")]
    nans = "nan (bits 7fc00001)", "nan (bits 7fc00000)"
    assert [*row_differs(row(0x7FC00001, 1), row(0x7FC00000, 1), layout, layout)] == [("a", *nans)]
    assert [*row_differs(row(0x7FC00001, 1), row(0x7FC00001, 1), layout, layout)] == []


def with_said(change_of: Callable[[dict[str, Any]], Any]) -> Callable[[Record], Record]:
    """Return a change of a prediction's JSON."""

    def changed(record: Record) -> Record:
        said = json.loads(record.value)
        change_of(said)
        return msgspec.structs.replace(record, value=json.dumps(said).encode())

    return changed


def scores(by: float) -> Callable[[dict[str, Any]], None]:
    def changed(said: dict[str, Any]) -> None:
        said["scores"] = {version: score + by for version, score in said["scores"].items()}
        said["prediction"]["late"] += by

    return changed


@pytest.mark.parametrize(
    ("change_of", "fields"),
    [
        (with_said(lambda said: said.update(event_id="g")), ["event_id"]),
        (with_said(lambda said: said.update(key="JFK")), ["key"]),
        (with_said(lambda said: said.update(event_time="2014-01-05T06:07:00Z")), ["event_time"]),
        (with_said(lambda said: said.update(features="flights:0")), ["features"]),
        (with_said(lambda said: said["source"].update(partition=1)), ["source.partition"]),
        (with_said(lambda said: said["prediction"].update(late=0.6)), ["prediction.late"]),
        (with_said(lambda said: said.update(prediction={})), ["prediction.late"]),
        (with_said(lambda said: said["weights"].update({"batch@7": 0.5})), ["weights", "prediction.late"]),
        (with_said(scores(2e-6)), ["scores.online@0", "prediction.late"]),
        (with_said(lambda said: said.update(scores={"online@0": 0.5, "batch@7": 0.5})), ["scores"]),
        (with_said(lambda said: said.update(weights={"online@0": 0.5})), ["weights", "prediction.late"]),
        (with_said(lambda said: said.update(scores={"online@9999": 0.5})), ["weights", "scores"]),
        (lambda record: msgspec.structs.replace(record, key=b"JFK"), ["the record's key"]),
    ],
)
def test_a_changed_prediction_is_named(
    run: Recorded, change_of: Callable[[Record], Record | None], fields: list[str]
) -> None:
    """Every field of a prediction is compared; a score may be off by a millionth, and by no more."""
    change(run.log, "predictions", change_of)
    found = verified(run)
    assert [difference.field for difference in found[0].differences] == fields
    assert {difference.record for difference in found[0].differences} == {"flights.predictions/0/0"}
    assert found[0].differing == {"predictions": len(fields)}


def test_a_score_may_be_off_by_less_than_a_millionth(run: Recorded) -> None:
    """Half a millionth is the arithmetic of another machine."""
    change(run.log, "predictions", with_said(scores(5e-7)))
    assert not verified(run)[0].differing


# What is lost, doubled, or of no event


def lose(kind: str, place: int, partition: int = 0) -> Callable[[MemoryLog], None]:
    return lambda log: log.topics[Position(f"flights.{kind}", partition)].__delitem__(place)


def double(kind: str, place: int, to: int) -> Callable[[MemoryLog], None]:
    def doubled(log: MemoryLog) -> None:
        records = log.topics[Position(f"flights.{kind}", 0)]
        records.insert(to, records[place])

    return doubled


def predict_what_was_refused(log: MemoryLog) -> None:
    """Have a prediction of the record that is no event."""
    letter = json.loads(log.read("flights.dead-letter")[0].value)
    records = log.topics[Position("flights.predictions", 0)]
    said = json.loads(records[0].value)
    said["source"]["offset"] = letter["offset"]
    records.insert(letter["offset"], msgspec.structs.replace(records[0], value=json.dumps(said).encode()))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lose("features", 1), r"features: record of f\d+ \(flights.events/0/\d+\): online none, replayed one"),
        (
            double("features", 1, 2),
            r"features: record of f\d+ .* in flights.features/0/1: online one more, replayed",
        ),
        (
            double("features", 1, 5),
            r"features: record of f\d+ .* in flights.features/0/1: online one more, replayed one",
        ),
        (lose("predictions", 3), r"predictions: record of f\d+ \(flights.events/0/3\): online none, replayed one"),
        (double("predictions", 3, 4), r"predictions: record of f\d+ .*/0/3: online 2 of them, replayed one"),
        (double("predictions", 3, 30), r"predictions: record of f\d+ .*/0/3: online one more, replayed one an event"),
        (double("features", 1, 99), r"features: record of f\d+ .* in flights.features/0/1: online one more, replayed"),
        (double("predictions", 3, 99), r"predictions: record of f\d+ .*/0/3: online one more, replayed one an event"),
        (lose("late", 0), r"late: record of f20 \(flights.events/0/\d+\): online none, replayed one"),
        (double("late", 0, 0), r"late: record of f20 \(flights.events/0/\d+\): online 2 of them, replayed one"),
        (lose("dead-letter", 0), r"dead-letter: record of flights.events/0/\d+: online none, replayed one: json: "),
        (double("dead-letter", 0, 0), r"dead-letter: record of flights.events/0/\d+: online 2 of them, replayed one"),
        (predict_what_was_refused, r"predictions: record of f1 .*: online one, replayed none, as it was refused: json"),
    ],
)
def test_what_is_lost_or_doubled_is_named(run: Recorded, harm: Callable[[MemoryLog], None], said: str) -> None:
    """Every event has one row and one prediction, or one dead letter; a late one is on `late` once."""
    harm(run.log)
    found = verified(run)
    assert re.match(said, str(found[0].differences[0])), found[0].differences
    assert not found[1].differing


def test_all_differences_are_counted_and_the_first_are_named(run: Recorded) -> None:
    """A partition names a few in the order of its log, and counts the others."""
    run.log.topics[Position("flights.predictions", 0)].clear()
    found = verified(run)
    assert found[0].differing == {"predictions": found[0].counts["rows"]}
    assert len(found[0].differences) == SHOWN < found[0].counts["rows"]
    places = [int(difference.event.rpartition("/")[2]) for difference in found[0].differences]
    assert places == sorted(places)


# A run that is up


def test_what_was_not_committed_is_waiting_and_not_missing(run: Recorded) -> None:
    """Events that features, and rows that inference, had not committed when it began are counted, not missed."""
    for n in range(FLIGHTS, FLIGHTS + 3):
        run.log.append(outgoing("events", flight(n)))
    topics = [Position(f"flights.{kind}", partition) for kind in ("events", "features") for partition in (0, 1)]
    ends = {position: len(run.log.topics[position]) for position in topics}
    committed = {**ends, topics[0]: ends[topics[0]] - 2, topics[1]: ends[topics[1]] - 1}
    run.log.topics[Position("flights.predictions", 0)].pop()
    groups = {"flights.features": committed, "flights.inference": committed | {topics[2]: ends[topics[2]] - 1}}
    found = verified(run, history=MemoryHistory(run.log, groups))
    assert (total(found, "waiting"), total(found, "unscored")) == (3, 1)
    assert not any(partition.differing for partition in found)
    lost = verified(run, history=MemoryHistory(run.log, groups | {"flights.inference": committed}))
    assert lost[0].differing == {"predictions": 1}


def test_what_came_while_it_read_is_passed_over(run: Recorded) -> None:
    """Rows and predictions of events past what was committed at the start are no strays."""
    events = [Position("flights.events", partition) for partition in (0, 1)]
    groups = {"flights.features": {position: len(run.log.topics[position]) - 4 for position in events}}
    found = verified(run, history=MemoryHistory(run.log, groups))
    assert total(found, "waiting") == 8
    assert not any(partition.differing for partition in found)


def test_a_stray_behind_what_came_meanwhile_is_found(run: Recorded) -> None:
    """Topics are read to their end: a second prediction of an old event may stand anywhere."""
    records = run.log.topics[Position("flights.predictions", 0)]
    records.append(records[3])
    events = [Position("flights.events", partition) for partition in (0, 1)]
    groups = {"flights.features": {position: len(run.log.topics[position]) - 4 for position in events}}
    assert verified(run, history=MemoryHistory(run.log, groups))[0].differing == {"predictions": 1}


# Spans, schemas and versions


def test_a_span_bounds_what_is_compared(run: Recorded) -> None:
    """Only events of the span are compared: a difference before it or at its end is not looked at, one in it is."""
    run.log.topics[Position("flights.predictions", 0)].clear()
    times = [micros(FEATURES.decode(record).column("event_time")) for record in run.log.read("flights.features")]
    ordered = sorted(np.concatenate(times).tolist())
    found = verified(run, Span(ordered[10], ordered[20]))
    assert total(found, "rows") == 10
    assert 0 < found[0].differing["predictions"] == found[0].counts["rows"] < 10
    assert total(verified(run, Span(end=ordered[0])), "rows") == 0


def stream_with(tmp_path: Path, file: str, old: str, new: str) -> Stream:
    """Return the flights stream with one change in its folder."""
    folder = tmp_path / "schemas" / "flights"
    folder.mkdir(parents=True)
    for name in ("event.json", "label.json", "pipeline.toml"):
        text = (ROOT / "schemas" / "flights" / name).read_text()
        assert name != file or old in text
        (folder / name).write_text(text.replace(old, new) if name == file else text)
    return load_stream(tmp_path / "schemas", "flights")


def test_another_feature_set_is_named_with_its_first_row(run: Recorded, tmp_path: Path) -> None:
    """Folded with a changed default, the first rows that had no past differ; the feature set that wrote is told."""
    other = stream_with(tmp_path, "pipeline.toml", 'op = "lag", ', 'op = "lag", default = 3.0,')
    found = verified(run, stream=other)
    assert [str(partition.differences[0]) for partition in found] == [
        "features: last_delay of f1 (flights.events/0/0) in flights.features/0/0: online 0.0, replayed 3.0",
        "features: last_delay of f0 (flights.events/1/0) in flights.features/1/0: online 0.0, replayed 3.0",
    ]
    assert {partition.feature_set for partition in found} == {STREAM.feature_set} != {other.feature_set}


def test_a_column_that_was_not_there_is_a_difference(run: Recorded, tmp_path: Path) -> None:
    """Columns are compared by their names; one that only one side has is said to be missing on the other."""
    other = stream_with(tmp_path, "pipeline.toml", "quiet  ", "calm  ")
    found = verified(run, stream=other)
    assert [d.field for d in found[1].differences[:2]] == ["calm", "quiet"]
    assert [d.online for d in found[1].differences[:1]] == [d.replayed for d in found[1].differences[1:2]]


def test_what_was_refused_is_no_part_of_the_fold_after_a_fix(run: Recorded) -> None:
    """A record that was refused and would pass now does not change the rows after it; that it would pass is counted."""
    run.log.append(outgoing("events", flight(50, distance_mi=-1)))
    run.log.append(outgoing("events", flight(52)))  # of the same airport: it would have seen the other
    run.go_on()
    assert total(verified(run), "refused") == 2
    event = json.loads(json.dumps(STREAM.event))
    event["properties"]["distance_mi"].pop("minimum")
    found = verified(run, stream=msgspec.structs.replace(STREAM, event=event))
    assert (total(found, "refused"), total(found, "accepted now")) == (2, 1)
    assert not any(partition.differing for partition in found)


def test_versions_without_artifacts_are_made_again(run: Recorded, tmp_path: Path) -> None:
    """Where no artifact is, versions are folded again from `examples`, in whichever order they are asked for."""
    found = verified(run, artifacts=Artifacts(tmp_path / "elsewhere", "flights"))
    assert total(found, "predictions") == FLIGHTS
    assert not any(partition.differing for partition in found)


def test_a_version_that_cannot_be_had_is_a_difference(run: Recorded, tmp_path: Path) -> None:
    """Without artifacts and without the examples, a score is not proven: it is named, and why."""
    run.log.topics[Position("flights.examples", 0)].clear()
    found = verified(run, artifacts=Artifacts(tmp_path / "elsewhere", "flights"))
    assert found[0].differing["predictions"] > 5
    assert "has no artifact and can't be made again: `flights.examples` holds 0 examples" in str(
        found[0].differences[0]
    )


def test_examples_of_another_feature_set_make_no_version(run: Recorded, tmp_path: Path) -> None:
    """Every version says why it can't be made again, not the first alone."""
    other = stream_with(tmp_path, "pipeline.toml", 'op = "lag", ', 'op = "lag", default = 3.0,')
    versions = run.versions(Artifacts(tmp_path / "elsewhere", "flights"), other)
    for version in (3, 5, 3):
        with pytest.raises(Stop, match=r"flights.examples\[0\]@0: schema "):
            versions.model(version)


def test_a_version_may_end_within_a_record_of_examples(run: Recorded) -> None:
    """Any number of examples is a version: its score is that of a learner which stopped there."""
    whole = run.versions()
    vector = dict.fromkeys(STREAM.columns, 1e-3)
    nowhere = Artifacts(run.artifacts._folder.parent / "none", "flights")
    again = run.versions(nowhere)
    last = max(int(path.stem) for path in (run.artifacts._folder / "online").glob("*.model"))
    scores = [again.score(f"online@{n}", vector) for n in (*range(last + 1), 3, 2, 1, 0)]
    assert len(set(scores)) > 10
    assert scores[0] == 0.5
    assert scores[:4] == scores[-1:-5:-1]
    for path in (run.artifacts._folder / "online").glob("*.model"):
        assert whole.score(f"online@{path.stem}", vector) == scores[int(path.stem)]


# A log that can't be trusted


def test_a_log_that_lost_its_beginning_is_refused(run: Recorded) -> None:
    """Where retention took the first events, nothing can be folded: that is an error, and no verdict."""

    class Cut(MemoryHistory):
        def bounds(self, position: Position) -> tuple[int, int]:
            return 3, super().bounds(position)[1]

    with pytest.raises(Stop, match=r"flights.events\[0\] begins at 3: what came before is gone"):
        verified(run, history=Cut(run.log))


@pytest.mark.parametrize(
    ("kind", "message"),
    [("features", "is no Arrow record batch"), ("predictions", "is no prediction"), ("dead-letter", "no dead letter")],
)
def test_what_is_not_ours_is_named(run: Recorded, kind: str, message: str) -> None:
    """A record that no service can have written stops the verification, with its place."""
    run.log.topics[Position(f"flights.{kind}", 0)][0] = Record(f"flights.{kind}", 0, 0, None, b"{")
    with pytest.raises(Stop, match=rf"flights.{kind}/0/0 .*{message}"):
        verified(run)


def test_letters_of_labels_are_not_those_of_events(run: Recorded) -> None:
    """A label that was refused at an event's partition and offset takes no event out of the fold."""
    refused = Record("flights.labels", 0, 2, b"EWR", b"{")
    run.log.append(dead_letter("flights.dead-letter", "labels", refused, Reject("json", "bad")))
    run.log.append(
        Outgoing(
            "flights.dead-letter", b'{"event":"replayed","topic":"flights.events","partition":0,"offset":2}', b"", 0
        )
    )
    found = verified(run)
    assert not any(partition.differing for partition in found)
