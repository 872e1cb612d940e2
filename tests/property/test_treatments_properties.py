"""Whatever a record is, nothing of a marked field comes past the door, or into a dead letter."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.features.core import FeaturesCore
from services.ingestion.core import IngestionCore
from services.ingestion.stands import open_core
from services.runtime.records import Record
from services.runtime.stream import Stream, load_stream
from tests.departures import EVENT
from tests.marked import PEOPLE, marked_schemas

WHOM = "whom-nobody-may-know"
Made = tuple[Stream, IngestionCore]
WORDS = st.text(max_size=9).map(lambda text: f"{text}{WHOM}{text}")
NESTED: st.SearchStrategy[Any] = st.recursive(
    WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
CUT = st.sampled_from([0, 0, 1, 30])
MARKED = st.dictionaries(st.sampled_from([*PEOPLE, "mail", "phone "]), NESTED, max_size=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    stream = load_stream(marked_schemas(folder / "schemas", PEOPLE), "flights")
    return stream, open_core(stream, folder / "data", 100_000)


@settings(deadline=None, max_examples=80)
@given(fields=MARKED, cut=CUT, escaped=st.booleans())
def test_nothing_comes_past_the_door(made: Made, fields: dict[str, Any], cut: int, *, escaped: bool) -> None:
    """A line is refused, or what goes to the log has no secret and is what `features` takes."""
    stream, core = made
    line = json.dumps({**EVENT, **fields}, ensure_ascii=escaped).encode()
    for out in core.judge("events", {1: line[: len(line) - cut]}).accepted:
        assert WHOM.encode() not in out.value
        said = FeaturesCore(stream, 0).fold([Record(out.topic, 0, 0, out.key, out.value, 1 << 60)])
        assert said[0].topic == "flights.features"


@settings(deadline=None, max_examples=80)
@given(fields=MARKED, cut=CUT, prefix=st.sampled_from([b"", b"\0\0\0\0\7"]), nested=st.booleans())
def test_no_letter_tells(made: Made, fields: dict[str, Any], cut: int, prefix: bytes, *, nested: bool) -> None:
    """What is put straight on Kafka and refused leaves no secret in its letter, be it cut, nested or misspelt."""
    stream, _ = made
    record = {**EVENT, **({"carrier": fields} if nested else fields)}
    line = json.dumps(record).encode()
    value = prefix + line[: len(line) - cut]
    for out in FeaturesCore(stream, 0).fold([Record("flights.events", 0, 0, b"JFK", value, 1 << 60)]):
        if out.topic == "flights.dead-letter":
            letter = json.loads(out.value)
            assert WHOM not in letter["message"]
            assert WHOM.encode() not in base64.b64decode(letter["value"] or "")
        else:
            assert WHOM.encode() not in out.value
