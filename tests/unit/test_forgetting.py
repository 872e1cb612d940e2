"""Who is to be forgotten: which records are theirs, what stays of a batch, and what is dropped of what was folded."""

import json
import sqlite3
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from infra.cli import main
from infra.forgetting import files
from infra.forgetting.person import Person
from services.console.span import Span
from services.console.store import Store
from services.runtime.dead_letters import dead_letter
from services.runtime.errors import Reject
from services.runtime.frames import Frame
from services.runtime.records import Record
from services.runtime.spans import EVENT_ID, KEY
from services.runtime.stores import open_store
from services.runtime.stream import load_stream
from services.runtime.vault import Vault
from tests.departures import EVENT

SCHEMAS = Path(__file__).parents[2] / "schemas"
STREAM = load_stream(SCHEMAS, "flights")
ADA = "airfield-of-ada"
TOKENS = ["tok:" + letter * 22 for letter in "AB"]


def event(name: str, key: str, offset: int = 0, **fields: object) -> Record:
    value = json.dumps({**EVENT, "event_id": name, "origin": key, **fields}).encode()
    return Record("flights.events", 0, offset, key.encode(), value)


def ada() -> Person:
    person = Person(ADA)
    for record in (event("a1", ADA, who=TOKENS[0], by=TOKENS[1]), event("b1", "JFK", by=TOKENS[1])):
        person.meet(STREAM, record)
    return person


def test_ids_and_tokens_are_those_of_the_key() -> None:
    """What is met with the key is its own; a token that another key has too is not for it alone."""
    person = ada()
    assert person.ids == {"a1"}
    assert person.tokens - person.others == {TOKENS[0]}


@pytest.mark.parametrize("kind", ["events", "labels", "late", "predictions"])
def test_a_record_of_the_key_goes_and_one_that_names_it_elsewhere_stays(kind: str) -> None:
    """It is the key's by its Kafka key or by its field; that another flies there is no reason."""
    person = ada()
    assert person.without(STREAM, kind, event("a2", ADA)) is None
    assert person.without(STREAM, kind, msgspec.structs.replace(event("a2", ADA), key=b"JFK")) is None
    there = event("b2", "JFK", dest=ADA)
    assert person.without(STREAM, kind, there) is there


def test_of_a_batch_the_rows_of_the_key_go() -> None:
    """The batch stays, where it is and with its headers, if only with no row."""
    frame = Frame(pa.schema([("key", pa.string()), ("x", pa.int64())]))
    value = frame.encode([pa.array([ADA, "JFK", ADA, "LGA"]), pa.array(np.arange(4))])
    record = Record("flights.scored", 0, 7, None, value, headers=frame.headers)
    left = ada().without(STREAM, "scored", record)
    assert left is not None
    assert left.offset == 7
    assert frame.decode(left).to_pydict() == {"key": ["JFK", "LGA"], "x": [1, 3]}
    assert ADA.encode() not in left.value
    assert ada().without(STREAM, "scored", left) is left
    alone = msgspec.structs.replace(record, value=frame.encode([pa.array([ADA]), pa.array([1])]))
    emptied = ada().without(STREAM, "scored", alone)
    assert emptied is not None
    assert frame.decode(emptied).num_rows == 0


@pytest.mark.parametrize(
    ("record", "message", "gone"),
    [
        (event("a1", ADA), "late", True),
        (event("b1", "JFK"), "late", False),
        (event("b1", "JFK"), f"Expected one event an id, got another of {'a1'!r}", True),
        (Record("flights.events", 0, 0, b"JFK", b'{"origin": "' + ADA.encode()), "not JSON", True),
        (Record("flights.events", 0, 0, ADA.encode(), b"[1]"), "no object", True),
        (Record("flights.events", 0, 0, None, b"\xff"), "not JSON", False),
    ],
)
def test_letters_of_the_key_go(record: Record, message: str, gone: bool) -> None:  # noqa: FBT001 - a table's column
    """By what was refused, or by what its reason quotes; what can't be read goes if the key is in it."""
    out = dead_letter("flights.dead-letter", "features", record, Reject("schema", message))
    letter = Record(out.topic, 0, 0, out.key, out.value)
    assert (ada().without(STREAM, "dead-letter", letter) is None) is gone


def test_states_that_tell_of_the_key_go_with_their_partition(tmp_path: Path) -> None:
    """A partition that has met the key is folded anew, with all its snapshots and rows; others go on from theirs."""
    store = open_store(str(tmp_path))
    for partition, word in ((0, ADA), (1, "JFK")):
        store.write(f"flights/features/{partition}/1.snapshot", b"line\n", word.encode())
        store.write(f"flights/labels/{partition}/1.snapshot", b"line\n", b"rows in the segment")
        store.write(f"flights/labels/{partition}/segments/x.arrow", b"", word.encode())
    needles = {ADA.encode()}
    assert files.states(store, "flights", 4, needles, remove=False) == {"features": 1, "labels": 2}
    assert files.states(store, "flights", 4, needles, remove=True) == {"features": 1, "labels": 2}
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert [name.split("/")[2] for name in left] == ["1", "1", "1"]
    assert files.states(store, "flights", 4, needles, remove=True) == {}


def test_traces_that_name_the_key_go_off_the_disk(tmp_path: Path) -> None:
    """A trace goes whole; the rest stays; no page of the file keeps a word of it."""
    path = tmp_path / "spans.db"
    store = Store(path, 8 << 20)
    told: list[tuple[str, dict[str, str]]] = [
        ("a", {KEY: ADA}),
        ("a", {}),
        ("b", {EVENT_ID: "b1"}),
        ("c", {EVENT_ID: "a1"}),
    ]
    spans = [
        Span(trace * 32, f"{number:016x}", None, "process", "features", "SERVER", 1, 2, attributes=attributes)
        for number, (trace, attributes) in enumerate(told)
    ]
    assert store.offer(spans)
    store.close()
    assert files.spans(path, {ADA, "a1"}, remove=False) == 3
    assert files.spans(path, {ADA, "a1"}, remove=True) == 3
    assert files.spans(path, {ADA, "a1"}, remove=True) == 0
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT COUNT(*) FROM spans").fetchone() == (1,)
    database.close()
    assert files.still_there([tmp_path], {ADA.encode()}, set()) == []


def test_what_is_left_is_named_and_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a log, the folder alone is cleared; a file that still has the key makes the exit status 1."""
    data = tmp_path / "flights" / "data"
    Vault(data).close()
    kept = data / "notes.txt"
    kept.write_text(f"about {ADA}")
    argv = ["forget", ADA, "--run-dir", str(tmp_path), "--schemas", str(SCHEMAS)]
    assert main(argv) == 1
    assert "the embedded broker's is gone with its run" in (said := capsys.readouterr().out)
    assert str(kept) in said
    kept.unlink()
    assert main(argv) == 0
