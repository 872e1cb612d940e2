"""The electricity stream's data: complete, in order, checked by its hash, and known to change where it does."""

import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from services.runtime.record_types import record_type
from services.runtime.stream import load_stream
from tests.sources import load_source

SCHEMAS = Path(__file__).parents[2] / "schemas"
FOLDER = SCHEMAS / "electricity"
JOINED = 17_424  # the row from which Victoria takes part


@pytest.fixture(scope="module")
def source() -> ModuleType:
    return load_source(FOLDER)


@pytest.fixture(scope="module")
def timed(source: ModuleType) -> list[tuple[float, str, dict[str, Any]]]:
    return list(source.records())


def test_every_half_hour_and_its_label(timed: list[tuple[float, str, Any]]) -> None:
    """45,312 of each, half an hour apart, in order; a label comes half an hour after its event, behind the next one."""
    events = [(at, record["event_id"]) for at, kind, record in timed if kind == "event"]
    labels = [(at, record["event_id"]) for at, kind, record in timed if kind == "label"]
    assert len(events) == len(labels) == 45_312
    assert {later - earlier for (earlier, _), (later, _) in pairwise(events)} == {1800.0}
    assert [(at + 1800, name) for at, name in events] == labels
    order = [(at, kind == "label") for at, kind, _ in timed]
    assert order == sorted(order)


def test_records_are_what_the_schemas_say(timed: list[tuple[float, str, Any]]) -> None:
    """Every record reads as its schema's type, and its time is the time that it is yielded with."""
    for kind, field in (("event", "at"), ("label", "settled_at")):
        decode = msgspec.json.Decoder(record_type(kind, json.loads((FOLDER / f"{kind}.json").read_text()))).decode
        for at, of, record in timed:
            if of == kind:
                assert decode(msgspec.json.encode(record))
                assert msgspec.convert(record[field], datetime).timestamp() == at


def test_victoria_joins(timed: list[tuple[float, str, Any]]) -> None:
    """Three of the numbers are constant before row 17,424, and another from there on; the price never is."""
    events = [record for _, kind, record in timed if kind == "event"]
    for field in ("vic_price", "vic_demand", "transfer"):
        before = {event[field] for event in events[:JOINED]}
        assert len(before) == 1
        assert not before & {event[field] for event in events[JOINED : JOINED + 200]}
    assert len({event["nsw_price"] for event in events[:JOINED]}) > 1000


def test_the_first_events_alone(source: ModuleType, timed: list[tuple[float, str, Any]]) -> None:
    """So many events and their labels, the last one's too; none for none."""
    assert list(source.records(0)) == []
    first = list(source.records(50))
    assert [kind for _, kind, _ in first].count("event") == [kind for _, kind, _ in first].count("label") == 50
    assert first[:-1] == timed[:99]


def test_other_data_is_refused(source: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cached file that is not the data is fetched anew; what is fetched and is not it either is refused."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached = tmp_path / "thalweg" / "elec.csv"
    cached.parent.mkdir()
    cached.write_text("feat_1,target\n1,1\n")
    monkeypatch.setattr(source, "_fetched", lambda: b"something else")
    with pytest.raises(OSError, match="another SHA-256"):
        next(source.records(1))
    assert cached.read_text().startswith("feat_1,target")
    assert [path.name for path in cached.parent.iterdir()] == ["elec.csv"]


def test_it_is_a_stream() -> None:
    """The folder alone makes it one: its definition is read and checked."""
    stream = load_stream(SCHEMAS, "electricity")
    assert stream.columns[:5] == ("nsw_price", "nsw_demand", "vic_price", "vic_demand", "transfer")
    assert stream.key == "region"
