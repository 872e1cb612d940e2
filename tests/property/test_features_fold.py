"""The fold law of features: how a log is cut into batches, and where it is snapshot and restored, leaves no trace."""

import datetime as dt
import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.replayer import records
from services.features import engine
from services.features.core import FeaturesCore
from services.runtime.frames import micros, rows
from services.runtime.grammar import (
    Count,
    Duration,
    Ewma,
    Hour,
    LabelRule,
    Lag,
    Max,
    Mean,
    Min,
    OneHot,
    OnlineRule,
    Operator,
    Pipeline,
    Rate,
    SinceLast,
    Std,
    StreamRule,
    Sum,
    Value,
    Weekday,
)
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream, load_stream

SCHEMAS = Path(__file__).parents[2] / "schemas"
EVENTS = 3000
EVENT = {
    "required": ["id", "key", "at"],
    "properties": {
        "id": {"type": "string"},
        "key": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "x": {"type": ["number", "null"]},
        "y": {"type": ["number", "null"]},
        "flag": {"type": ["boolean", "null"]},
        "number": {"type": ["integer", "null"], "minimum": -9, "maximum": 9},
        "kind": {"type": ["string", "null"]},
    },
}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Folded(NamedTuple):
    """All that a log gave: per column of `features` the bytes of all rows, the other topics, and the last state."""

    columns: dict[str, bytes]
    late: list[Outgoing]
    dead: list[Outgoing]
    state: bytes


def fold(stream: Stream, log: list[Record], cuts: list[int], handovers: set[int] | None = None) -> Folded:
    """Fold the log in batches that end at `cuts`; at each of `handovers` a fresh core takes over from a snapshot."""
    core, out = FeaturesCore(stream, 0), list[Outgoing]()
    for start, end in pairwise([0, *sorted(cuts), len(log)]):
        if start in (handovers or ()):
            heir = FeaturesCore(stream, 0)
            heir.restore(core.snapshot())
            core = heir
        out += core.fold(log[start:end])
    late, dead = ([o for o in out if o.topic == stream.topic(kind)] for kind in ("late", "dead-letter"))
    features = [o for o in out if o.topic == stream.topic("features")]
    assert len(late) + len(dead) + len(features) == len(out)
    return Folded(_columns(stream, features), late, dead, core.snapshot())


def _columns(stream: Stream, outgoing: list[Outgoing]) -> dict[str, bytes]:
    frame = features_frame(stream)
    batches = [frame.decode(Record(out.topic, 0, 0, out.key, out.value, headers=out.headers)) for out in outgoing]
    return {
        "event_id": "\n".join(name for batch in batches for name in batch.column("event_id").to_pylist()).encode(),
        "key": "\n".join(name for batch in batches for name in batch.column("key").to_pylist()).encode(),
        "event_time": b"".join(micros(batch.column("event_time")).tobytes() for batch in batches),
        "offset": b"".join(batch.column("offset").to_numpy().tobytes() for batch in batches),
        "features": b"".join(rows(batch.column("features")).tobytes() for batch in batches),
    }


# Recorded events


@cache
def flights() -> Stream:
    return load_stream(SCHEMAS, "flights")


@cache
def recorded(order: str) -> list[Record]:
    """Return real departures on one partition, in the order of a time field; by schedule many come late."""
    events = [record for _, kind, record in records(SCHEMAS, "flights", EVENTS) if kind == "event"]
    events.sort(key=lambda event: event[order])
    values = [(event["origin"].encode(), json.dumps(event).encode()) for event in events]
    return [Record("flights.events", 0, offset, key, value) for offset, (key, value) in enumerate(values)]


@cache
def at_once(order: str) -> Folded:
    return fold(flights(), recorded(order), [])


@pytest.mark.parametrize("order", ["departed_at", "scheduled_at"])
@given(cuts=st.lists(st.integers(0, EVENTS), max_size=40), restored=st.booleans())
@settings(deadline=None, max_examples=12)
def test_cutting_recorded_events_anywhere_gives_the_same_bytes(order: str, cuts: list[int], *, restored: bool) -> None:
    """Real flights, in order and out of order: any cut, and a restart at each cut, gives the bytes of one batch."""
    assert fold(flights(), recorded(order), cuts, set(cuts) if restored else None) == at_once(order)


@pytest.mark.parametrize("order", ["departed_at", "scheduled_at"])
def test_one_event_at_a_time_gives_the_same_bytes(order: str) -> None:
    """A log read record by record gives the bytes of one batch."""
    assert fold(flights(), recorded(order), list(range(1, EVENTS))) == at_once(order)


def test_the_recorded_events_exercise_the_law() -> None:
    """The recorded logs have what could go wrong: one is in order, the other has late events, and no column is idle."""
    assert at_once("departed_at").late == []
    assert 100 < len(at_once("scheduled_at").late) < EVENTS
    vectors = np.frombuffer(at_once("departed_at").columns["features"], np.float32)
    assert (np.ptp(vectors.reshape(EVENTS, -1), axis=0) > 0).all()


# Generated pipelines and events

BY = st.sampled_from([None, ["key"], ["key", "kind"], ["number", "key"], ["kind", "key", "flag"], ["key", "x"]])
NUMBER = st.sampled_from(["x", "y", "flag", "number"])
WINDOW = st.sampled_from(["2s", "90s", "10m", "1h", "1.5d"]).map(Duration)
DEFAULT = st.sampled_from([0.0, -1.0, 0.1])
VALUES = st.sampled_from([["a"], ["b", "a", "z"]])


def _windowed(kind: type[Operator]) -> st.SearchStrategy[Operator]:
    return st.builds(kind, window=WINDOW, by=BY, default=DEFAULT)


def _windowed_field(kind: type[Operator]) -> st.SearchStrategy[Operator]:
    return st.builds(kind, of=NUMBER, window=WINDOW, by=BY, default=DEFAULT)


OPERATOR = st.one_of(
    st.builds(Value, of=NUMBER, default=DEFAULT),
    st.builds(OneHot, of=st.just("kind"), values=VALUES, other=st.booleans()),
    st.builds(Hour),
    st.builds(Weekday),
    st.builds(Lag, of=NUMBER, n=st.integers(1, 4), by=BY, default=DEFAULT),
    st.builds(SinceLast, by=BY, default=DEFAULT),
    st.builds(Ewma, of=NUMBER, half_life=WINDOW, by=BY, default=DEFAULT),
    *map(_windowed, (Count, Rate)),
    *map(_windowed_field, (Sum, Mean, Std, Min, Max)),
)


def _stream(operators: list[Operator], lateness: str, dedupe: int, groups: int) -> Stream:
    features = {f"f{n}": operator for n, operator in enumerate(operators)}
    pipeline = Pipeline(
        StreamRule("binary", "key", "at", "id", Duration(lateness), dedupe=dedupe, groups=groups),
        features,
        LabelRule("late", "at", Duration("1h")),
        OnlineRule(["linear_model.LogisticRegression"]),
    )
    columns = [column for name, operator in features.items() for column in operator.columns(name)]
    return Stream("made", EVENT, {"properties": {}}, pipeline, tuple(columns), "made:0")


LATENESS, DEDUPE = st.sampled_from(["1s", "45s", "10m"]), st.sampled_from([1, 2, 5, 50])
GROUPS = st.sampled_from([2, 3, 8, 20, 1000])
STREAM = st.builds(_stream, st.lists(OPERATOR, min_size=1, max_size=10), LATENESS, DEDUPE, GROUPS)
X = st.one_of(st.none(), st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False))
STEP = st.one_of(
    st.sampled_from([0, 1, 10**6, -(10**6), 10**8, -(10**8), -(10**9), 10**10]), st.integers(-(10**8), 10**8)
)
RECORD = st.tuples(
    STEP,
    st.sampled_from("aaaabcdefgh"),
    X,
    st.sampled_from([None, 0.1, 0.2, 0.7, -5.5]),
    st.fixed_dictionaries(
        {},
        optional={
            "flag": st.sampled_from([True, False, None]),
            "number": st.sampled_from([0, 1, 2, None]),
            "kind": st.sampled_from(["a", "b", "c", None]),
        },
    ),
    st.sampled_from(["good"] * 12 + ["json", "schema", "key", "no key", "clock", "again", "twice"]),
)


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    time = draw(st.sampled_from([-(10**15), -(10**8), 0, 1_357_000_000_000_000]))
    log = []
    for offset, (step, key, x, y, others, state) in enumerate(draw(st.lists(RECORD, max_size=60))):
        time += step
        at = (EPOCH + dt.timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")
        log.append(_record(offset, {"id": _name(offset, state), "key": key, "at": at, "x": x, "y": y} | others, state))
    return log


def _name(offset: int, state: str) -> str:
    """Return an id of its own, or one that was there a while ago, or just before."""
    return {"again": f"e{offset // 2}", "twice": f"e{offset - 1}"}.get(state, f"e{offset}")


def _record(offset: int, event: dict[str, Any], state: str) -> Record:
    value = json.dumps(event | ({"x": "seven"} if state == "schema" else {})).encode()
    key = {"key": b"elsewhere", "no key": None}.get(state, event["key"].encode())
    written_ms = 1 if state == "clock" else 0  # 1970, which most of the events are far ahead of
    return Record("made.events", 0, offset, key, value[:-1] if state == "json" else value, written_ms)


@given(STREAM, logs(), st.sampled_from([1, 3, 7]), st.data())
@settings(deadline=None, max_examples=200)
def test_cutting_any_log_of_any_pipeline_anywhere_gives_the_same_bytes(
    stream: Stream, log: list[Record], look_every: int, data: st.DataObject
) -> None:
    """Whatever the features and the events, and what is forgotten, any cut and restart gives the bytes of one batch."""
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=12), label="cuts")
    restored = data.draw(st.sets(st.sampled_from(cuts)) if cuts else st.just(set()), label="restored")
    with mock.patch.object(engine, "LOOK_EVERY", look_every):
        assert fold(stream, log, cuts, restored) == fold(stream, log, [])


@given(STREAM, logs())
@settings(deadline=None, max_examples=60)
def test_what_is_refused_leaves_no_trace(stream: Stream, log: list[Record]) -> None:
    """Records that go to `dead-letter` change neither the features of the others nor the state."""
    everything = fold(stream, log, [])
    refused = {out.key for out in everything.dead}
    good = [record for record in log if f"{record.topic}/0/{record.offset}".encode() not in refused]
    assert len(good) == len(log) - len(everything.dead)
    assert fold(stream, good, []) == everything._replace(dead=[])


@given(STREAM, logs())
@settings(deadline=None, max_examples=60)
def test_a_vector_is_finite(stream: Stream, log: list[Record]) -> None:
    """No number of an event, however large, makes a feature infinite or not a number."""
    assert np.isfinite(np.frombuffer(fold(stream, log, []).columns["features"], np.float32)).all()
