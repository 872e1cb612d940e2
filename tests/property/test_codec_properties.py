"""The codec's laws over records that nobody thought of."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.runtime.codec import Decoded, JsonCodec

SCHEMA: dict[str, Any] = {
    "required": ["id", "at"],
    "properties": {
        "id": {"type": "string", "maxLength": 8},
        "at": {"type": "string", "format": "date-time"},
        "until": {"type": ["string", "null"], "format": "date-time"},
        "n": {"type": "integer", "minimum": -9, "maximum": 9},
        "x": {"type": ["number", "null"]},
    },
}
CODEC = JsonCodec("small", SCHEMA)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
TIMES = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.datetimes().map(lambda at: at.isoformat().lower() + "+05:30"),
    st.datetimes().map(lambda at: f"{at.isoformat(timespec='microseconds').lower()}789z"),
    st.datetimes().map(lambda at: at.isoformat()),
    st.sampled_from(["", "2013-01-01", "2013-02-29T00:00:00Z", "2013-01-01T10Z", "2013-01-01T00:00:00+0100"]),
    st.text(max_size=20),
)
GOOD = st.fixed_dictionaries(
    {"id": st.text(max_size=8), "at": st.datetimes().map(lambda at: at.isoformat() + "Z")},
    optional={"n": st.integers(-9, 9), "x": st.none() | st.floats(allow_nan=False, allow_infinity=False)},
)
ODD = st.fixed_dictionaries({"id": st.text(max_size=9), "at": TIMES}, optional={"until": TIMES, "n": JSON, "x": JSON})
WRITTEN = st.one_of(GOOD, GOOD, ODD, JSON).map(lambda value: json.dumps(value).encode())
PREFIXED = st.tuples(st.binary(min_size=4, max_size=4), WRITTEN).map(lambda parts: b"\0" + parts[0] + parts[1])
CUT = st.tuples(WRITTEN, st.integers(0, 40)).map(lambda parts: parts[0][: parts[1]])
RECORDS = st.one_of(WRITTEN, WRITTEN, PREFIXED, CUT, st.binary(max_size=20))
Story = list[tuple[Any, ...]]


def told(decoded: Decoded, first: int = 0) -> Story:
    """Say in full what became of each record, in order; `first` is the place of the batch's first record."""
    times = {name: column.tolist() for name, column in decoded.times.items()}
    good = [
        (first + place, repr(row), *(times[name][index] for name in sorted(times)))
        for index, (row, place) in enumerate(zip(decoded.rows, decoded.places, strict=True))
    ]
    bad = [(first + place, reject.reason, str(reject)) for place, reject in decoded.rejects.items()]
    return sorted(good + bad, key=lambda told: told[0])


@settings(deadline=None, max_examples=120)
@given(st.lists(RECORDS, max_size=6))
@example([b'{"id":"a","at":"2013-01-01T00:00:00Z"}', b'{"id":"a","at":"2013-01-01t00:00:00.1234567z"}'])
@example([b'{"id":"a","at":"2013-01-01T00:00:00Z"},{"id":"a","at":"2013-01-01T00:00:00Z"}'])
def test_neighbours(records: list[bytes]) -> None:
    """Whether a record is good, its values and times, and what is said of it, never depend on those beside it."""
    together = told(CODEC.decode(records))
    assert [line[0] for line in together] == list(range(len(records)))
    assert together == [line for place, record in enumerate(records) for line in told(CODEC.decode([record]), place)]


@settings(deadline=None, max_examples=60)
@given(st.lists(RECORDS, max_size=4), st.lists(RECORDS, max_size=4))
def test_split(before: list[bytes], after: list[bytes]) -> None:
    """Cutting a batch anywhere gives the same rows, times and rejects."""
    halves = told(CODEC.decode(before)) + told(CODEC.decode(after), len(before))
    assert told(CODEC.decode(before + after)) == halves


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes(records: list[bytes]) -> None:
    """Whatever the bytes, each record is a row or a reject with a reason, and nothing is raised."""
    decoded = CODEC.decode(records)
    assert sorted([*decoded.places, *decoded.rejects]) == list(range(len(records)))
    assert all(reject.reason in {"json", "schema"} and str(reject) for reject in decoded.rejects.values())


@settings(deadline=None, max_examples=100)
@given(GOOD, st.integers(0, 200), st.integers(0, 255))
def test_one_byte_off(record: dict[str, Any], place: int, byte: int) -> None:
    """A good record with any one byte changed is a row or a reject, and nothing is raised."""
    good = json.dumps(record).encode()
    place %= len(good)
    broken = good[:place] + bytes([byte]) + good[place + 1 :]
    decoded = CODEC.decode([good, broken, good])
    assert decoded.places in ([0, 2], [0, 1, 2])
    assert decoded.rows[0] == decoded.rows[-1]


@settings(deadline=None, max_examples=60)
@given(st.lists(GOOD, max_size=4))
def test_good_comes_back(records: list[dict[str, Any]]) -> None:
    """What fits the schema is accepted, and each value comes back as it was written."""
    decoded = CODEC.decode([json.dumps(record).encode() for record in records])
    assert decoded.rejects == {}
    for name in ("id", "at", "n", "x"):
        assert decoded.column(name) == [record.get(name) for record in records]
