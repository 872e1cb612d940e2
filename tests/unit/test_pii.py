"""Fields that say who somebody is: what stands for them, and that a schema may mark them."""

from pathlib import Path

import msgspec
import pytest

from services.runtime.errors import ConfigError
from services.runtime.pii import Masker, open_masker
from services.runtime.record_types import record_type
from services.runtime.spans import EVENT_ID, KEY, TOPIC
from services.runtime.stream import Stream, load_stream
from services.runtime.tracing import masking

STREAM = load_stream(Path(__file__).parents[2] / "schemas", "flights")


@pytest.fixture
def stream() -> Stream:
    """Make a stream of which the aircraft's registration is marked."""
    event = msgspec.json.decode(msgspec.json.encode(STREAM.event))
    event["properties"]["tailnum"]["pii"] = True
    return msgspec.structs.replace(STREAM, event=event)


def test_a_mark_is_hashed_alike_and_others_are_left(stream: Stream) -> None:
    """Two of the same are the same hash, two different ones differ, and no field that is not marked is touched."""
    masker = Masker(stream, b"k" * 32)
    first, second, other = (masker.record({"tailnum": tail, "origin": "JFK"}) for tail in ("N1", "N1", "N2"))
    assert first == second
    assert first["tailnum"] != other["tailnum"]
    assert "N1" not in str(first)
    assert first["origin"] == "JFK"
    assert masker.record({"tailnum": None}) == {"tailnum": None}
    assert masker.record(first) == first


def test_without_the_key_no_hash_is_found(stream: Stream) -> None:
    """Another installation's hash of the same value is another: a list of names is no key."""
    assert Masker(stream, b"a" * 32).value("tailnum", "N1") != Masker(stream, b"b" * 32).value("tailnum", "N1")


def test_an_edited_record_has_what_the_hashes_stood_for(stream: Stream) -> None:
    """What was left as it was shown is what it was; what was changed is what it was changed to."""
    masker, original = Masker(stream, b"k" * 32), {"tailnum": "N1", "origin": "JFK"}
    shown = masker.record(original)
    assert masker.restored(shown | {"origin": "LGA"}, original) == {"tailnum": "N1", "origin": "LGA"}
    assert masker.restored(shown | {"tailnum": "N2"}, original)["tailnum"] == "N2"


def test_of_marked_ids_and_keys_spans_have_hashes(stream: Stream) -> None:
    """An id or a key that says who somebody is reaches no span; where neither is marked nothing is changed."""
    told = {EVENT_ID: "a", KEY: "JFK", TOPIC: "flights.events"}
    assert masking(Masker(stream, b"k" * 32), stream)(told) == told
    event = msgspec.json.decode(msgspec.json.encode(STREAM.event))
    event["properties"]["origin"]["pii"] = True
    masker = Masker(msgspec.structs.replace(STREAM, event=event), b"k" * 32)
    assert masking(masker, STREAM)(told) == told | {KEY: masker.value("origin", "JFK")}


def test_the_key_is_made_once(stream: Stream, tmp_path: Path) -> None:
    """The same installation hashes alike after a restart; its key is readable by its owner alone."""
    first, again = (open_masker(stream, tmp_path).value("tailnum", "N1") for _ in range(2))
    assert first == again != "N1"
    assert (tmp_path / "keys" / "pii").stat().st_mode & 0o077 == 0


def test_a_schema_may_mark_a_field() -> None:
    """`pii` is a keyword of ours; it changes no type of what is sent."""
    schema = {"properties": {"name": {"type": "string", "pii": True}}, "required": ["name"]}
    assert msgspec.json.decode(b'{"name": "x"}', type=record_type("event", schema)).name == "x"  # type: ignore[attr-defined]
    schema["properties"]["name"]["pii"] = "yes"  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"event\.name\.pii: found 'yes', expected one of 'drop', 'hash', 'tokenise'"):
        record_type("event", schema)
