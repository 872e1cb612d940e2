"""The JSON codec: what a schema lets in, what it keeps out, and what the refusal says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.runtime.codec import LARGEST, Decoded, JsonCodec
from services.runtime.errors import LONGEST, ConfigError, Reject
from services.runtime.record_types import record_type

FOLDER = Path(__file__).parents[2] / "schemas" / "flights"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "at"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 4, "pattern": "^[a-z]+$"},
        "at": {"type": "string", "format": "date-time"},
        "until": {"type": ["string", "null"], "format": "date-time"},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "big": {"type": "integer"},
        "kind": {"type": "string", "enum": ["up", "down"]},
        "on": {"type": ["boolean", "null"]},
    },
}
NEW_YEAR_US = 1_356_998_400_000_000  # 2013-01-01T00:00:00Z


def codec(**more: Any) -> JsonCodec:
    return JsonCodec("small", SCHEMA | more)


def text(**fields: Any) -> bytes:
    return json.dumps({"id": "a", "at": "2013-01-01T00:00:00Z"} | fields).encode()


def only(decoded: Decoded) -> Reject:
    """Return the one reject of a batch of one record."""
    assert (decoded.rows, decoded.places) == ([], [])
    assert list(decoded.rejects) == [0]
    return decoded.rejects[0]


def micros(written: str) -> int:
    return int(codec().decode([text(at=written)]).times["at"][0])


# What is let in


def test_rows_and_columns() -> None:
    """Good records come out as rows in order, with their places, columns by name, and times in microseconds."""
    decoded = codec().decode([text(id="a", count=3), text(id="b", at="2013-01-01T00:00:00.000001Z", share=0.5)])
    assert decoded.places == [0, 1]
    assert decoded.rejects == {}
    assert decoded.column("id") == ["a", "b"]
    assert decoded.column("count") == [3, None]
    assert decoded.column("share") == [None, 0.5]
    assert decoded.times["at"].dtype == np.int64
    assert decoded.times["at"].tolist() == [NEW_YEAR_US, NEW_YEAR_US + 1]


def test_bad_among_good() -> None:
    """A bad record costs nobody but itself: the others keep their order, and places say where each stood."""
    records = [b"{", text(id="a"), text(id="UPPER"), text(id="b", at="soon"), text(id="c", at="2013-01-02T00:00:00Z")]
    decoded = codec().decode(records)
    assert decoded.places == [1, 4]
    assert decoded.column("id") == ["a", "c"]
    assert decoded.times["at"].tolist() == [NEW_YEAR_US, NEW_YEAR_US + 86_400_000_000]
    assert {place: reject.reason for place, reject in decoded.rejects.items()} == {0: "json", 2: "schema", 3: "schema"}


def test_nothing() -> None:
    """An empty batch is an empty answer, whose time columns are there all the same."""
    decoded = codec().decode([])
    assert (decoded.rows, decoded.places, decoded.rejects) == ([], [], {})
    assert decoded.times["at"].tolist() == []


def test_optional_and_nullable() -> None:
    """A field that is not required may be missing or null; times are given for required fields only."""
    decoded = codec().decode([text(), text(until=None, on=None, count=None), text(until="2014-01-01T00:00:00Z")])
    assert decoded.rejects == {}
    assert decoded.column("until") == [None, None, "2014-01-01T00:00:00Z"]
    assert decoded.column("on") == [None, None, None]
    assert list(decoded.times) == ["at"]


def test_required_null() -> None:
    """Null stands in a required field only where its type says so; a required time that is null reads as 1970."""
    assert only(codec().decode([text(id=None)])).reason == "schema"
    nullable = JsonCodec(
        "nullable", {"required": ["at"], "properties": {"at": {"type": ["string", "null"], "format": "date-time"}}}
    )
    column = [b'{"at":null}', b'{"at":"2013-01-01T00:00:00Z"}']
    assert nullable.decode(column).times["at"].tolist() == [0, NEW_YEAR_US]
    assert nullable.decode([*column, b'{"at":"x"}']).times["at"].tolist() == [0, NEW_YEAR_US]


def test_extra_fields() -> None:
    """Fields that the schema does not know are ignored where it is open, and refused by name where it is closed."""
    assert codec().decode([text(more=[1, {"x": 2}])]).rejects == {}
    reject = only(codec(additionalProperties=False).decode([text(more=1)]))
    assert reject.reason == "schema"
    assert "unknown field `more`" in str(reject)


def test_duplicate_keys() -> None:
    """Of a name that comes twice the last value counts, as in every common parser."""
    decoded = codec().decode([b'{"id":"a","at":"2013-01-01T00:00:00Z","count":1,"count":2}'])
    assert decoded.column("count") == [2]


@pytest.mark.parametrize("prefix", [b"\0\0\0\0\1", b"\0\xff\xff\xff\xff", b'\0{"a}'])
def test_confluent_prefix(prefix: bytes) -> None:
    """A zero byte and four bytes of schema id, whatever they are, are skipped, and once only."""
    reader = codec()
    decoded = reader.decode([text(count=7), prefix + text(count=7)])
    assert decoded.rejects == {}
    assert decoded.rows[0] == decoded.rows[1]
    assert decoded.times["at"].tolist() == [NEW_YEAR_US, NEW_YEAR_US]
    assert only(reader.decode([prefix + prefix + text()])).reason == "json"


def test_huge_integers() -> None:
    """An integer of 64 bits is exact, a larger one is refused: no column holds it."""
    for good in (2**63 - 1, -(2**63)):
        record = b'{"id":"a","at":"2013-01-01T00:00:00Z","big":%d}' % good
        assert codec().decode([record]).column("big") == [good]
    for digits in (20, 30, 400, 5000):
        reject = only(codec().decode([b'{"id":"a","at":"2013-01-01T00:00:00Z","big":' + b"9" * digits + b"}"]))
        assert reject.reason == "schema"
        assert "$.big" in str(reject)


@pytest.mark.parametrize(("written", "count"), [("1.0", 1), ("0.8e1", 8), ("90e-1", 9), ("-0.0", 0)])
def test_an_integer_may_be_written_as_a_float(written: str, count: int) -> None:
    """To JSON Schema a number without a fraction is an integer, however it is written; the row has it as an int."""
    decoded = codec().decode([text(count=9).replace(b"9", written.encode())])
    assert decoded.rejects == {}
    assert decoded.column("count") == [count]
    assert type(decoded.column("count")[0]) is int


@pytest.mark.parametrize("written", ["1.5", "1e300", "1e999", '"1.0"', "[1.0]"])
def test_other_numbers_are_no_integers(written: str) -> None:
    """A fraction, a text, and what no column holds are refused, and the message names the field."""
    reject = only(codec().decode([text(count=9).replace(b"9", written.encode())]))
    assert reject.reason == "schema"
    assert "$.count" in str(reject)


def test_a_record_has_a_largest_size() -> None:
    """To its last byte a record is good, one more and it is refused, whoever stands beside it; so is what it quotes."""
    fits = text() + b" " * (LARGEST - len(text()))
    decoded = codec().decode([text(), fits, fits + b" ", text()])
    assert decoded.places == [0, 1, 3]
    assert decoded.rejects[2].reason == "size"
    quoted = only(codec(additionalProperties=False).decode([text(**{"x" * 10_000: 1})]))
    assert len(str(quoted)) == LONGEST


@pytest.mark.parametrize(
    ("written", "us"),
    [
        ("2013-01-01T00:00:00Z", 0),
        ("2013-01-01 00:00:00Z", 0),
        ("2013-01-01t00:00:00z", 0),
        ("2013-01-01T00:00:00.5Z", 500_000),
        ("2013-01-01T00:00:00.123456Z", 123_456),
        ("2013-01-01T00:00:00.123456499Z", 123_456),
        ("2013-01-01T00:00:00.123456789Z", 123_457),
        ("2013-01-01t00:00:00.123456789z", 123_457),
        ("2013-01-01T01:00:00+01:00", 0),
        ("2012-12-31T18:30:00-05:30", 0),
        ("2012-12-31t18:30:00.25-05:30", 250_000),
    ],
)
def test_times(written: str, us: int) -> None:
    """RFC 3339 in every spelling gives the microsecond nearest to it, in UTC."""
    assert micros(written) == NEW_YEAR_US + us


def test_times_before_1970() -> None:
    """Microseconds count down before 1970, in both spellings."""
    assert micros("1969-12-31T23:59:59.999999Z") == micros("1969-12-31t23:59:59.999999z") == -1


# What is kept out


@pytest.mark.parametrize(
    "written",
    [
        "2013-01-01T00:00:00",
        "2013-01-01 00:00:00",
        "2013-01-01",
        "2013-01-01Z",
        "2013-02-29T00:00:00Z",
        "2013-01-01T24:00:00Z",
        "2013-01-01T00:00:00+24:00",
        "2013-01-01T00:00:00.Z",
        "2013-01-01T00:00:00Z ",
        "10000-01-01T00:00:00Z",
        "1356998400",
        "",
    ],
)
@pytest.mark.parametrize("field", ["at", "until"])
def test_times_refused(field: str, written: str) -> None:
    """A time without a zone, or that no calendar has, is refused: field, what was expected, what was found."""
    reject = only(codec().decode([text(**{field: written})]))
    assert reject.reason == "schema"
    assert str(reject) == f"Expected a date-time with a zone (RFC 3339), got {written!r} - at `$.{field}`"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("id", 1, ["Expected `str`", "got `int`"]),
        ("id", "", ["length >= 1"]),
        ("id", "abcde", ["length <= 4"]),
        ("id", "A1", ["matching regex '^[a-z]+$'"]),
        ("at", 1_356_998_400, ["Expected `str`", "got `int`"]),
        ("count", -1, ["`int` >= 0"]),
        ("count", 10, ["`int` <= 9"]),
        ("count", "1", ["Expected `int | null`", "got `str`"]),
        ("count", True, ["Expected `int | null`", "got `bool`"]),
        ("count", 1.5, ["Expected `int | null`", "got `float`"]),
        ("share", 0, ["`float` > 0"]),
        ("share", 1, ["`float` < 1"]),
        ("share", [0.5], ["Expected `float | null`", "got `array`"]),
        ("kind", "left", ["'left'"]),
        ("on", "true", ["Expected `bool | null`", "got `str`"]),
        ("on", {}, ["Expected `bool | null`", "got `object`"]),
    ],
)
def test_schema_refusals(field: str, value: Any, said: list[str]) -> None:
    """A value of the wrong kind or out of bounds is refused, and the message names the field and what is expected."""
    reject = only(codec().decode([text(**{field: value})]))
    assert reject.reason == "schema"
    assert all(part in str(reject) for part in [f"`$.{field}`", *said]), str(reject)


@pytest.mark.parametrize(
    ("field", "inside", "outside"),
    [("count", (0, 9), (-1, 10)), ("share", (1e-9, 0.999), (0.0, 1.0)), ("id", ("a", "abcd"), ("", "abcde"))],
)
def test_bounds(field: str, inside: tuple[Any, ...], outside: tuple[Any, ...]) -> None:
    """Inclusive bounds include, exclusive ones exclude."""
    assert codec().decode([text(**{field: value}) for value in inside]).places == [0, 1]
    assert list(codec().decode([text(**{field: value}) for value in outside]).rejects) == [0, 1]


def test_missing() -> None:
    """A required field that is missing is named."""
    assert "missing required field `at`" in str(only(codec().decode([b'{"id":"a"}'])))


def test_enum() -> None:
    """An enumerated field takes its values and no other."""
    assert codec().decode([text(kind="up"), text(kind="down")]).column("kind") == ["up", "down"]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\0",
        b"\0\0\0\0\1",
        b"{",
        text()[:-1],
        text()[:-2],
        text() + b"x",
        text() + b"\0",
        b"\xef\xbb\xbf" + text(),
        b'{"id":"\xff","at":"2013-01-01T00:00:00Z"}',
        b'{"id":"\xed\xa0\x80","at":"2013-01-01T00:00:00Z"}',
        b'{"id":"a","at":"\xc3"}',
        rb'{"id":"\ud800","at":"2013-01-01T00:00:00Z"}',
        rb'{"id":"\udc00","at":"2013-01-01T00:00:00Z"}',
        rb'{"id":"a","at":"\ud800abcdefghijkl"}',
        rb'{"id":"a","at":"2013-01-01T00:00:00Z","more":"\udc00"}',
        b'{"id":"a\nb","at":"2013-01-01T00:00:00Z"}',
        b'{"id":"a","at":"2013-01-01T00:00:00Z","share":NaN}',
        b'{"id":"a","at":"2013-01-01T00:00:00Z","share":-Infinity}',
        b"{'id':'a'}",
    ],
)
def test_not_json(record: bytes) -> None:
    """Truncated JSON, broken UTF-8, half a surrogate pair and numbers that JSON does not have are refused as `json`."""
    reject = only(codec().decode([record]))
    assert reject.reason == "json"
    assert str(reject)


@pytest.mark.parametrize("record", [b"null", b"1", b'"a"', b"[]", b"[" * 10_000, b"\0\0\0\0\1[]"])
def test_not_an_object(record: bytes) -> None:
    """A record that is no object is refused as such, however deep it goes."""
    reject = only(codec().decode([record]))
    assert reject.reason == "schema"
    assert "Expected `object`" in str(reject)


@pytest.mark.parametrize(
    "nested", [b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000]
)
def test_deep(nested: bytes) -> None:
    """Nesting beyond the parser's depth, in a field that nobody asked for, costs that record alone."""
    deep = text()[:-1] + b',"more":' + nested + b"}"
    decoded = codec().decode([text(), deep, text()])
    assert decoded.places == [0, 2]
    assert decoded.rejects[1].reason == "json"


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 400])
def test_beyond_a_float(number: bytes) -> None:
    """A number that no double holds is refused rather than read as infinite."""
    reject = only(codec().decode([b'{"id":"a","at":"2013-01-01T00:00:00Z","share":' + number + b"}"]))
    assert reject.reason == "schema"
    assert str(reject) == "Number out of range - at `$.share`"


@pytest.mark.parametrize("joint", [b",", b"\n", b" ", b""])
def test_two_in_one(joint: bytes) -> None:
    """Two objects in one record are one bad record, never two good ones that shift what follows."""
    decoded = codec().decode([text(id="x"), text(id="y") + joint + text(id="z"), text(id="w")])
    assert decoded.column("id") == ["x", "w"]
    assert decoded.places == [0, 2]
    assert decoded.rejects[1].reason == "json"


def test_halves() -> None:
    """Two records that only together are JSON are two bad records."""
    decoded = codec().decode([text()[:10], text()[10:], text(id="b")])
    assert decoded.places == [2]
    assert sorted(decoded.rejects) == [0, 1]


# Refusing later


def test_drop() -> None:
    """Records refused after decoding leave rows, places and times together; the earlier rejects stay."""
    decoded = codec().decode([text(id="a"), b"{", text(id="b", at="2013-01-01T00:00:01Z"), text(id="c")])
    decoded.drop({2: Reject("key", "wrong")})
    assert decoded.column("id") == ["a", "c"]
    assert decoded.places == [0, 3]
    assert decoded.times["at"].tolist() == [NEW_YEAR_US, NEW_YEAR_US]
    assert {place: reject.reason for place, reject in decoded.rejects.items()} == {1: "json", 2: "key"}


def test_drop_all_and_none() -> None:
    """Refusing nothing changes nothing; refusing all leaves an empty batch."""
    decoded = codec().decode([text(id="a")])
    decoded.drop({})
    assert decoded.column("id") == ["a"]
    decoded.drop({0: Reject("key", "wrong")})
    assert (decoded.rows, decoded.places, decoded.times["at"].tolist()) == ([], [], [])


# Schemas


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"type": "array"}, "array"),
        ({"type": "object"}, "object"),
        ({"type": ["string", "array"]}, "array"),
        ({}, "[]"),
        ({"$ref": "#/$defs/x"}, "$ref"),
        ({"type": "integer", "multipleOf": 5}, "multipleOf"),
        ({"type": "string", "const": "a"}, "const"),
        ({"type": "string", "anyOf": []}, "anyOf"),
    ],
)
def test_inexpressible(rule: dict[str, Any], found: str) -> None:
    """A schema part that the codec can't hold records to is an error with its place, not a rule that nobody checks."""
    with pytest.raises(ConfigError) as error:
        record_type("flights.event", {"required": [], "properties": {"speed": rule}})
    assert "flights.event.speed: found" in str(error.value)
    assert found in str(error.value)
    assert "expected a scalar `type`" in str(error.value)


def flights(kind: str) -> tuple[JsonCodec, dict[str, Any]]:
    schema = json.loads((FOLDER / f"{kind}.json").read_text())
    return JsonCodec(kind, schema), schema


DEPARTURE = {
    "event_id": "2013-01-01-UA-1545-EWR",
    "origin": "EWR",
    "dest": "IAH",
    "carrier": "UA",
    "flight": 1545,
    "tailnum": None,
    "scheduled_at": "2013-01-01T10:15:00Z",
    "departed_at": "2013-01-01T10:17:00Z",
    "departure_delay_min": 2,
    "distance_mi": 1400,
}
LANDING = {
    "event_id": "2013-01-01-UA-1545-EWR",
    "origin": "EWR",
    "landed_at": "2013-01-01T14:30:00Z",
    "arrival_delay_min": 11,
    "late": False,
}


@pytest.mark.parametrize(("kind", "record"), [("event", DEPARTURE), ("label", LANDING)])
def test_flights(kind: str, record: dict[str, Any]) -> None:
    """The flights stream's own records are good, and each of their fields comes out as it went in."""
    reader, schema = flights(kind)
    decoded = reader.decode([json.dumps(record).encode()])
    assert decoded.rejects == {}
    assert {name: decoded.column(name)[0] for name in schema["properties"]} == record
    assert sorted(decoded.times) == [name for name, rule in sorted(schema["properties"].items()) if "format" in rule]


@pytest.mark.parametrize(("kind", "record"), [("event", DEPARTURE), ("label", LANDING)])
def test_flights_need_every_field(kind: str, record: dict[str, Any]) -> None:
    """Without any of its fields, with one more, or with one of another kind, a flights record is refused by name."""
    reader, _ = flights(kind)
    for name in record:
        less = only(reader.decode([json.dumps({k: v for k, v in record.items() if k != name}).encode()]))
        wrong = only(reader.decode([json.dumps(record | {name: [0]}).encode()]))
        assert f"missing required field `{name}`" in str(less)
        assert f"got `array` - at `$.{name}`" in str(wrong)
    assert "unknown field `extra`" in str(only(reader.decode([json.dumps(record | {"extra": 1}).encode()])))


@pytest.mark.parametrize(
    ("field", "value"),
    [("origin", "EW"), ("carrier", "UAL"), ("flight", 0), ("flight", 10_000), ("distance_mi", -1), ("tailnum", "")],
)
def test_flights_bounds(field: str, value: Any) -> None:
    """The bounds of the flights schema hold."""
    reader, _ = flights("event")
    assert f"$.{field}" in str(only(reader.decode([json.dumps(DEPARTURE | {field: value}).encode()])))
