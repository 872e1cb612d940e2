"""The door's judgement: how a body is cut into records, which of them are good, and what each becomes on the log."""

import json
from pathlib import Path
from typing import Literal

import pytest

from services.ingestion.core import JSON, NDJSON, IngestionCore, count, split
from services.runtime.codec import LARGEST
from services.runtime.records import Outgoing
from services.runtime.stream import load_stream
from tests.departures import EVENT, LABEL

STREAM = load_stream(Path(__file__).parents[2] / "schemas", "flights")
CORE = IngestionCore(STREAM)
PRETTY = json.dumps(EVENT, indent=2).encode()


def numbered(*lines: bytes) -> dict[int, bytes]:
    return dict(enumerate(lines, 1))


def test_a_json_body_is_one_record() -> None:
    """`application/json` is one record: the whole body, line breaks and all."""
    for body in (PRETTY, b"\n\n" + PRETTY + b"\n", b"", b"{}\n{}"):
        assert split(body, JSON) == {1: body}
        assert count(body, JSON) == 1


def test_an_ndjson_body_is_a_record_a_line() -> None:
    """Lines end with a line feed, or at the end of the body; those of space are no records, and count as lines."""
    assert split(b'{"a":1}\n{"a":2}', NDJSON) == {1: b'{"a":1}', 2: b'{"a":2}'}
    assert split(b'{"a":1}\n{"a":2}\n', NDJSON) == {1: b'{"a":1}', 2: b'{"a":2}'}
    assert split(b'\n\n{"a":1}\n \t \r\n\n{"a":2}\n\n', NDJSON) == {3: b'{"a":1}', 6: b'{"a":2}'}
    assert split(b"", NDJSON) == split(b" \r\n\n\t", NDJSON) == {}


@pytest.mark.parametrize(
    ("body", "lines"), [(b"", 1), (b"\n", 1), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"a\n\n", 2), (b"\n\na\n", 3)]
)
def test_lines_are_counted_before_they_are_cut(body: bytes, lines: int) -> None:
    """The count is never below the number of the last record's line, and a last line feed begins no line."""
    assert count(body, NDJSON) == lines
    assert max(split(body, NDJSON), default=0) <= lines


def test_no_other_character_ends_a_line() -> None:
    """What Python or Unicode call a line break, but NDJSON does not, is part of the record."""
    line = '{"a":"\u2028\x85\x0b\x0c"}'.encode()
    assert split(line + b"\n" + line, NDJSON) == numbered(line, line)


@pytest.mark.parametrize("kind", ["events", "labels"])
def test_lines_that_end_as_on_windows_are_good(kind: Literal["events", "labels"]) -> None:
    """A carriage return before the line feed is space to JSON: the record is good, and stays as it came."""
    line = json.dumps(EVENT if kind == "events" else LABEL).encode()
    judgement = CORE.judge(kind, split(line + b"\r\n" + line + b"\r\n", NDJSON))
    assert judgement.rejected == []
    assert [json.loads(out.value) for out in judgement.accepted] == [json.loads(line)] * 2


def test_a_pretty_printed_object_is_good_as_json_only() -> None:
    """An object over several lines is one record of `application/json`, and several bad lines of NDJSON."""
    assert [out.value for out in CORE.judge("events", split(PRETTY, JSON)).accepted] == [PRETTY]
    judgement = CORE.judge("events", split(PRETTY, NDJSON))
    assert judgement.accepted == []
    assert [r.line for r in judgement.rejected] == list(range(1, PRETTY.count(b"\n") + 2))


def test_a_good_line_goes_to_the_log_as_it_came() -> None:
    """Its topic, its own bytes, the stream's key as Kafka key, and no partition: the key chooses it."""
    spaced = json.dumps(dict(reversed(EVENT.items())), indent=None, separators=(" , ", " : ")).encode() + b" "
    confluent = b"\0\0\0\0\7" + json.dumps(EVENT | {"origin": "EWR"}).encode()
    assert CORE.judge("events", numbered(spaced, confluent)).accepted == [
        Outgoing("flights.events", spaced, b"JFK"),
        Outgoing("flights.events", confluent, b"EWR"),
    ]
    foreign = json.dumps(LABEL | {"origin": "Å\u00e9é"}).encode()
    assert CORE.judge("labels", numbered(foreign)).accepted == [Outgoing("flights.labels", foreign, "Åéé".encode())]


BAD: dict[str, tuple[str, str, bytes]] = {
    "cut off": ("json", "", b'{"event_id":'),
    "no text": ("json", "", b'{"event_id":"\xff"}'),
    "nothing": ("json", "", b""),
    "two in a line": ("json", "", json.dumps(EVENT).encode() * 2),
    "too large": ("size", str(LARGEST), b" " * LARGEST + json.dumps(EVENT).encode()),
    "a list": ("schema", "", b"[]"),
    "a missing field": ("schema", "distance_mi", json.dumps({k: EVENT[k] for k in list(EVENT)[:-1]}).encode()),
    "a wrong type": ("schema", "$.flight", json.dumps(EVENT | {"flight": "1141"}).encode()),
    "out of bounds": ("schema", "$.flight", json.dumps(EVENT | {"flight": 10000}).encode()),
    "too long": ("schema", "$.origin", json.dumps(EVENT | {"origin": "JFKX"}).encode()),
    "an unknown field": ("schema", "colour", json.dumps(EVENT | {"colour": "red"}).encode()),
    "no time": ("schema", "$.departed_at", json.dumps(EVENT | {"departed_at": "2013-01-01"}).encode()),
    "a label": ("schema", "", json.dumps(LABEL).encode()),
}


@pytest.mark.parametrize(("reason", "place", "line"), BAD.values(), ids=BAD)
def test_a_bad_line_is_listed_and_costs_nobody_but_itself(reason: str, place: str, line: bytes) -> None:
    """It is named by its line's number, with a word for the reason and a message that says where; others pass."""
    good = [json.dumps(EVENT | {"flight": n}).encode() for n in (1, 2, 3)]
    judgement = CORE.judge("events", {1: good[0], 3: line, 4: good[1], 7: line, 8: good[2]})
    assert [out.value for out in judgement.accepted] == good
    assert [(r.line, r.reason) for r in judgement.rejected] == [(3, reason), (7, reason)]
    assert all(r.message and place in r.message for r in judgement.rejected)


def test_reasons_come_in_the_order_of_the_lines() -> None:
    """Whatever is wrong with each, refusals are listed by line."""
    judgement = CORE.judge("events", numbered(*(line for _, _, line in BAD.values())))
    assert judgement.accepted == []
    assert [(r.line, r.reason) for r in judgement.rejected] == [
        (n, reason) for n, (reason, _, _) in enumerate(BAD.values(), 1)
    ]


def test_nothing_is_nothing() -> None:
    """No lines, no records and no refusals."""
    judgement = CORE.judge("labels", {})
    assert (judgement.accepted, judgement.rejected) == ([], [])
