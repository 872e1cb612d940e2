"""Dead letters: nothing of a refused record is lost, and a record under the wrong key is refused."""

import base64
import json

import msgspec
import pytest

from services.runtime.codec import Decoded, JsonCodec
from services.runtime.dead_letters import CARRIED, DeadLetter, dead_letter, wrong_keys
from services.runtime.errors import Reject
from services.runtime.records import Outgoing, Record
from services.runtime.stream import LARGEST_MESSAGE

ALL_BYTES = bytes(range(256))
CODEC = JsonCodec("event", {"required": ["origin"], "properties": {"origin": {"type": ["string", "integer"]}}})


def letter(record: Record) -> tuple[Outgoing, DeadLetter]:
    out = dead_letter("flights.dead-letter", "features", record, Reject("json", 'bad "thing" at\n0'))
    return out, msgspec.json.decode(out.value, type=DeadLetter)


@pytest.mark.parametrize("value", [b"", b"{", ALL_BYTES])
@pytest.mark.parametrize("key", [None, b"", b"EWR", ALL_BYTES])
def test_bytes_survive(key: bytes | None, value: bytes) -> None:
    """The original key and value survive, whatever they are; no key is not an empty one."""
    _, found = letter(Record("flights.events", 2, 9131, key, value))
    assert base64.b64decode(found.value or "") == value
    assert (None if found.key is None else base64.b64decode(found.key)) == key


def test_what_a_letter_carries_is_bounded() -> None:
    """Up to `CARRIED` bytes of key and value go with it; of a larger record the place alone."""
    _, whole = letter(Record("flights.events", 2, 9131, b"EWR", bytes(CARRIED - 3)))
    assert base64.b64decode(whole.value or "") == bytes(CARRIED - 3)
    out, none = letter(Record("flights.events", 2, 9131, b"EWR", bytes(CARRIED - 2)))
    assert (none.key, none.value, out.key) == (None, None, b"flights.events/2/9131")


def test_the_largest_letter_fits_into_a_message() -> None:
    """Whatever is refused, its letter is no larger than the topic takes."""
    for key, value in [(bytes(CARRIED), b""), (None, bytes(CARRIED))]:
        out, _ = letter(Record("x" * 249, 2, 2**63 - 1, key, value))
        assert len(out.value) + len(out.key or b"") + 10_000 < LARGEST_MESSAGE


def test_where_and_why() -> None:
    """A letter says who refused what, where it stands and why, as JSON that any tool reads."""
    out, _ = letter(Record("flights.events", 2, 9131, b"EWR", b"{"))
    assert json.loads(out.value) == {
        "service": "features",
        "reason": "json",
        "message": 'bad "thing" at\n0',
        "topic": "flights.events",
        "partition": 2,
        "offset": 9131,
        "key": "RVdS",
        "value": "ew==",
    }


def test_place_is_identity() -> None:
    """A letter is keyed by where the original stands, in the topic's one partition."""
    out, _ = letter(Record("flights.events", 2, 9131, b"EWR", b"{"))
    assert (out.topic, out.key, out.partition) == ("flights.dead-letter", b"flights.events/2/9131", 0)


def batch(*pairs: tuple[bytes | None, bytes]) -> tuple[Decoded, list[Record]]:
    records = [Record("flights.events", 0, offset, key, value) for offset, (key, value) in enumerate(pairs)]
    return CODEC.decode([record.value for record in records]), records


def test_right_keys() -> None:
    """A record's key is the text of its key field: of a number its digits, of any letters UTF-8."""
    good = [(b"EWR", b'{"origin":"EWR"}'), (b"7", b'{"origin":7}'), ("Zürich".encode(), '{"origin":"Zürich"}'.encode())]
    assert wrong_keys("origin", *batch(*good)) == {}
    assert wrong_keys("origin", *batch(good[0], good[2])) == {}
    assert wrong_keys("origin", *batch()) == {}


def test_keys_are_compared_one_by_one() -> None:
    """Keys that are right only when read together are wrong; one with a line break in it may be right."""
    fooling = [(b"a\nb", b'{"origin":"a"}'), (b"c", b'{"origin":"b\\nc"}')]
    assert list(wrong_keys("origin", *batch(*fooling))) == [0, 1]
    assert wrong_keys("origin", *batch((b"a\nb", b'{"origin":"a\\nb"}'), (b"", b'{"origin":""}'))) == {}
    swapped = [(b"a", b'{"origin":"b"}'), (b"b", b'{"origin":"a"}'), (b"c", b'{"origin":"c"}')]
    assert list(wrong_keys("origin", *batch(*swapped))) == [0, 1]


@pytest.mark.parametrize(
    ("key", "shown"), [(b"JFK", "'JFK'"), (b"", "''"), (None, "None"), (b"\xff", "'\ufffd'"), (b"EWR ", "'EWR '")]
)
def test_wrong_key(key: bytes | None, shown: str) -> None:
    """Another key, or none, is refused: it would stand on another partition than its story."""
    (reject,) = wrong_keys("origin", *batch((key, b'{"origin":"EWR"}'))).values()
    assert reject.reason == "key"
    assert str(reject) == f"Expected the record's key to be origin, 'EWR', got {shown}"


def test_places() -> None:
    """Rejects are by place in the batch, whatever was refused before them."""
    decoded, records = batch(
        (b"EWR", b"{"), (b"EWR", b'{"origin":"EWR"}'), (b"JFK", b'{"origin":"EWR"}'), (b"LGA", b'{"origin":"LGA"}')
    )
    assert list(wrong_keys("origin", decoded, records)) == [2]
    decoded.drop(wrong_keys("origin", decoded, records))
    assert decoded.column("origin") == ["EWR", "LGA"]
    assert sorted(decoded.rejects) == [0, 2]
