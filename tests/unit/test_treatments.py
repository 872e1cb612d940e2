"""What becomes of fields marked `pii`: which marks a stream may have, what is on the log, what dead letters hold."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from services.features.core import FeaturesCore
from services.ingestion.core import IngestionCore
from services.ingestion.stands import open_core
from services.runtime.dead_letters import DeadLetter, decode_dead_letter
from services.runtime.errors import ConfigError
from services.runtime.records import Outgoing, Record
from services.runtime.stream import Stream, load_stream
from services.runtime.treatments import PATTERNS
from services.runtime.vault import Vault
from tests.departures import EVENT, LABEL
from tests.marked import PEOPLE, SHIPPED, marked_schemas

WHO = {"passenger": "Ada Lovelace", "email": "ada@example.org", "phone": "+44 20 7946 0018"}


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return load_stream(marked_schemas(tmp_path / "schemas", PEOPLE), "flights")


@pytest.fixture
def core(stream: Stream, tmp_path: Path) -> IngestionCore:
    return open_core(stream, tmp_path / "data", 1000)


def sent(**fields: Any) -> bytes:
    return json.dumps({**EVENT, **WHO, **fields}).encode()


def taken(core: IngestionCore, *lines: bytes) -> list[Outgoing]:
    judged = core.judge("events", dict(enumerate(lines, 1)))
    assert judged.rejected == []
    return judged.accepted


def fields(out: Outgoing) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.value)
    return found


def test_each_mark_does_what_it_says(core: IngestionCore, tmp_path: Path) -> None:
    """A dropped field is gone, a hash and a token have their form, and all else is what was sent; a null stays null."""
    (found,) = map(fields, taken(core, sent()))
    assert "passenger" not in found
    assert re.match(PATTERNS["hash"], found.pop("email"))
    assert Vault(tmp_path / "data").reveal(found.pop("phone")) == ("phone", WHO["phone"])
    assert found == EVENT
    (none,) = map(fields, taken(core, sent(email=None, phone=None)))
    assert (none["email"], none["phone"]) == (None, None)


def test_a_stand_in_is_stable_and_another_for_another(core: IngestionCore, stream: Stream, tmp_path: Path) -> None:
    """The same value has the same hash and token, after a restart too; two values have two, and two fields differ."""
    again = open_core(stream, tmp_path / "data", 1000)
    first, other = map(fields, taken(core, sent(), sent(email="b@example.org", phone="1")))
    (second,) = map(fields, taken(again, sent()))
    assert first == second
    assert all(first[name] != other[name] for name in ("email", "phone"))
    (twice,) = map(fields, taken(core, sent(email="x", phone="x")))
    assert len({twice["email"], twice["phone"]}) == 2


def test_a_field_that_comes_twice_leaves_nothing(core: IngestionCore) -> None:
    """Of an object that has a name twice no value is left behind."""
    line = b'{"email": "first@example.org", ' + sent(email=None)[1:]
    assert b"first@" not in taken(core, line)[0].value


def test_where_nothing_is_marked_the_bytes_go_on_as_they_came() -> None:
    """A stream without a mark has one schema, and its records are not touched."""
    plain = load_stream(SHIPPED, "flights")
    assert plain.sent("event") is plain.event
    line = json.dumps(EVENT, indent=3).encode()
    assert IngestionCore(plain).judge("events", {1: line}).accepted[0].value is line


def test_what_was_treated_is_what_features_takes(core: IngestionCore, stream: Stream) -> None:
    """What ingestion lets in has its row of features: neither schema is without the other."""
    (out,) = taken(core, sent())
    said = FeaturesCore(stream, 0).fold([Record(out.topic, 0, 0, out.key, out.value, 1 << 60)])
    assert [one.topic for one in said] == ["flights.features"]


@pytest.mark.parametrize("field", sorted(PEOPLE))
def test_a_raw_value_straight_on_kafka_is_refused_and_not_carried_on(stream: Stream, field: str) -> None:
    """It becomes no row, and its dead letter has neither the value nor a word of it, but says where it was."""
    record = {**EVENT, field: WHO[field]}
    letter = refused(stream, json.dumps(record).encode())
    assert letter.reason == "schema"
    assert f"$.{field}" in letter.message
    assert json.loads(letter.original()[1]) == {**record, field: "***"}


@pytest.mark.parametrize(
    "value",
    [
        b'{"email": "ada@example.org',  # not JSON
        b'{"email": "ada@example.org", "\xff": 1}',
        json.dumps({**EVENT, "e-mail": WHO["email"]}).encode(),  # a name that the schema does not have
        json.dumps({**EVENT, "carrier": {"of": WHO["email"]}}).encode(),
        json.dumps({**EVENT, "email": [WHO["email"]]}).encode(),
        json.dumps([WHO["email"]]).encode(),
    ],
)
def test_whatever_is_refused_its_letter_holds_no_value(stream: Stream, value: bytes) -> None:
    """What can't be read is not carried at all; unknown fields, and what is nested, may hold anything."""
    letter = refused(stream, value)
    for place in (letter.message, base64.b64decode(letter.value or "").decode()):
        assert "ada" not in place


def refused(stream: Stream, value: bytes) -> DeadLetter:
    (out,) = FeaturesCore(stream, 0).fold([Record("flights.events", 0, 0, b"JFK", value, 1 << 60)])
    said = decode_dead_letter(Record(out.topic, 0, 0, out.key, out.value))
    assert isinstance(said, DeadLetter)
    return said


def test_a_letter_of_what_was_treated_has_the_very_bytes(core: IngestionCore, stream: Stream) -> None:
    """What is refused for another reason can be sent through again as it was."""
    (out,) = taken(core, sent())
    features = FeaturesCore(stream, 0)
    records = [Record(out.topic, 0, offset, out.key, out.value, 1 << 60) for offset in (0, 1)]
    said = decode_dead_letter(Record("flights.dead-letter", 0, 0, None, features.fold(records)[0].value))
    assert isinstance(said, DeadLetter)
    assert said.reason == "duplicate"
    assert json.loads(said.original()[1]) == fields(out)


@pytest.mark.parametrize("treatment", ["hash", "tokenise"])
def test_keys_and_ids_stand_alike_in_events_and_labels(tmp_path: Path, treatment: str) -> None:
    """A label finds its event, on the partition of its key, though neither says who it is."""
    both = {"event_id": treatment, "origin": treatment}
    schemas = marked_schemas(tmp_path / "schemas", both, both)
    pipeline = schemas / "flights" / "pipeline.toml"
    kept = [line for line in pipeline.read_text().splitlines() if not line.startswith("origin  ")]
    pipeline.write_text("\n".join(kept).replace('["carrier", "origin"]', '["carrier"]'))
    stream = load_stream(schemas, "flights")
    core = open_core(stream, tmp_path / "data", 1000)
    label = {**LABEL, "event_id": "a"}
    (event,) = taken(core, json.dumps({**EVENT, "event_id": "a"}).encode())
    (said,) = core.judge("labels", {1: json.dumps(label).encode()}).accepted
    assert event.key == said.key == core.asked("JFK").encode() != b"JFK"
    assert fields(event)["event_id"] == fields(said)["event_id"] != "a"
    assert stream.feature_set != load_stream(SHIPPED, "flights").feature_set


@pytest.mark.parametrize(
    ("event", "label", "said"),
    [
        ({"carrier": "drop"}, {}, r"event\.json: properties\.carrier\.pii: found 'drop', but features\.carrier"),
        ({"carrier": "hash"}, {}, r"event\.json: properties\.carrier\.pii: found 'hash', but features\.carrier"),
        ({"dest": "drop"}, {}, r"event\.json: properties\.dest\.pii: found 'drop', but features\.route_delay_1d"),
        ({"event_id": "drop"}, {}, r"event\.json: properties\.event_id\.pii: found 'drop', but \[stream\] id"),
        ({"departed_at": "hash"}, {}, r"event\.json: properties\.departed_at\.pii: found 'hash', but \[stream\] time"),
        ({"event_id": "hash"}, {}, r"label\.json: properties\.event_id\.pii: found None, expected 'hash'"),
        ({}, {"late": "hash"}, r"label\.json: properties\.late\.pii: found 'hash', but \[label\] field"),
        ({}, {"landed_at": "drop"}, r"label\.json: properties\.landed_at\.pii: found 'drop', but \[label\] time"),
        ({"tailnum": "yes"}, {}, r"event\.json: properties\.tailnum\.pii: found 'yes', expected one of 'drop', 'hash'"),
    ],
)
def test_a_mark_on_what_is_needed_is_refused(
    tmp_path: Path, event: dict[str, Any], label: dict[str, Any], said: str
) -> None:
    """At validation, by file and field: no stream starts that lacks its key, its time or what a feature is made of."""
    with pytest.raises(ConfigError, match=said):
        load_stream(marked_schemas(tmp_path, event, label), "flights")


def test_true_is_a_hash(tmp_path: Path) -> None:
    """What older schemas say means what it said: a hash."""
    assert load_stream(marked_schemas(tmp_path, {"tailnum": True}), "flights").marks("event") == {"tailnum": "hash"}
