"""The labels core by hand: when a label counts, what an example holds, and what becomes of a bad label."""

import base64
import json
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from services.labels.core import Held, LabelsCore
from services.labels.join import State
from services.runtime.errors import Stop
from services.runtime.frames import matrix, micros, rows, times
from services.runtime.grammar import Duration, LabelRule, OnlineRule, Pipeline, StreamRule, Value
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import BESIDE, SCORE, examples_frame, features_frame, scored_frame
from services.runtime.stream import Stream

LABEL = {
    "required": ["id", "key", "at", "late"],
    "properties": {
        "id": {"type": "string"},
        "key": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "late": {"type": "boolean"},
    },
}
MINUTE = 60_000_000
NOON = 1_357_387_200_000_000  # 2013-01-05T12:00:00Z, in microseconds
HORIZON = 30  # minutes


def made(on_timeout: Any = "drop") -> Stream:
    pipeline = Pipeline(
        StreamRule("binary", "key", "at", "id"),
        {"x": Value(of="x"), "y": Value(of="y")},
        LabelRule("late", "at", Duration(f"{HORIZON}m"), on_timeout),
        OnlineRule(["linear_model.LogisticRegression"]),
    )
    return Stream("made", {"properties": {}}, LABEL, pipeline, ("x", "y"), "made:0")


STREAM = made()
VECTORS = np.array([[0.1, -0.0], [np.float32(1e-45), 3.4e38], [7, 8], [9, 10]], np.float32)


def scored(
    *minutes: float,
    ids: Sequence[str] = "abcd",
    offset: int = 0,
    first: int = 100,
    served: float = 0.5,
    stream: Stream = STREAM,
) -> Record:
    """Return a batch of rows named a, b, c …, at these minutes after noon; `first` is where the first is in events."""
    n = len(minutes)
    columns = [
        pa.array(list(ids[:n])),
        pa.array(["k"] * n),
        times(np.array([NOON + round(minute * MINUTE) for minute in minutes], np.int64)),
        pa.array([first + place for place in range(n)], pa.int64()),
        matrix(VECTORS[:n]),
        pa.array([served + place / 10 for place in range(n)]),
        pa.array([{"version": 7 + place, "score": place / 8, "weight": 0.25} for place in range(n)], SCORE),
        pa.array([[]] * n, BESIDE),
    ]
    frame = scored_frame(stream)
    return Record("made.scored", 3, offset, None, frame.encode(columns), headers=frame.headers)


def label(name: str, minute: float, *, late: bool = True, offset: int = 0) -> Record:
    """Return a label that came so many minutes after noon."""
    at = str(np.datetime64(NOON + round(minute * MINUTE), "us")) + "Z"
    value = json.dumps({"id": name, "key": "k", "at": at, "late": late})
    return Record("made.labels", 3, offset, b"k", value.encode())


def examples(outgoing: Sequence[Outgoing], stream: Stream = STREAM) -> list[dict[str, Any]]:
    """Return the rows of `examples`, each with its vector's bytes."""
    frame, found = examples_frame(stream), list[dict[str, Any]]()
    for out in outgoing:
        if out.topic == "made.examples":
            batch = frame.decode(Record(out.topic, 0, 0, None, out.value, headers=out.headers))
            vectors: NDArray[Any] = rows(batch.column("features"))
            moments = zip(micros(batch.column("event_time")), micros(batch.column("label_time")), strict=True)
            for row, vector, (event_time, label_time) in zip(batch.to_pylist(), vectors, moments, strict=True):
                when = {"event_time": (event_time - NOON) / MINUTE, "label_time": (label_time - NOON) / MINUTE}
                found.append(row | when | {"features": vector.tobytes()})
    return found


def state(core: LabelsCore) -> State:
    return msgspec.msgpack.decode(core.snapshot(), type=Held).join


def refusals(outgoing: Sequence[Outgoing]) -> list[tuple[str, int]]:
    """Return reason and offset of each dead letter."""
    letters = [json.loads(out.value) for out in outgoing if out.topic == "made.dead-letter"]
    return [(letter["reason"], letter["offset"]) for letter in letters]


def outcomes(*records: Record, stream: Stream = STREAM) -> list[tuple[str, float, str]]:
    """Fold the records one by one; return id, label and outcome of each example."""
    core = LabelsCore(stream, 3)
    found = examples([out for record in records for out in core.fold([record])], stream)
    return [(row["event_id"], row["label"], row["outcome"]) for row in found]


def test_an_example_is_its_row_and_its_label() -> None:
    """All that was scored is in the example bit for bit, with where it is from, and the label and the label's time."""
    core = LabelsCore(STREAM, 3)
    assert core.fold([scored(0, 1)]) == []
    [out] = core.fold([label("b", 5, late=True), label("a", 6, late=False)])
    assert (out.topic, out.partition, out.headers) == ("made.examples", 0, examples_frame(STREAM).headers)
    b, a = examples([out])
    assert b == {
        "event_id": "b",
        "key": "k",
        "event_time": 1,
        "offset": 101,
        "features": VECTORS[1].tobytes(),
        "served": 0.6,
        "online": {"version": 8, "score": 0.125, "weight": 0.25},
        "batch": [],
        "partition": 3,
        "label": 1.0,
        "label_time": 5,
        "outcome": "label",
        "retracts": None,
    }
    assert (a["event_id"], a["label"], a["label_time"], a["offset"]) == ("a", 0.0, 6, 100)
    assert (a["features"], a["online"]["version"]) == (VECTORS[0].tobytes(), 7)


def test_a_label_may_come_before_its_row() -> None:
    """Which of the two was read first makes no difference, not even for a label that is older than its row."""
    assert outcomes(label("a", 5), scored(0)) == outcomes(scored(0), label("a", 5)) == [("a", 1.0, "label")]
    assert outcomes(label("a", -5), scored(0)) == [("a", 1.0, "label")]


def test_a_label_counts_up_to_the_horizon() -> None:
    """The horizon's last microsecond counts and the next does not, whichever was read first."""
    moment = 1 / MINUTE
    for late, expected in [(0.0, [("a", 1.0, "label")]), (moment, [])]:
        assert outcomes(scored(0), label("a", HORIZON + late)) == expected
        assert outcomes(label("a", HORIZON + late), scored(0)) == expected
        assert outcomes(scored(HORIZON + late), label("a", 0)) == expected
        assert outcomes(label("a", 0), scored(HORIZON + late)) == expected


def test_the_horizon_runs_on_the_labels_clock() -> None:
    """A label of another row that is past the horizon ends the wait; so an old label that comes after it is late."""
    assert outcomes(scored(0), label("z", HORIZON), label("a", 1)) == [("a", 1.0, "label")]
    assert outcomes(scored(0), label("z", HORIZON + 1), label("a", 1)) == []
    assert outcomes(label("z", HORIZON + 1), label("a", 1), scored(0)) == []


def test_a_label_that_comes_twice_counts_once() -> None:
    """The first label of an id is its label; another is refused as a duplicate, wherever it comes."""
    once = [("a", 1.0, "label")]
    assert outcomes(scored(0), label("a", 1), label("a", 2, late=False, offset=1)) == once
    assert outcomes(label("a", 1), label("a", 2, late=False, offset=1), scored(0)) == once
    assert outcomes(label("a", 1), scored(0), label("a", 2, late=False, offset=1)) == once
    both = [label("a", 1), label("a", 2, late=False, offset=1)]
    for log in ([*both], [scored(0), *both], [*both, scored(0)], [both[0], scored(0), both[1]]):
        core = LabelsCore(STREAM, 3)
        assert refusals([out for record in log for out in core.fold([record])]) == [("duplicate", 1)]
        assert refusals(LabelsCore(STREAM, 3).fold(log)) == [("duplicate", 1)]


def test_a_duplicate_moves_no_clock() -> None:
    """One that says it is from after every horizon ends no wait."""
    log = [scored(0, 1), label("a", 2), label("a", 1000, offset=1), label("b", 3, offset=2)]
    assert outcomes(*log) == [("a", 1.0, "label"), ("b", 1.0, "label")]


def test_what_is_remembered_is_bounded() -> None:
    """An id is told among the last `dedupe` at least, and forgotten behind twice as many."""
    rule = msgspec.structs.replace(STREAM.pipeline.stream, dedupe=1)
    stream = msgspec.structs.replace(STREAM, pipeline=msgspec.structs.replace(STREAM.pipeline, stream=rule))
    names = "aabca"
    log = [label(name, minute, offset=minute) for minute, name in enumerate(names)]
    assert refusals(LabelsCore(stream, 3).fold(log)) == [("duplicate", 1)]
    assert refusals(LabelsCore(STREAM, 3).fold(log)) == [("duplicate", 1), ("duplicate", 4)]


@pytest.mark.parametrize(("at", "reasons"), [("1970-01-01T00:00:00Z", []), ("2200-01-01T00:00:00Z", [("clock", 1)])])
def test_a_wrong_clock_costs_nobody_but_itself(at: str, reasons: list[tuple[str, int]]) -> None:
    """A time ahead of the broker's is refused and moves no clock; one from 1970 is only old."""
    wrong = Record("made.labels", 3, 1, b"k", json.dumps(GOOD | {"id": "b", "at": at}).encode(), NOON // 1000)
    core = LabelsCore(STREAM, 3)
    log = [scored(0, 1), label("z", 0), wrong, label("a", 20, offset=2)]
    out = core.fold(log)
    assert refusals(out) == reasons
    assert [row["event_id"] for row in examples(out)] == ["a"]


def test_a_time_within_the_allowance_is_good() -> None:
    """A label may be an hour ahead of the broker's clock, unless the stream says otherwise, and no more."""
    for minutes, expected in [(60, []), (61, [("clock", 0)])]:
        log = [msgspec.structs.replace(label("a", minutes), timestamp=NOON // 1000)]
        assert refusals(LabelsCore(STREAM, 3).fold(log)) == expected


def test_a_label_is_the_first_rows_of_its_id() -> None:
    """An event that was sent twice, and far apart, is two rows; one has the label, the other none of its own."""
    stream, end = made("negative"), label("z", 1000, offset=9)
    for log in (
        [scored(0, 1, ids="aa"), label("a", 2)],
        [scored(0), label("a", 2), scored(1, offset=1, first=101)],
        [label("a", 2), scored(0, 1, ids="aa")],
    ):
        assert outcomes(*log, end, stream=stream) == [("a", 1.0, "label"), ("a", 0.0, "timeout")]


def test_a_row_that_was_written_twice_counts_once() -> None:
    """At least once means that `scored` may have a row again; it is known by its place in `events`."""
    stream, end = made("negative"), label("z", 1000, offset=9)
    for log in ([scored(0), scored(0), label("a", 2)], [scored(0), label("a", 2), scored(0)]):
        assert outcomes(*log, end, stream=stream) == [("a", 1.0, "label")]


def test_no_label_within_the_horizon_is_dropped_or_negative() -> None:
    """`drop` makes no example of it; `negative` one that says false, at the end of the horizon."""
    records = [scored(0, 20), label("z", HORIZON + 1)]
    assert outcomes(*records) == []
    stream = made("negative")
    core = LabelsCore(stream, 3)
    [row] = examples([out for record in records for out in core.fold([record])], stream)
    assert (row["event_id"], row["label"], row["outcome"]) == ("a", 0.0, "timeout")
    assert (row["event_time"], row["label_time"]) == (0, HORIZON)
    assert row["features"] == VECTORS[0].tobytes()


def test_no_label_within_the_horizon_may_be_unknown() -> None:
    """`unknown` makes an example without a label, which no metric counts; a late label is its first."""
    records = [scored(0, 20), label("z", HORIZON + 1)]
    stream = made("unknown")
    core = LabelsCore(stream, 3)
    [row] = examples([out for record in records for out in core.fold([record])], stream)
    assert (row["event_id"], row["label"], row["outcome"], row["retracts"]) == ("a", None, "timeout", None)
    assert (core.quality.n, core.totals["timeout"]) == (0, 1)
    log = [scored(0), label("z", HORIZON + 1), label("a", 5)]
    unknown = [("a", None, "timeout", None), ("a", 1.0, "late", None)]
    assert said(*log, stream=correctable("unknown")) == unknown


def test_a_row_is_given_up_only_once() -> None:
    """After the horizon, or after its label, no later label and no clock brings a row back."""
    stream = made("negative")
    end = label("z", 1000, offset=9)
    given_up = outcomes(scored(0), label("z", 31), label("a", 32, offset=1), end, stream=stream)
    assert given_up == [("a", 0.0, "timeout")]
    assert outcomes(scored(0), label("a", 1), end, stream=stream) == [("a", 1.0, "label")]


# Labels that come late, or are corrected


def correctable(on_timeout: Any = "drop", corrections: str = "90m") -> Stream:
    rule = msgspec.structs.replace(made(on_timeout).pipeline.label, corrections=Duration(corrections))
    return msgspec.structs.replace(STREAM, pipeline=msgspec.structs.replace(STREAM.pipeline, label=rule))


def said(*records: Record, stream: Stream) -> list[tuple[str, float, str, float | None]]:
    """Fold the records one by one; return id, label, outcome and what is retracted of each example."""
    core = LabelsCore(stream, 3)
    found = examples([out for record in records for out in core.fold([record])], stream)
    return [(row["event_id"], row["label"], row["outcome"], row["retracts"]) for row in found]


def test_a_label_is_corrected_by_a_newer_one() -> None:
    """Each that is newer by its own time is an example that retracts the one before; an older one says nothing."""
    stream = correctable()
    log = [
        scored(0, served=0.75),
        *(label("a", minute, late=late) for minute, late in [(5, True), (9, False), (7, True), (12, True)]),
    ]
    expected = [("a", 1.0, "label", None), ("a", 0.0, "corrected", 1.0), ("a", 1.0, "corrected", 0.0)]
    assert said(*log, stream=stream) == said(*log[1:], log[0], stream=stream) == expected
    core = LabelsCore(stream, 3)
    core.fold(log)
    assert {outcome: n for outcome, n in core.totals.items() if n} == {"label": 1, "corrected": 2, "superseded": 1}
    assert (core.quality.n, core.quality.accuracy) == (1, 1.0)


def test_a_label_corrected_a_thousand_times_ends_in_the_metrics_of_the_last() -> None:
    """In any order: quality is that of the newest label alone, to the bit, and each of the others is accounted for."""
    for seed in range(5):
        draw = random.Random(seed)  # noqa: S311 - a test's
        labels = [label("a", n * 0.02, offset=n, late=draw.random() < 0.5) for n in range(1000)]
        others = [label("b", 25, offset=1000, late=True), label("c", 25, offset=1001, late=False)]
        held, plain = LabelsCore(correctable(), 3), LabelsCore(correctable(), 3)
        held.fold([scored(0, 1, 2), *draw.sample(labels + others, 1002)])
        plain.fold([scored(0, 1, 2), labels[-1], *others])
        assert held.quality.state() == plain.quality.state()
        assert held.quality.n == 3
        said = held.totals
        assert (said["label"], said["corrected"] + said["superseded"]) == (3, 999)


def test_a_label_that_comes_after_the_horizon_is_late() -> None:
    """Where corrections are waited for it is an example after all; it retracts what its absence said, if anything."""
    log = [scored(0), label("z", HORIZON + 1), label("a", 5)]
    assert said(*log, stream=correctable()) == [("a", 1.0, "late", None)]
    negative = [("a", 0.0, "timeout", None), ("a", 1.0, "late", 0.0)]
    assert said(*log, stream=correctable("negative")) == negative
    assert said(*log[1:], log[0], stream=correctable("negative")) == negative


def test_corrections_end() -> None:
    """After `corrections`, on the labels' clock, nothing of the row is held, and a label for it says nothing."""
    for minute, expected in [(90.0, 2), (90.1, 1)]:
        log = [scored(0), label("a", 5), label("a", minute, late=False)]
        assert len(said(*log, stream=correctable())) == expected
    core = LabelsCore(correctable(), 3)
    core.fold([scored(0), label("a", 5)])
    assert VECTORS[0].tobytes() in core.snapshot()
    assert core.waiting == (1, 0)
    core.fold([label("z", 91)])
    assert VECTORS[0].tobytes() not in core.snapshot()


def test_the_same_label_again_is_a_duplicate_also_where_labels_are_corrected() -> None:
    """A producer that did not hear the answer sends again; that is no correction."""
    core = LabelsCore(correctable(), 3)
    out = core.fold(
        [scored(0), label("a", 5), label("a", 5, offset=1), label("a", 6, offset=2), label("a", 6, offset=3)]
    )
    assert refusals(out) == [("duplicate", 1), ("duplicate", 3)]
    assert "each label of an id once" in json.loads(out[0].value)["message"]


def test_a_thousand_corrections_in_any_order_end_in_the_metrics_of_the_labels_that_hold() -> None:
    """Exactly: loss, accuracy and coverage are those of a run that was told only the newest label of each id."""
    draw = random.Random(5)  # noqa: S311 - the same corrections each time
    stream, names = correctable(), [f"e{n}" for n in range(100)]
    rows = [scored(0, ids=[name], first=n, served=draw.random()) for n, name in enumerate(names)]
    minutes = draw.sample(range(1, 30_000), 1100)  # thousandths
    told = [(names[n % 100], minute / 1000, draw.random() < 0.5) for n, minute in enumerate(minutes)]
    newest = {name: (minute, late) for name, minute, late in sorted(told, key=lambda one: one[1])}
    plain, corrected = LabelsCore(stream, 3), LabelsCore(stream, 3)
    plain.fold([*rows, *(label(name, minute, late=late) for name, (minute, late) in newest.items())])
    labels = [label(name, minute, late=late, offset=n) for n, (name, minute, late) in enumerate(told)]
    corrected.fold([*rows[:50], *labels[:700], *rows[50:], *labels[700:]])
    assert corrected.totals["corrected"] > 100
    assert sum(corrected.totals.values()) == 1100
    assert corrected.quality.state() == plain.quality.state()
    assert corrected.quality.log_loss == plain.quality.log_loss


def test_a_label_without_a_row_says_nothing() -> None:
    """An unknown id makes no example, and its label is let go once the rows are a horizon past it."""
    core = LabelsCore(STREAM, 3)
    assert core.fold([label("nobody", 0)]) == []
    assert core.fold([scored(HORIZON)]) == []
    assert [held.id for held in state(core).labels] == ["nobody"]
    core.fold([scored(HORIZON + 1, ids="b", first=101)])
    assert state(core).labels == []


def test_a_row_that_has_its_label_is_forgotten() -> None:
    """What is decided is not held: a row's vector leaves the state with it."""
    core = LabelsCore(STREAM, 3)
    core.fold([scored(0, 1)])
    assert VECTORS[1].tobytes() in core.snapshot()
    core.fold([label("b", 2)])
    assert VECTORS[1].tobytes() not in core.snapshot()
    assert VECTORS[0].tobytes() in core.snapshot()


def test_a_snapshot_carries_what_waits() -> None:
    """A core that takes over meets the rows, the labels and the clocks of the one before it."""
    core, heir = LabelsCore(STREAM, 3), LabelsCore(STREAM, 3)
    core.fold([scored(0), label("b", 25)])
    heir.restore(core.snapshot())
    assert heir.snapshot() == core.snapshot()
    rest = [
        scored(25, ids="b", offset=1, first=101),
        label("a", 20, offset=1),
        label("z", 31, offset=2),
        label("a", 21, offset=3),
    ]
    assert heir.fold(rest) == core.fold(rest) != []
    assert heir.snapshot() == core.snapshot()


GOOD = {"id": "a", "key": "k", "at": "2013-01-05T12:05:00Z", "late": True}
REFUSED: dict[str, tuple[str, bytes | None, bytes]] = {
    "a wrong key": ("key", b"m", json.dumps(GOOD).encode()),
    "no key": ("key", None, json.dumps(GOOD).encode()),
    "cut off": ("json", b"k", b'{"id": "a"'),
    "no truth": ("schema", b"k", json.dumps(GOOD | {"late": "yes"}).encode()),
    "no time": ("schema", b"k", json.dumps(GOOD | {"at": "yesterday"}).encode()),
    "no id": ("schema", b"k", b'{"key": "k", "at": "2013-01-05T12:05:00Z", "late": true}'),
}


@pytest.mark.parametrize(("reason", "key", "value"), REFUSED.values(), ids=REFUSED)
def test_a_bad_label_costs_nobody_but_itself(reason: str, key: bytes | None, value: bytes) -> None:
    """It goes to `dead-letter` as it came; the labels around it count, and it moves no clock."""
    core, other = LabelsCore(STREAM, 3), LabelsCore(STREAM, 3)
    good = [scored(0, 1), label("b", 5, offset=4), label("a", 6, late=False, offset=6)]
    bad = Record("made.labels", 3, 5, key, value)
    dead, *others = core.fold([*good[:2], bad, good[2]])
    letter = json.loads(dead.value)
    assert dead.topic == "made.dead-letter"
    assert letter.pop("message")
    assert letter == {
        "service": "labels",
        "reason": reason,
        "topic": "made.labels",
        "partition": 3,
        "offset": 5,
        "key": None if key is None else base64.b64encode(key).decode(),
        "value": base64.b64encode(value).decode(),
    }
    assert others == other.fold(good)
    assert [row["event_id"] for row in examples(others)] == ["b", "a"]
    assert core.snapshot() == other.snapshot()


def test_rows_of_another_kind_stop_the_service() -> None:
    """A batch that was written for another schema can't be trusted: Stop, and it names the place."""
    record = scored(0)
    other = Record(record.topic, 3, 41, None, record.value, headers=features_frame(STREAM).headers)
    with pytest.raises(Stop, match=r"made\.scored\[3\]@41"):
        LabelsCore(STREAM, 3).fold([other])
