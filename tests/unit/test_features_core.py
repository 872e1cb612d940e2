"""The core of features: what a row names, and what becomes of records that are refused."""

import base64
import json

import numpy as np
import pytest

from services.features.core import FeaturesCore
from services.runtime.frames import micros, rows
from services.runtime.grammar import Hour, OneHot, Value
from services.runtime.produced import produced
from services.runtime.records import Record
from services.runtime.schemas import features_frame
from tests.made import NOON, PAST, event, log, made, only

SECOND = 1_000_000


def test_a_row_names_its_event() -> None:
    """A row of `features` has the event's id, key, time and offset; the batch goes to the partition that it is of."""
    stream = made({"x": Value(of="x"), "hot": OneHot(of="kind", values=["a"], other=True)})
    records = [Record("made.events", 3, 100 + n, r.key, r.value) for n, r in enumerate(log([event(0), event(1.5)]))]
    [out] = FeaturesCore(stream, 3).fold(records)
    frame = features_frame(stream)
    batch = frame.decode(Record(out.topic, 3, 0, None, out.value, headers=out.headers))
    assert (out.topic, out.partition, out.headers) == ("made.features", 3, [*frame.headers, produced(records)])
    assert batch.schema.metadata[b"columns"] == b"x\nhot=a\nhot=other"
    assert batch.column("event_id").to_pylist() == ["0:k0", "1:k1.5"]
    assert batch.column("key").to_pylist() == ["k", "k"]
    assert batch.column("offset").to_pylist() == [100, 101]
    noon = int(NOON.timestamp()) * SECOND
    assert micros(batch.column("event_time")).tolist() == [noon, noon + 1_500_000]
    assert rows(batch.column("features")).dtype == np.float32


REFUSED: dict[str, tuple[str, bytes | None, bytes]] = {
    "a wrong key": ("key", b"m", json.dumps(event(5, 1e6)).encode()),
    "no key": ("key", None, json.dumps(event(5, 1e6)).encode()),
    "cut off": ("json", b"k", b'{"id": "e", "key": "k"'),
    "no text": ("json", b"k", b'{"id": "\xff\xfe"}'),
    "nothing": ("json", b"k", b""),
    "a wrong type": ("schema", b"k", json.dumps(event(5) | {"x": "seven"}).encode()),
    "a missing field": ("schema", b"k", b'{"id": "e", "key": "k", "x": 1e6}'),
    "a time without a zone": ("schema", b"k", json.dumps(event(5, 1e6) | {"at": "2013-01-05T12:00:00"}).encode()),
    "a list": ("schema", b"k", b"[1]"),
    "before year 1": ("schema", b"k", json.dumps(event(5) | {"at": "0000-01-01T00:00:00Z"}).encode()),
    "after year 9999": ("schema", b"k", json.dumps(event(5) | {"at": "9999-12-31T23:59:59-01:00"}).encode()),
}


@pytest.mark.parametrize(("reason", "key", "value"), REFUSED.values(), ids=REFUSED)
def test_a_bad_record_costs_nobody_but_itself(reason: str, key: bytes | None, value: bytes) -> None:
    """In the middle of a batch it goes to `dead-letter` as it came, and the others are as if it had not been there."""
    stream = made({"x": Value(of="x"), **{name: op for name, op in PAST.items() if op.by is None}})
    good = log([event(n * 100, n * 1.5) for n in range(6)])
    bad = Record("made.events", 5, 77, key, value)
    core, other = FeaturesCore(stream, 5), FeaturesCore(stream, 5)
    with_it, without = core.fold([*good[:3], bad, *good[3:]]), other.fold(good)
    [dead] = only(with_it, "dead-letter")
    letter = json.loads(dead.value)
    assert letter.pop("message")
    assert letter == {
        "service": "features",
        "reason": reason,
        "topic": "made.events",
        "partition": 5,
        "offset": 77,
        "key": None if key is None else base64.b64encode(key).decode(),
        "value": base64.b64encode(value).decode(),
    }
    assert [out for out in with_it if out != dead] == without
    assert core.snapshot() == other.snapshot()


def test_a_batch_of_bad_records_is_all_dead_letters() -> None:
    """Where nothing is good there is no row of `features`, and every record has a letter of its own, in order."""
    core = FeaturesCore(made({"f": Hour()}), 0)
    before = core.snapshot()
    out = core.fold([Record("made.events", 0, n, key, value) for n, (_, key, value) in enumerate(REFUSED.values())])
    assert [json.loads(o.value)["reason"] for o in out] == [reason for reason, _, _ in REFUSED.values()]
    assert [o.key for o in out] == [f"made.events/0/{n}".encode() for n in range(len(out))]
    assert core.snapshot() == before
