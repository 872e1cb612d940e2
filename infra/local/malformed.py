"""Malformed records of a stream, made from good ones by its JSON Schema: what clients really send, and what they could.

Each kind is a function of a random generator, the schema and a good record, so a seeded `random.Random` gives a load
test its records and Hypothesis' own generator gives a property test records that it can shrink. None holds a line feed.
"""

import base64
import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeAlias

from services.runtime.codec import LARGEST

Schema: TypeAlias = Mapping[str, Any]
Good: TypeAlias = Mapping[str, Any]
Spoil: TypeAlias = Callable[[Random, Schema, Good], bytes]

_OTHERS: list[Any] = [None, True, 0, 0.5, "text", [], {}, [1], {"a": 1}]
_KINDS = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}
_NO_TIMES = [
    "",
    "yesterday",
    "2013-01-01",
    "2013-01-01T10:00:00",
    "2013-02-30T10:00:00Z",
    "9" * 40,
    "10000-01-01T00:00Z",
]
_NO_UTF8 = [b"\xff", b"\xc3(", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80"]
_NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "nan", "0x10", "01", "+1", "1.", ".5", "1e", "--1", "1_000"]
_DEEP = ["[", '{"a":', "[[", '[{"a":']


def _types(rule: Mapping[str, Any]) -> set[str]:
    found = rule.get("type", list(_KINDS.values()))
    kinds = {found} if isinstance(found, str) else set(found)
    return kinds | ({"integer"} if "number" in kinds else set())


def _wrong_type(rng: Random, schema: Schema, good: Good) -> bytes:
    field = rng.choice(sorted(good))
    kinds = _types(schema["properties"][field])
    return _dumps({**good, field: rng.choice([other for other in _OTHERS if _KINDS.get(type(other)) not in kinds])})


def _missing(rng: Random, schema: Schema, good: Good) -> bytes:
    gone = set(rng.sample(schema["required"], rng.randint(1, len(schema["required"]))))
    return _dumps({field: value for field, value in good.items() if field not in gone})


def _extra(rng: Random, _: Schema, good: Good) -> bytes:
    name = rng.choice(["extra", "", "event-id", "EVENT_ID", "\u00e9", "\x00", "__proto__", "x" * rng.randint(1, 5000)])
    fields = [*good.items(), (name, rng.choice(_OTHERS))]
    rng.shuffle(fields)
    return _dumps(dict(fields))


def _out_of_bounds(rng: Random, schema: Schema, good: Good) -> bytes:
    found = [(field, value) for field, rule in schema["properties"].items() for value in _beyond(rule)]
    field, value = rng.choice(found)
    return _dumps({**good, field: value})


def _beyond(rule: Mapping[str, Any]) -> list[Any]:
    """Return values of the right type that the rule's bounds keep out."""
    low, high = rule.get("minimum"), rule.get("maximum")
    short, long = rule.get("minLength", 0), rule.get("maxLength")
    values: list[Any] = [] if low is None else [low - 1, -(10**18)]
    values += [] if high is None else [high + 1, 10**18, 1e308]
    values += [] if long is None else ["x" * (long + 1), "é" * (long + 1), "x" * 5000]
    return values + (["x" * (short - 1)] if short else [])


def _no_time(rng: Random, schema: Schema, good: Good) -> bytes:
    field = rng.choice([name for name, rule in schema["properties"].items() if rule.get("format") == "date-time"])
    return _dumps({**good, field: rng.choice(_NO_TIMES)})


def _no_number(rng: Random, schema: Schema, good: Good) -> bytes:
    return _put(rng, schema, good, {"number", "integer"}, rng.choice(_NO_NUMBERS).encode())


def _huge_number(rng: Random, schema: Schema, good: Good) -> bytes:
    huge = rng.choice([b"1e400", b"-1e999", b"9" * rng.randint(310, 6000)])
    return _put(rng, schema, good, {"number", "integer"}, huge)


def _broken_utf8(rng: Random, schema: Schema, good: Good) -> bytes:
    return _put(rng, schema, good, {"string"}, b'"' + b"x" * rng.randint(0, 3) + rng.choice(_NO_UTF8) + b'"')


def _lone_surrogate(rng: Random, schema: Schema, good: Good) -> bytes:
    return _put(
        rng, schema, good, {"string"}, rng.choice([rb'"\ud800"', rb'"\udc00"', rb'"\ud800\ud800"', rb'"\ud83dx"'])
    )


def _deep(rng: Random, schema: Schema, good: Good) -> bytes:
    nest = (rng.choice(_DEEP) * rng.choice([10, 1000, 20_000])).encode()
    return nest if rng.random() < 0.5 else _put(rng, schema, good, {"string", "number"}, nest)  # noqa: PLR2004


def _truncated(rng: Random, _: Schema, good: Good) -> bytes:
    whole = _dumps(good)
    return whole[: rng.randint(1, len(whole) - 1)]


def _trailing(rng: Random, _: Schema, good: Good) -> bytes:
    return _dumps(good) + rng.choice([b"x", b"}", b",", b"{}", b"\0", _dumps(good), b"," + _dumps(good)])


def _no_object(rng: Random, _: Schema, good: Good) -> bytes:
    found = _dumps(good)
    return rng.choice([b"null", b"true", b"0", b'""', b"[]", b"[" + found + b"]", _dumps(found.decode()), b"1e308"])


def _noise(rng: Random, _: Schema, __: Good) -> bytes:
    return b"\xfe" + rng.randbytes(rng.randint(0, 300)).replace(b"\n", b"\r")


def _other_text(rng: Random, _: Schema, good: Good) -> bytes:
    """Return the record in another coding, none of which is UTF-8 without a byte order mark."""
    text = json.dumps(good)
    codings = [
        text.encode("utf-8-sig"),
        text.encode("utf-16-le"),
        text.encode("utf-32-be"),
        base64.b64encode(text.encode()),
    ]
    return rng.choice([coded for coded in codings if b"\n" not in coded])


def _prefixed(rng: Random, schema: Schema, good: Good) -> bytes:
    return b"\0" + rng.randbytes(4).replace(b"\n", b"\r") + _truncated(rng, schema, good)


def _too_large(rng: Random, _: Schema, good: Good) -> bytes:
    whole = _dumps(good)
    return whole + b" " * (LARGEST + rng.randint(1, 5000) - len(whole))


SPOILT: dict[str, tuple[Spoil, frozenset[str]]] = {  # kind: how it is made, and what may be said of it
    "wrong type": (_wrong_type, frozenset({"schema"})),
    "missing field": (_missing, frozenset({"schema"})),
    "extra field": (_extra, frozenset({"schema"})),
    "out of bounds": (_out_of_bounds, frozenset({"schema"})),
    "no time": (_no_time, frozenset({"schema"})),
    "no number": (_no_number, frozenset({"json", "schema"})),
    "huge number": (_huge_number, frozenset({"schema"})),
    "broken UTF-8": (_broken_utf8, frozenset({"json", "schema"})),
    "lone surrogate": (_lone_surrogate, frozenset({"json"})),
    "deep nesting": (_deep, frozenset({"json", "schema"})),
    "truncated JSON": (_truncated, frozenset({"json"})),
    "trailing": (_trailing, frozenset({"json"})),
    "no object": (_no_object, frozenset({"schema"})),
    "noise": (_noise, frozenset({"json"})),
    "other coding": (_other_text, frozenset({"json", "schema"})),
    "bad after a prefix": (_prefixed, frozenset({"json"})),
    "too large": (_too_large, frozenset({"size"})),
}


def spoil(kind: str, rng: Random, schema: Schema, good: Good) -> bytes:
    """Make a record of this kind from a good one."""
    return SPOILT[kind][0](rng, schema, good)


def extreme(rng: Random, schema: Schema, good: Good) -> bytes:
    """Return a good record as no client writes it: values at their bounds, odd space, odd order, odd numbers."""
    fields = {name: _edge(rng, schema["properties"][name], value) for name, value in good.items()}
    names = rng.sample(sorted(fields), len(fields))
    shown = json.dumps({name: fields[name] for name in names}, ensure_ascii=rng.random() < 0.5)  # noqa: PLR2004
    return rng.choice([b"", b" \t\r", b"\0abcd"]) + shown.encode() + rng.choice([b"", b" " * 500])


def _edge(rng: Random, rule: Mapping[str, Any], value: object) -> object:
    kinds = _types(rule)
    edges: list[object] = [value]
    if "format" not in rule and not isinstance(value, str | bool) and "number" in kinds:
        edges += [rule.get("minimum", -1e308), rule.get("maximum", 1e308), rule.get("minimum", 0) + 5e-324]
    elif kinds == {"integer"}:
        edges += [rule.get("minimum", -(2**63)), rule.get("maximum", 2**63 - 1), float(rule.get("minimum", 0))]
    return rng.choice(edges)


def _put(rng: Random, schema: Schema, good: Good, kinds: set[str], literal: bytes) -> bytes:
    """Put these bytes where one of the fields of such a type has its value."""
    field = rng.choice([name for name, rule in schema["properties"].items() if _types(rule) & kinds])
    mark = "\u0001put\u0001"
    return _dumps({**good, field: mark}).replace(json.dumps(mark).encode(), literal)


def _dumps(value: object) -> bytes:
    return json.dumps(value).encode()
