"""Which reason a record is refused for, where it offends several rules, and what a refused one leaves behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.runtime.admission import Admission
from services.runtime.dead_letters import DeadLetter, decode_dead_letter
from services.runtime.records import Record
from services.runtime.stream import load_stream
from tests.departures import EVENT

STREAM = load_stream(Path(__file__).parents[2] / "schemas", "flights")
NOW_MS = 1_357_041_600_000  # noon of the day of the departure
KEY, LATER = b"JFK", "2013-01-01T14:00:00Z"


def record(offset: int = 0, key: bytes = KEY, **changes: Any) -> Record:
    return Record("flights.events", 0, offset, key, json.dumps(EVENT | changes).encode(), NOW_MS)


def reasons(admission: Admission, *records: Record) -> list[str]:
    _, letters = admission.read(records)
    found = [decode_dead_letter(Record(out.topic, 0, 0, out.key, out.value)) for out in letters]
    return [letter.reason for letter in found if isinstance(letter, DeadLetter)]


@pytest.mark.parametrize(
    ("reason", "last"),
    [
        ("schema", record(1, b"LGA", departed_at=LATER, flight=0)),
        ("key", record(1, b"LGA", departed_at=LATER)),
        ("clock", record(1, departed_at=LATER)),
        ("duplicate", record(1)),
    ],
)
def test_the_reason_is_the_first_rule_that_is_offended(reason: str, last: Record) -> None:
    """Schema, key, clock, repeated id: a record that offends several says the first, in one batch and in two."""
    assert reasons(Admission(STREAM, "features", "event"), record(), last) == [reason]
    admission = Admission(STREAM, "features", "event")
    assert reasons(admission, record()) == []
    assert reasons(admission, last) == [reason]


def test_the_id_of_what_was_refused_may_come_again() -> None:
    """Only what is let in is remembered: after a fix the same id is good, once."""
    admission = Admission(STREAM, "features", "event")
    assert reasons(admission, record(0, b"LGA"), record(1, departed_at=LATER)) == ["key", "clock"]
    rows, letters = admission.read([record(2)])
    assert (rows.places, letters) == ([0], [])


def test_another_takes_over_what_is_remembered() -> None:
    """Its state is the ids: a copy refuses what the first one let in."""
    first, second = (Admission(STREAM, "features", "event") for _ in range(2))
    first.read([record()])
    second.load(first.state())
    assert reasons(second, record(1)) == ["duplicate"]
