"""What no client should send: cores raise on none of it, account for all of it, and good records don't notice it."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infra.local.malformed import SPOILT, extreme, spoil
from services.features.core import FeaturesCore
from services.ingestion.core import IngestionCore, Kind
from services.labels.core import LabelsCore
from services.runtime.codec import LARGEST
from services.runtime.dead_letters import DeadLetter
from services.runtime.frames import matrix, times
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import BESIDE, SCORE, examples_frame, features_frame, scored_frame
from services.runtime.stream import load_stream
from tests.departures import EVENT, LABEL

STREAM = load_stream(Path(__file__).parents[2] / "schemas", "flights")
SCHEMAS = {"events": STREAM.event, "labels": STREAM.label}
GOOD = {"events": EVENT | {"event_id": "a"}, "labels": LABEL | {"event_id": "a"}}
NOON_MS, NOON_US = 1_357_041_600_000, 1_357_041_600_000_000  # 2013-01-01T12:00:00Z
KINDS = ("events", "labels")
FIXED = [
    b"",
    b" ",
    b"\n",
    b"\r\n",
    b"\0",
    b"\0\0\0\0\0",
    b"{}",
    b"[" * (5 << 20),
    b"\xff" * 64,
    b"\xef\xbb\xbf{}",
    b'""',
]
One = tuple[str, bytes, bytes | None, int]  # what it is, its value, its Kafka key, its timestamp


def good(kind: str, name: str, rng: Random) -> bytes:
    return extreme(rng, SCHEMAS[kind], GOOD[kind] | {"event_id": name})


@st.composite
def record(draw: st.DrawFn, kind: str) -> One:
    """Draw a record: a good one, one that is spoilt, one under a wrong key, of a wrong clock, or any bytes at all."""
    what = draw(st.sampled_from(["good", "good", "key", "clock", "bytes", *SPOILT]))
    rng = draw(st.randoms(use_true_random=False))
    name = f"{draw(st.integers(0, 10**9))}"
    if what == "bytes":
        return what, draw(st.binary(max_size=80)), draw(st.none() | st.just(b"JFK")), draw(st.integers(-1, 2**63 - 1))
    if what == "key":
        return what, good(kind, name, rng), draw(st.none() | st.binary(max_size=5).filter(lambda k: k != b"JFK")), 0
    if what == "clock":
        return what, json.dumps(GOOD[kind] | {"event_id": name}).encode(), b"JFK", draw(st.integers(1, NOON_MS - 10**7))
    if what == "good":
        return what, good(kind, name, rng), b"JFK", draw(st.sampled_from([0, -1, NOON_MS * 2]))
    return what, spoil(what, rng, SCHEMAS[kind], GOOD[kind] | {"event_id": name}), b"JFK", 0


def log_of(kind: str, drawn: Sequence[One]) -> list[Record]:
    return [Record(f"flights.{kind}", 1, at, key, value, time) for at, (_, value, key, time) in enumerate(drawn)]


def letters(outgoing: Sequence[Outgoing]) -> list[DeadLetter]:
    """Return the dead letters, each of which must be whole."""
    return [msgspec.json.decode(out.value, type=DeadLetter) for out in outgoing if out.topic == "flights.dead-letter"]


def check_letters(found: Sequence[DeadLetter], log: Sequence[Record]) -> None:
    """Each letter has a reason, a place, and the bytes that stand there; none has the place of another."""
    assert max(Counter(letter.offset for letter in found).values(), default=1) == 1
    for letter in found:
        there = log[letter.offset]
        assert (letter.topic, letter.partition) == (there.topic, there.partition)
        assert letter.reason
        assert letter.message
        assert base64.b64decode(letter.value or "") == there.value
        assert (None if letter.key is None else base64.b64decode(letter.key)) == there.key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", SPOILT)
def test_every_kind_is_refused_for_its_reason(kind: Kind, what: str) -> None:
    """However it is drawn, a spoilt record is refused, and said to be what it is."""
    rng, reasons = Random(1), SPOILT[what][1]  # noqa: S311 - the same records each time
    lines = [spoil(what, rng, SCHEMAS[kind], GOOD[kind]) for _ in range(3 if what == "too large" else 100)]
    judgement = IngestionCore(STREAM).judge(kind, dict(enumerate(lines, 1)))
    assert judgement.accepted == []
    assert {line.reason for line in judgement.rejected} <= reasons
    assert [line.line for line in judgement.rejected] == list(range(1, len(lines) + 1))
    assert not any(b"\n" in line or not line.strip() for line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_extremes_are_good(kind: Kind) -> None:
    """What the schema allows is accepted, however odd it looks."""
    rng = Random(1)  # noqa: S311 - the same records each time
    lines = {at: good(kind, f"{at}", rng) for at in range(300)}
    assert IngestionCore(STREAM).judge(kind, lines).rejected == []


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_the_door_accounts_for_every_line(kind: Kind, data: st.DataObject) -> None:
    """Each line is accepted or refused, once; a good one becomes what it becomes alone, whoever stands beside it."""
    core, drawn = IngestionCore(STREAM), data.draw(st.lists(record(kind), max_size=8))
    lines = {2 * at + 1: value for at, (_, value, _, _) in enumerate(drawn)}
    judgement = core.judge(kind, lines)
    refused = {line.line for line in judgement.rejected}
    assert len(judgement.accepted) + len(judgement.rejected) == len(lines)
    assert all(line.reason and line.message for line in judgement.rejected)
    alone = [core.judge(kind, {number: line}).accepted for number, line in lines.items() if number not in refused]
    assert [[out] for out in judgement.accepted] == alone
    for number, (what, *_) in zip(lines, drawn, strict=True):
        assert (number in refused) == (what in SPOILT) or what == "bytes"


@pytest.mark.parametrize("kind", KINDS)
@given(lines=st.lists(st.binary(max_size=40) | st.sampled_from(FIXED), max_size=5))
@settings(deadline=None, max_examples=100)
def test_the_door_takes_any_bytes(kind: Kind, lines: list[bytes]) -> None:
    """Nothing is raised, whatever stands in a line, and each is accounted for."""
    judgement = IngestionCore(STREAM).judge(kind, dict(enumerate(lines)))
    assert len(judgement.accepted) + len(judgement.rejected) == len(lines)
    assert all(len(line.message) <= 1000 for line in judgement.rejected)


def split_log(log: Sequence[Record], outgoing: Sequence[Outgoing]) -> tuple[list[DeadLetter], list[Record]]:
    """Return the dead letters, checked, and the records that have none."""
    found = letters(outgoing)
    check_letters(found, log)
    dead = {letter.offset for letter in found}
    return found, [one for one in log if one.offset not in dead]


@given(drawn=st.lists(record("events"), max_size=8))
@example([("bytes", value, b"JFK", 0) for value in FIXED])
@settings(deadline=None, max_examples=150)
def test_features_account_for_every_event(drawn: list[One]) -> None:
    """Each event is a row or a dead letter, once, with its own offset; the rows are those of the good ones alone."""
    log = log_of("events", drawn)
    outgoing = FeaturesCore(STREAM, 1).fold(log)
    found, rest = split_log(log, outgoing)
    rows = [out for out in outgoing if out.topic == "flights.features"]
    batches = [features_frame(STREAM).decode(Record("", 1, 0, None, out.value, headers=out.headers)) for out in rows]
    assert [at for batch in batches for at in batch.column("offset").to_pylist()] == [one.offset for one in rest]
    assert rows == [out for out in FeaturesCore(STREAM, 1).fold(rest) if out.topic == "flights.features"]
    for what, place in zip((what for what, *_ in drawn), range(len(drawn)), strict=True):
        if what in SPOILT or what == "key":
            assert place in {letter.offset for letter in found}


def scored(*names: str) -> Record:
    """Return a batch of scored rows with these ids, a minute apart from the morning on."""
    n, frame = len(names), scored_frame(STREAM)
    columns = [
        pa.array(names, pa.string()),
        pa.array(["JFK"] * n, pa.string()),
        times(np.arange(n, dtype=np.int64) * 60_000_000 + NOON_US),
        pa.array(range(n), pa.int64()),
        matrix(np.zeros((n, len(STREAM.columns)), np.float32)),
        pa.array([0.5] * n, pa.float64()),
        pa.array([{"version": 1, "score": 0.5, "weight": 1.0}] * n, SCORE),
        pa.array([[]] * n, BESIDE),
    ]
    return Record("flights.scored", 1, 0, None, frame.encode(columns), headers=frame.headers)


@given(drawn=st.lists(record("labels"), max_size=8), cut=st.integers(0, 8))
@example([("bytes", value, b"JFK", 0) for value in FIXED], 3)
@settings(deadline=None, max_examples=150)
def test_labels_account_for_every_label(drawn: list[One], cut: int) -> None:
    """Each label is taken or a dead letter, once, however it is cut; good ones give what they give alone."""
    log = log_of("labels", drawn)
    ids = sorted({json.loads(value)["event_id"] for what, value, *_ in drawn if what == "clock"})
    core = LabelsCore(STREAM, 1)
    outgoing = [*core.fold([scored("a", *ids)]), *core.fold(log[:cut]), *core.fold(log[cut:])]
    found, rest = split_log(log, outgoing)
    alone = LabelsCore(STREAM, 1)
    again = [*alone.fold([scored("a", *ids)]), *alone.fold(rest)]
    assert letters(again) == []
    assert labelled(again) == labelled(outgoing)
    assert core.snapshot() == alone.snapshot()
    dead = {letter.offset: letter.reason for letter in found}
    for place, (what, *_) in enumerate(drawn):
        if what in SPOILT:
            assert dead[place] in SPOILT[what][1]
        elif what != "bytes":
            assert dead.get(place) in {"clock": {"clock"}, "key": {"key"}, "good": {None, "duplicate"}}[what]


def labelled(outgoing: Sequence[Outgoing]) -> list[Any]:
    frame = examples_frame(STREAM)
    batches = [
        frame.decode(Record("", 0, 0, None, out.value, headers=out.headers))
        for out in outgoing
        if out.topic == "flights.examples"
    ]
    return [row for batch in batches for row in batch.to_pylist()]


ONE_BAD = [
    ("poison", b"\xff\xfe", b"JFK"),
    ("too large", b" " * (LARGEST + 1), b"JFK"),
    ("wrong key", json.dumps(GOOD["events"]).encode(), b"LGA"),
    ("nothing", b"", None),
]


@pytest.mark.parametrize(("value", "key"), [case[1:] for case in ONE_BAD], ids=[case[0] for case in ONE_BAD])
def test_a_poison_record_in_the_middle_of_a_batch(value: bytes, key: bytes | None) -> None:
    """The events before it and after it come out as if it were not there, and it is the one dead letter."""
    log = log_of(
        "events", [("good", json.dumps(GOOD["events"] | {"event_id": f"{n}"}).encode(), b"JFK", 0) for n in range(9)]
    )
    log[4] = msgspec.structs.replace(log[4], value=value, key=key)
    [dead, rows] = FeaturesCore(STREAM, 1).fold(log)
    [rows_alone] = FeaturesCore(STREAM, 1).fold(log[:4] + log[5:])
    assert rows == rows_alone
    assert [letter.offset for letter in letters([dead])] == [4]
