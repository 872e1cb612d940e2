"""A made-up stream of few fields, for tests of what its features say: its definition, its events, its log."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

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
from services.runtime.stream import Stream

EVENT = {
    "required": ["id", "key", "at"],
    "properties": {
        "id": {"type": "string"},
        "key": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "x": {"type": ["number", "null"]},
        "flag": {"type": ["boolean", "null"]},
        "kind": {"type": ["string", "null"]},
    },
}
NOON = dt.datetime(2013, 1, 5, 12, tzinfo=dt.UTC)  # a Saturday


def made(features: dict[str, Operator], lateness: str = "10m", groups: int = 1_000_000) -> Stream:
    """Return a stream of these features."""
    pipeline = Pipeline(
        StreamRule("binary", "key", "at", "id", Duration(lateness), groups=groups),
        features,
        LabelRule("late", "at", Duration("1h")),
        OnlineRule(["linear_model.LogisticRegression"]),
    )
    columns = [column for name, operator in features.items() for column in operator.columns(name)]
    return Stream("made", EVENT, {"properties": {}}, pipeline, tuple(columns), "made:0")


def event(seconds: float, x: float | None = None, key: str = "k", **others: Any) -> dict[str, Any]:
    """Return an event that many seconds after noon."""
    at = (NOON + dt.timedelta(seconds=seconds)).isoformat()
    return {"id": f"{key}{seconds}", "key": key, "at": at, "x": x} | others


def log(events: Sequence[dict[str, Any]]) -> list[Record]:
    """Return events as records, each with an id of its own."""
    named = [e | {"id": f"{n}:{e['id']}"} for n, e in enumerate(events)]
    return [Record("made.events", 0, n, e["key"].encode(), json.dumps(e).encode()) for n, e in enumerate(named)]


def only(outgoing: Sequence[Outgoing], topic: str) -> list[Outgoing]:
    return [out for out in outgoing if out.topic == f"made.{topic}"]


BYS: tuple[list[str] | None, ...] = (None, ["key", "kind"], ["kind", "flag", "key"])
OPERATORS: list[Operator] = [
    Value(of="x", default=-7.0),
    Value(of="flag"),
    OneHot(of="kind", values=["b", "a"]),
    OneHot(of="kind", values=["a"], other=True),
    Hour(),
    Weekday(),
    Mean(of="flag", window=Duration("1h"), default=0.5),
    Std(of="flag", window=Duration("1h")),
    *(Lag(of="x", n=n, by=by, default=0.5) for n in (1, 2, 5) for by in BYS),
    *(SinceLast(by=by, default=-1.0) for by in BYS),
    *(Ewma(of="x", half_life=Duration(half_life), by=by, default=3.0) for half_life in ("5m", "3h") for by in BYS),
    *(kind(window=Duration(window), by=by) for kind in (Count, Rate) for window in ("1m", "1h") for by in BYS),
    *(
        kind(of="x", window=Duration(window), by=by, default=9.0)
        for kind in (Sum, Mean, Std, Min, Max)
        for window in ("1m", "1h", "1d")
        for by in BYS
    ),
]
PAST: dict[str, Operator] = {
    f"f{n}": operator
    for n, operator in enumerate(OPERATORS)
    if not isinstance(operator, Value | OneHot | Hour | Weekday)
}
