"""The flights stream's data: complete, in order, and with every clock read in the right zone."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.sources import load_source

FOLDER = Path(__file__).parents[2] / "schemas" / "flights"
TYPES: dict[str, Any] = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "null": type(None)}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def source() -> ModuleType:
    return load_source(FOLDER)


@pytest.fixture(scope="module")
def year(source: ModuleType) -> list[tuple[float, str, str]]:
    """`(time, kind, event_id)` of every record: the whole year, without holding its records."""
    return [(time, kind, record["event_id"]) for time, kind, record in source.records()]


@pytest.fixture(scope="module")
def january(source: ModuleType) -> list[tuple[float, str, Any]]:
    return list(source.records(10_000))


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    return {kind: json.loads((FOLDER / f"{kind}.json").read_text()) for kind in ("event", "label")}


@pytest.fixture(scope="module")
def departures(source: ModuleType) -> Any:
    """Return what events are made of, and beside it the package's own reading of the scheduled hour."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(source.TYPES, "time_hour", pa.string())
        return source._departures(source._flights())


def test_counts(year: list[tuple[float, str, str]]) -> None:
    """328,521 flights left in 2013; all but 1,175 of them (diverted) get a label."""
    kinds = [kind for _, kind, _ in year]
    assert kinds.count("event") == 328_521
    assert kinds.count("label") == 328_521 - 1_175


def test_order(year: list[tuple[float, str, str]]) -> None:
    """Time never goes back; on a tie events precede labels, and ids ascend: no two records share a place."""
    assert all(earlier < later for earlier, later in pairwise(year))


def test_ids(year: list[tuple[float, str, str]]) -> None:
    """An id names one departure, and has at most one label, which comes after it."""
    seen: dict[str, list[str]] = {}
    for _, kind, event_id in year:
        seen.setdefault(event_id, []).append(kind)
    assert {tuple(kinds) for kinds in seen.values()} == {("event",), ("event", "label")}


def test_taxiing_says_that_zones_are_right(source: ModuleType, departures: Any) -> None:
    """What departure and flight time leave of the way to a landing is taxiing, at any airport and in any month."""
    landings = source._landings(departures, source._zones())
    taxi = landings["landed"] - landings["departed"] - landings["air_time"]
    assert taxi.min() >= 5
    assert taxi.max() < 240
    assert 25 <= np.median(taxi) <= 30
    _, airport = np.unique(landings["dest"].astype(str), return_inverse=True)
    place = airport * 12 + landings["month"]
    _, starts = np.unique(np.sort(place), return_index=True)
    usual = [np.median(times) for times in np.split(taxi[np.argsort(place)], starts[1:])]
    assert len(usual) == 1112
    assert 15 <= min(usual) <= max(usual) < 60


def test_scheduled_hour_is_the_publisher_s(departures: Any) -> None:
    """Our reading of New York's clocks is the package's own, on the days that they change too."""
    hours = np.array([text.removesuffix("Z") for text in departures["time_hour"]], "M8[h]")
    assert np.array_equal(departures["scheduled"].astype("M8[m]").astype("M8[h]"), hours)


@pytest.mark.parametrize(
    ("zone", "start", "clock", "expected"),
    [
        ("America/New_York", "2013-03-10T05:00", "01:59", "2013-03-10T06:59"),
        ("America/New_York", "2013-03-10T05:00", "03:00", "2013-03-10T07:00"),
        ("America/New_York", "2013-03-10T06:27", "02:03", "2013-03-10T07:03"),
        ("America/New_York", "2013-03-10T05:00", "23:59", "2013-03-11T03:59"),
        ("America/New_York", "2013-11-03T04:00", "01:30", "2013-11-03T05:30"),
        ("America/New_York", "2013-11-03T05:45", "01:30", "2013-11-03T06:30"),
        ("America/New_York", "2013-11-03T04:00", "02:30", "2013-11-03T07:30"),
        ("America/New_York", "2013-11-03T04:00", "23:59", "2013-11-04T04:59"),
        ("America/Phoenix", "2013-07-01T05:00", "00:00", "2013-07-01T07:00"),
        ("America/Phoenix", "2013-07-01T07:00", "24:00", "2013-07-01T07:00"),
        ("America/Puerto_Rico", "2013-07-01T04:01", "00:00", "2013-07-02T04:00"),
    ],
)
def test_next(source: ModuleType, zone: str, start: str, clock: str, expected: str) -> None:
    """A reading is its next showing: the first of two in autumn, old time where skipped in spring, none for Arizona."""
    hours, minutes = map(int, clock.split(":"))
    found = source._next(zone, np.array([start], "M8[m]").astype(np.int64), np.array([hours * 60 + minutes]))
    assert found.astype("M8[m]").astype(str).tolist() == [expected]


def test_first_flight(january: list[tuple[float, str, Any]]) -> None:
    """UA 1545 to Houston opens the year: due at 5:15, off 2 minutes late, in at 8:30 local time, 11 minutes late."""
    story = [place for place in january if place[2]["event_id"] == "2013-01-01-UA-1545-EWR"]
    event = {
        "event_id": "2013-01-01-UA-1545-EWR",
        "origin": "EWR",
        "dest": "IAH",
        "carrier": "UA",
        "flight": 1545,
        "tailnum": "N14228",
        "scheduled_at": "2013-01-01T10:15:00Z",
        "departed_at": "2013-01-01T10:17:00Z",
        "departure_delay_min": 2,
        "distance_mi": 1400,
    }
    label = {
        "event_id": "2013-01-01-UA-1545-EWR",
        "origin": "EWR",
        "landed_at": "2013-01-01T14:30:00Z",
        "arrival_delay_min": 11,
        "late": False,
    }
    departed, landed = (datetime(2013, 1, 1, *clock, tzinfo=UTC).timestamp() for clock in ((10, 17), (14, 30)))
    assert january[0] == story[0]
    assert story == [(departed, "event", event), (landed, "label", label)]


def test_late(january: list[tuple[float, str, Any]]) -> None:
    """Late is more than 15 minutes behind schedule: 15 is not, 16 is."""
    labels = [record for _, kind, record in january if kind == "label"]
    assert {15, 16} <= {label["arrival_delay_min"] for label in labels}
    assert all(label["late"] == (label["arrival_delay_min"] > 15) for label in labels)


def test_a_prefix_is_closed(january: list[tuple[float, str, Any]], year: list[tuple[float, str, str]]) -> None:
    """The first N departures are the year's first N, with every label of theirs and no other, past the last of them."""
    events = [event_id for _, kind, event_id in year if kind == "event"][:10_000]
    kept = set(events)
    assert [(time, kind, record["event_id"]) for time, kind, record in january] == [
        place for place in year if place[2] in kept
    ]
    assert january[-1][1] == "label"


def test_records_fit_their_schemas(january: list[tuple[float, str, Any]], schemas: dict[str, Any]) -> None:
    """Every record is what its schema says, and its time is that of its own instant."""
    moments = {"event": "departed_at", "label": "landed_at"}
    for time, kind, record in january:
        assert list(faults(record, schemas[kind])) == []
        assert time == datetime.fromisoformat(record[moments[kind]]).timestamp()


def test_a_misfit_is_noticed(january: list[tuple[float, str, Any]], schemas: dict[str, Any]) -> None:
    """The check above can fail: on a missing, a foreign, a mistyped and a malformed field."""
    event = january[0][2]
    for change in ({"more": 1}, {"flight": "1545"}, {"flight": 0}, {"origin": "EWRX"}, {"departed_at": "10:17"}):
        assert list(faults(event | change, schemas["event"]))
    assert list(faults({"event_id": event["event_id"]}, schemas["event"]))


def faults(record: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """Fields that break the schema, over the keywords that our schemas use."""
    yield from set(schema["required"]) - set(record)
    yield from (name for name, value in record.items() if not fits(value, schema["properties"].get(name)))


def fits(value: object, rule: dict[str, Any] | None) -> bool:
    if rule is None:
        return False
    names = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    typed = any(isinstance(value, TYPES[name]) for name in names) and isinstance(value, bool) == ("boolean" in names)
    return typed and (within(value, rule) if not isinstance(value, str) else spelled(value, rule))


def within(value: Any, rule: dict[str, Any]) -> bool:
    return value is None or rule.get("minimum", value) <= value <= rule.get("maximum", value)


def spelled(value: str, rule: dict[str, Any]) -> bool:
    length = rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", len(value))
    shape = INSTANT.fullmatch(value) if rule.get("format") == "date-time" else re.search(rule.get("pattern", ""), value)
    return length and shape is not None
