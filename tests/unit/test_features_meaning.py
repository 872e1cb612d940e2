"""What each feature means: the engine against a naive reading of its definition, and against numbers made by hand."""

import datetime as dt
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from services.features.core import FeaturesCore
from services.runtime.frames import rows
from services.runtime.grammar import (
    Count,
    Duration,
    Ewma,
    Hour,
    Lag,
    Max,
    Mean,
    Min,
    OneHot,
    Operator,
    Rate,
    SinceLast,
    Std,
    Sum,
    Value,
    Weekday,
    Windowed,
)
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream
from tests.made import NOON, OPERATORS, PAST, event, log, made, only

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
PANES = 12
SECOND = 1_000_000
LARGEST = float(np.finfo(np.float32).max)


def vectors(stream: Stream, events: Sequence[dict[str, Any]]) -> NDArray[np.float32]:
    """Fold the events in one batch; return their vectors."""
    [out] = only(FeaturesCore(stream, 0).fold(log(events)), "features")
    batch = features_frame(stream).decode(Record(out.topic, 0, 0, None, out.value, headers=out.headers))
    return np.asarray(rows(batch.column("features")), np.float32)


def column(operator: Operator, events: Sequence[dict[str, Any]], lateness: str = "10m") -> list[float]:
    """Return what a feature of one column says of each event."""
    return vectors(made({"f": operator}, lateness), events)[:, 0].tolist()


# The oracle: lists of past events


class Seen(NamedTuple):
    """An event as the oracle keeps it; `time` in microseconds since 1970."""

    time: int
    fields: dict[str, Any]
    late: bool


def read(events: Sequence[dict[str, Any]], lateness: int) -> list[Seen]:
    """Say of each event whether it is more than `lateness` behind the newest before it."""
    seen: list[Seen] = []
    for e in events:
        time = (dt.datetime.fromisoformat(e["at"]) - EPOCH) // dt.timedelta(microseconds=1)
        late = bool(seen) and time < max(s.time for s in seen) - lateness
        seen.append(Seen(time, e, late))
    return seen


def oracle(operator: Operator, seen: Sequence[Seen]) -> list[list[float]]:
    """Return what a feature says of each event, from its definition alone; NaN for "nothing to say"."""
    match operator:
        case Value(of=of):
            return [[_number(now, of)] for now in seen]
        case OneHot():
            return [_hot(operator, now.fields.get(operator.of)) for now in seen]
        case Hour():
            return [_circle(_instant(now) - _midnight(now), dt.timedelta(days=1)) for now in seen]
        case Weekday():
            return [_circle(_instant(now) - _monday(now), dt.timedelta(days=7)) for now in seen]
    past: dict[Any, list[Seen]] = {}
    said = []
    for now in seen:
        group = past.setdefault(tuple(now.fields.get(field) for field in operator.by or ["key"]), [])
        said.append([_of_the_past(operator, now, group)])
        if not now.late:
            group.append(now)
    return said


def _hot(operator: OneHot, found: str | None) -> list[float]:
    hot = [float(found == value) for value in operator.values]
    return hot + ([float(found not in operator.values)] if operator.other else [])


def _of_the_past(operator: Any, now: Seen, past: Sequence[Seen]) -> float:
    match operator:
        case Lag(of=of, n=n):
            return _number(past[-n], of) if len(past) >= n else math.nan
        case SinceLast():
            return max(now.time - max(s.time for s in past), 0) / SECOND if past else math.nan
        case Ewma(of=of, half_life=half):
            return _ewma([(s.time, _number(s, of)) for s in past if not math.isnan(_number(s, of))], half.us)
    pane = operator.window.us // PANES
    window = [s for s in past if now.time // pane - PANES < s.time // pane <= now.time // pane]
    if isinstance(operator, Count):
        return float(len(window))
    if isinstance(operator, Rate):
        return len(window) / (operator.window.us / SECOND)
    numbers = [_number(s, operator.of) for s in window if not math.isnan(_number(s, operator.of))]
    return _SUMMARIES[type(operator)](numbers) if numbers else math.nan


def _std(numbers: list[float]) -> float:
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / len(numbers))


_SUMMARIES: dict[type, Callable[[list[float]], float]] = {
    Sum: math.fsum,
    Mean: lambda numbers: math.fsum(numbers) / len(numbers),
    Std: _std,
    Min: min,
    Max: max,
}


def _ewma(past: Sequence[tuple[int, float]], half_life: int) -> float:
    """Weigh each number by its age; one that comes out of order is as old as the newest before it."""
    if not past:
        return math.nan
    times = [max(time for time, _ in past[: n + 1]) for n in range(len(past))]
    weights = [2.0 ** ((time - times[-1]) / half_life) for time in times]
    return math.fsum(w * x for w, (_, x) in zip(weights, past, strict=True)) / math.fsum(weights)


def _number(seen: Seen, field: str) -> float:
    value = seen.fields.get(field)
    return math.nan if value is None else float(value)


def _instant(seen: Seen) -> dt.datetime:
    return EPOCH + dt.timedelta(microseconds=seen.time)


def _midnight(seen: Seen) -> dt.datetime:
    return _instant(seen).replace(hour=0, minute=0, second=0, microsecond=0)


def _circle(part: dt.timedelta, whole: dt.timedelta) -> list[float]:
    angle = 2 * math.pi * (part / whole)
    return [math.sin(angle), math.cos(angle)]


def _monday(seen: Seen) -> dt.datetime:
    return _midnight(seen) - dt.timedelta(days=_instant(seen).weekday())


def promised(operator: Operator, seen: Sequence[Seen], lateness: int) -> NDArray[np.bool_]:
    """Say which events' answers are defined: a window is kept for as long as an event may join it, and no longer."""
    if not isinstance(operator, Windowed):
        return np.ones(len(seen), np.bool_)
    pane = operator.window.us // PANES
    newest = np.maximum.accumulate([s.time for s in seen]) // pane
    return np.array([s.time for s in seen]) // pane >= newest - math.ceil(lateness / pane)


def wander(seed: int, start: float, events: int = 150) -> list[dict[str, Any]]:
    """Return events of a few keys whose times mostly go on, sometimes stand, step back, or leap."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([0, 0.25, 1, 7, 60, 300, 4000, -3, -90, -500, -4000], events, p=[0.1] * 8 + [0.1, 0.05, 0.05])
    numbers = np.round(rng.normal(20, 50, events), 3).tolist()
    return [
        event(
            at,
            None if rng.random() < 0.15 else number,
            key=str(rng.choice(["k", "k", "m", "n"])),
            kind=(None, "a", "b", "c")[rng.integers(4)],
            flag=(None, True, False)[rng.integers(3)],
        )
        for at, number in zip((start + np.cumsum(steps)).tolist(), numbers, strict=True)
    ]


STARTS = {"2013": 0.0, "before 1970": -1.5e9, "across 1970": -(NOON - EPOCH).total_seconds() - 3000}


@pytest.mark.parametrize("lateness", ["30s", "10m", "3h"])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_feature_says_what_its_definition_says(seed: int, start: float, lateness: str) -> None:
    """Each operator, grouping and window agrees with a naive reading of it over lists of past events, to 1e-6."""
    stream = made({f"f{n}": operator for n, operator in enumerate(OPERATORS)}, lateness)
    events = wander(seed, start)
    seen = read(events, Duration(lateness).us)
    assert any(s.late for s in seen) or lateness == "3h", "no event is late, so the test says nothing of late ones"
    found, at = vectors(stream, events), 0
    for operator in OPERATORS:
        said = np.array(oracle(operator, seen))
        expected = np.where(np.isnan(said), operator.default, said)
        rows = promised(operator, seen, Duration(lateness).us)
        mine = found[:, at : (at := at + expected.shape[1])]
        np.testing.assert_allclose(mine[rows], expected[rows], rtol=1e-6, atol=1e-9, err_msg=str(operator))


# By hand


def test_a_window_has_twelve_panes() -> None:
    """A window of 12 minutes is the minute of the event and the 11 before it: 0:00 is seen until 0:11:59.999999."""
    count = Count(window=Duration("12m"))
    assert column(count, [event(0), event(719.999999)]) == [0, 1]
    assert column(count, [event(0), event(720)]) == [0, 0]
    assert column(count, [event(59.999999), event(719.999999)]) == [0, 1]
    assert column(count, [event(59.999999), event(720)]) == [0, 0]


def test_mean_and_its_like() -> None:
    """Over the events before: 2, 4, 4, 4, 5, 5, 7, 9 have mean 5, deviation 2, sum 40, extremes 2 and 9."""
    events = [event(n, x) for n, x in enumerate([2, 4, 4, 4, 5, 5, 7, 9, 1000])]
    hour = Duration("1h")
    for kind, last in {Mean: 5, Std: 2, Sum: 40, Min: 2, Max: 9}.items():
        assert column(kind(of="x", window=hour), events)[-1] == last, kind
    assert column(Mean(of="x", window=hour), events)[:4] == pytest.approx([0, 2, 3, 10 / 3])
    assert column(Count(window=hour), events)[-1] == 8
    assert column(Rate(window=hour), events)[-1] == pytest.approx(8 / 3600)


def test_the_deviation_of_a_window_is_that_of_all_its_panes() -> None:
    """Panes that are merged give the deviation of their numbers together: 1, 1 | 5, 5 | 9, 9 have sqrt(32 / 3)."""
    events = [event(at, x) for at, x in [(0, 1), (1, 1), (60, 5), (61, 5), (120, 9), (121, 9), (180, 0)]]
    found = column(Std(of="x", window=Duration("12m")), events)
    assert found == pytest.approx([0, 0, 0, math.sqrt(32 / 9), 2, math.sqrt(8.96), math.sqrt(32 / 3)])


def test_the_deviation_of_large_numbers_close_together() -> None:
    """A deviation does not drown in the size of its numbers: 1e9 and 1e9 + 2 deviate by 1, in one pane or in two."""
    std = Std(of="x", window=Duration("12m"))
    for gap in (1, 60):
        assert column(std, [event(0, 1e9), event(gap, 1e9 + 2), event(gap)])[-1] == pytest.approx(1, rel=1e-6)


def test_the_deviation_of_equal_numbers_is_none() -> None:
    """Equal numbers deviate by nothing, or by what a float can't tell from it; the default is not meant."""
    found = column(Std(of="x", window=Duration("1h"), default=5.0), [event(n * 10, 0.1) for n in range(60)])
    assert found[0] == 5
    assert found[1:] == pytest.approx([0] * 59, abs=1e-12)


def test_ewma() -> None:
    """A weight halves with each half life between the numbers: 10 and an hour later 20 give (5 + 20) / 1.5."""
    ewma = Ewma(of="x", half_life=Duration("1h"), default=-1.0)
    events = [event(0, 10), event(3600, 20), event(3600, None), event(7200, 40), event(9e5, 0)]
    second = (10 * 0.5 + 20) / 1.5
    third = (10 * 0.25 + 20 * 0.5 + 40) / 1.75
    assert column(ewma, events) == pytest.approx([-1, 10, second, second, third], rel=1e-6)


def test_ewma_out_of_order() -> None:
    """A number that comes out of order weighs as one of now."""
    events = [event(600, 10), event(300, 20), event(600, 0)]
    assert column(Ewma(of="x", half_life=Duration("5m")), events)[-1] == 15


def test_lag_counts_events_not_numbers() -> None:
    """`n = 2` is the number of the event before the last, missing if that event had none."""
    events = [event(n, x) for n, x in enumerate([1, 2, None, 4, 5])]
    assert column(Lag(of="x", n=2, default=-1.0), events) == [-1, -1, 1, 2, -1]
    assert column(Lag(of="x", default=-1.0), events) == [-1, 1, 2, -1, 4]


def test_since_last() -> None:
    """Seconds since the group's newest event, 0 for one that comes out of order."""
    events = [event(0), event(90), event(60), event(91.5), event(91.5, key="other"), event(100, key="other")]
    assert column(SinceLast(default=-1.0), events) == [-1, 90, 0, 1.5, -1, 8.5]


def test_one_hot() -> None:
    """A column per value; what is none of them, null included, is in `other`, or nowhere."""
    events = [event(0, kind=kind) for kind in ("a", "b", "z", None)]
    named = vectors(made({"f": OneHot(of="kind", values=["b", "a"])}), events)
    assert named.tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]
    other = made({"f": OneHot(of="kind", values=["b", "a"], other=True)})
    assert other.columns == ("f=b", "f=a", "f=other")
    assert vectors(other, events).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    ("at", "hour", "weekday"),
    [
        ("2013-01-07T00:00:00Z", 0, 0),  # a Monday
        ("2013-01-07T06:00:00Z", 6, 6),
        ("2013-01-10T12:00:00Z", 12, 84),
        ("2013-01-13T18:00:00Z", 18, 162),
        ("2013-01-07T01:30:00+01:30", 0, 0),
        ("1970-01-01T00:00:00Z", 0, 72),
        ("1969-12-29T06:00:00Z", 6, 6),
        ("1969-12-28T23:00:00Z", 23, 167),
        ("1900-01-01T00:00:00Z", 0, 0),
    ],
)
def test_hour_and_weekday(at: str, hour: int, weekday: int) -> None:
    """The hour of the day in UTC, and the hour of the week from Monday on, as points of a circle."""
    [found] = vectors(made({"h": Hour(), "w": Weekday()}), [event(0) | {"at": at}])
    day, week = 2 * math.pi * hour / 24, 2 * math.pi * weekday / 168
    assert found == pytest.approx([math.sin(day), math.cos(day), math.sin(week), math.cos(week)], abs=1e-7)


def test_value_and_default() -> None:
    """The event's own number, true as 1; the default where it is null or absent."""
    events = [event(0, 2.5, flag=True), event(0, -0.25, flag=False), event(0, None, flag=None), event(0)]
    stream = made({"x": Value(of="x", default=7.0), "flag": Value(of="flag", default=-1.0)})
    assert vectors(stream, events).tolist() == [[2.5, 1], [-0.25, 0], [7, -1], [7, -1]]


def test_no_past_no_number_is_the_default() -> None:
    """What summarises numbers says its default where there are none, in the window or at all; what counts says 0."""
    events = [event(0, None), event(1, None), event(2, 3), event(3, None), event(9e5, None)]
    for kind in (Sum, Mean, Std, Min, Max):
        found = column(kind(of="x", window=Duration("1h"), default=8.0), events)
        assert found == [8, 8, 8, 0 if kind is Std else 3, 8], kind
    assert column(Count(window=Duration("1h"), default=8.0), events) == [0, 1, 2, 3, 0]


def test_a_group_has_its_own_past() -> None:
    """Null is a group like any other, and a group is the whole of its fields."""
    events = [event(n, key=key, kind=kind) for n, (key, kind) in enumerate([*["ka", "kb", "k-", "ma", "m-"] * 2, "kz"])]
    for e in events:
        e["kind"] = None if e["kind"] == "-" else e["kind"]
    found = column(Count(window=Duration("1h"), by=["key", "kind"]), events)
    assert found == [0] * 5 + [1] * 5 + [0]
    assert column(Count(window=Duration("1h")), events) == [0, 1, 2, 0, 1, 3, 4, 5, 2, 3, 6]


def test_huge_numbers_stay_finite() -> None:
    """What float32 can't hold is its largest number, never infinite."""
    features: dict[str, Operator] = {"own": Value(of="x"), "lag": Lag(of="x")}
    features |= {kind.__name__: kind(of="x", window=Duration("1h")) for kind in (Sum, Mean, Std, Min, Max)}
    features |= {"ewma": Ewma(of="x", half_life=Duration("1h"))}
    found = vectors(made(features), [event(0, 1e300), event(1, 1e300), event(2, -1.7e308), event(70, -1.7e308)])
    assert np.isfinite(found).all()
    assert found[0, 0] == LARGEST
    assert found[3, :2].tolist() == [-LARGEST, -LARGEST]
    assert found[2, 2:4].tolist() == [LARGEST, LARGEST]


def test_an_ewma_outlives_huge_numbers() -> None:
    """Numbers larger than a vector can hold are cut to its largest, so that they are forgotten as all others are."""
    events = [event(0, 1.7e308), event(1, 1.7e308), event(864_000, 1), event(1_728_000, 1)]
    assert column(Ewma(of="x", half_life=Duration("1m")), events)[-1] == pytest.approx(1)


# What an event may see


@pytest.mark.parametrize("at", [0, 1, 40, 89])
def test_no_feature_sees_its_own_event_or_a_later_one(at: int) -> None:
    """Another number or kind in one event changes what later ones read of the past, and nothing before or at it."""
    stream = made({name: operator for name, operator in PAST.items() if operator.by is None})
    events = wander(3, 0, events=90)
    changed = [*events[:at], events[at] | {"x": 12345.0, "flag": None}, *events[at + 1 :]]
    was, is_now = vectors(stream, events), vectors(stream, changed)
    assert was[: at + 1].tobytes() == is_now[: at + 1].tobytes()
    assert at == 89 or (was[at + 1 :] != is_now[at + 1 :]).any()


def test_a_later_event_changes_nothing_before_it() -> None:
    """What follows in the log is unknown: a log's vectors are the first ones of every longer log."""
    stream, events = made(PAST), wander(4, 0)
    whole = vectors(stream, events)
    for n in (1, 50, 149):
        assert vectors(stream, events[:n]).tobytes() == whole[:n].tobytes()


def test_before_means_earlier_in_the_log() -> None:
    """An event that comes out of order reads what stands before it in the log, in the windows of its own time."""
    events = [event(100, 1), event(40, 2), event(100, 3)]
    assert column(Lag(of="x"), events) == [0, 1, 2]
    assert column(Sum(of="x", window=Duration("12m")), events) == [0, 0, 3]


def test_out_of_order_within_lateness_counts_in_its_own_pane() -> None:
    """An event that is behind, but not too far, is in the windows that its own time is in, and in no other."""
    count = Count(window=Duration("12m"))
    late_by_ten = [event(600), event(0), event(0), event(719), event(720)]
    assert column(count, late_by_ten) == [0, 0, 1, 3, 2]


def test_late_events_read_but_do_not_join() -> None:
    """An event more than `lateness` behind the newest is given features, goes to `late`, and is never seen again."""
    events = [event(0, 1), event(600, 2), event(-0.000001, 4), event(0, 8), event(601, 0)]
    features: dict[str, Operator] = {
        "sum": Sum(of="x", window=Duration("1h")),
        "lag": Lag(of="x"),
        "since": SinceLast(),
        "ewma": Ewma(of="x", half_life=Duration("1000w")),
        "own": Value(of="x"),
    }
    stream = made(features, "10m")
    found = vectors(stream, events)
    assert found[:, 0].tolist() == [0, 1, 0, 1, 11]
    assert found[:, 1].tolist() == [0, 1, 2, 2, 8]
    assert found[:, 2].tolist() == [0, 600, 0, 0, 1]
    assert found[2:, 3] == pytest.approx([1.5, 1.5, 11 / 3], rel=1e-4)
    assert found[:, 4].tolist() == [1, 2, 4, 8, 0]
    records = log(events)
    [late] = only(FeaturesCore(stream, 0).fold(records), "late")
    assert late == Outgoing("made.late", records[2].value, b"k", 0, [("thalweg-source", b"0/2")])


def test_lateness_is_measured_over_all_keys() -> None:
    """The newest event of any key, a late one's own included, says what is late."""
    events = [event(0, key="a"), event(601, key="b"), event(0, key="a"), event(1, key="a"), event(1, key="c")]
    assert column(Count(window=Duration("1h")), events) == [0, 0, 1, 1, 0]
    late = only(FeaturesCore(made({"f": Hour()}), 3).fold(log(events)), "late")
    assert [json.loads(out.value)["id"] for out in late] == ["2:a0"]
