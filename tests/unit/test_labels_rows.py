"""Rows that wait, in columns: where they stand changes, what they are doesn't, and room is made of what is done."""

import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from services.labels.in_memory import InMemory
from services.labels.index import Index
from services.labels.rows import DONE, TOLD, WAITING, Rows
from services.runtime.frames import TIME, times

SCHEMA = pa.schema(
    [("event_id", pa.string()), ("event_time", TIME), ("offset", pa.int64()), ("more", pa.list_(pa.int8()))]
)
PAGE = 64


def made(*, corrected: bool = False) -> Rows:
    return Rows(SCHEMA, InMemory(), corrected=corrected, page=PAGE)


def add(rows: Rows, first: int, count: int, draw: random.Random | None = None) -> np.ndarray:
    """Add rows `first` on, whose time is their number; if drawn, up to twenty off."""
    numbers = np.arange(first, first + count)
    at = numbers + [draw.randint(-20, 20) for _ in numbers] if draw else numbers
    ids = [f"r{n}" for n in numbers]
    more = [[n % 100] * (n % 3) for n in numbers.tolist()]
    columns = [pa.array(ids), times(at), pa.array(numbers), pa.array(more, pa.list_(pa.int8()))]
    rows.make_room(count)
    return rows.append(pa.RecordBatch.from_arrays(columns, schema=SCHEMA), ids, np.maximum.accumulate(at))


def restarted(rows: Rows, *, corrected: bool = False) -> Rows:
    heir = Rows(SCHEMA, rows._segments, corrected=corrected, page=PAGE)
    heir.load(rows.state())
    assert len(heir) == len(rows)
    return heir


def find(rows: Rows, *names: str) -> list[list[int]]:
    return rows.find(names, np.array([hash(name) for name in names]))


def test_an_index_is_a_dictionary() -> None:
    """After any insertions and removals, of hashes that meet as well, each search finds just what is there."""
    draw = random.Random(5)  # noqa: S311 - the same each time
    hashes = np.array([draw.choice([draw.randrange(7), -draw.randrange(10**18)]) for _ in range(5000)])
    index, held, free = Index(), set[int](), list(range(5000))
    for _ in range(300):
        draw.shuffle(free)
        free, new = free[40:], free[:40]
        index.insert(hashes, np.array(new))
        held |= set(new)
        old = draw.sample(sorted(held), min(len(held), draw.choice([0, 30, 50])))
        index.remove(hashes, np.array(old, np.int64))
        held -= set(old)
        free += old
        wanted = hashes[draw.sample(range(5000), 50)]
        which, slots = index.find(hashes, wanted)
        found = Counter(zip(which.tolist(), slots.tolist(), strict=True))
        assert found == Counter((n, slot) for n, key in enumerate(wanted) for slot in held if hashes[slot] == key)


def test_rows_are_what_they_were() -> None:
    """Wherever a row stands by now, after a restart too, it is as it came, in the order that is asked for."""
    rows, draw = made(), random.Random(5)  # noqa: S311 - the same each time
    there = list[int]()
    for first in range(0, 3000, 30):
        if first % 300 == 0:
            rows = restarted(rows)
        add(rows, first, 30, draw)
        there += range(first, first + 30)
        draw.shuffle(there)
        gone, there = there[:25], there[25:]
        [*slots] = find(rows, *(f"r{n}" for n in gone))
        rows.let_go(np.array([slot for [slot] in slots]))
        assert len(rows) == len(there)
        names = [f"r{n}" for n in there]
        slots = np.array([slot for [slot] in find(rows, *names)])
        assert rows.ids(slots) == names
        batch = rows.take(slots, ["more", "offset"])
        assert batch.column("offset").to_pylist() == there
        assert batch.column("more").to_pylist() == [[n % 100] * (n % 3) for n in there]
        assert rows.columns["offset"][slots].tolist() == there
        assert find(rows, *(f"r{n}" for n in gone)) == [[]] * len(gone)
    assert find(rows, "nobody") == [[]]


@pytest.mark.parametrize("age", [0, 400])
def test_room_is_bounded_by_what_waits(age: int) -> None:
    """Nine in ten end at this age, the others much later: room is about twice what waits, however many rows came."""
    rows = made()
    for first in range(0, 20_000, 20):
        add(rows, first, 20)
        ended = [f"r{n}" for n in range(first - age, first - age + 20) if n >= 0 and n % 10]
        if ended:
            rows.let_go(np.array([slot for [slot] in find(rows, *ended)]))
        if first >= 5000:
            rows.let_go(rows.due(WAITING, first - 5000))
    waiting = len(rows)
    assert 500 + 0.9 * age <= waiting <= 520 + 0.9 * age
    assert len(rows.columns["state"]) <= 1.25 * (2 * waiting + 3 * PAGE)
    assert len(rows.segments) * PAGE <= 2 * waiting + PAGE


def test_rows_that_end_young_are_never_written() -> None:
    """A page that is mostly done when it is full is made room in, not stored."""
    rows = made()
    for first in range(0, 2000, 20):
        rows.let_go(add(rows, first, 20)[1:])
        rows.let_go(rows.due(WAITING, first))
    assert rows.segments == []


def test_due_rows_come_in_the_order_of_times_and_offsets() -> None:
    """Each once, by the limit that passes it, whichever page it is on."""
    rows, draw = made(), random.Random(7)  # noqa: S311 - the same each time
    expected, found = list[tuple[int, int]](), list[tuple[int, int]]()
    for first in range(0, 1000, 50):
        slots = add(rows, first, 50, draw)
        expected += zip(rows.columns["time"][slots].tolist(), rows.columns["offset"][slots].tolist(), strict=True)
        due = rows.due(WAITING, first - 200)
        found += zip(rows.columns["time"][due].tolist(), rows.columns["offset"][due].tolist(), strict=True)
        rows.let_go(due)
        assert found == sorted(one for one in expected if one[0] < first - 200)
    assert len(found) > 700


def test_what_a_row_was_told_moves_with_it() -> None:
    """Into a segment, out of it again, and through a snapshot."""
    rows = made(corrected=True)
    slots = add(rows, 0, 60)
    rows.columns["state"][slots[::10]] = TOLD
    rows.columns["told_at"][slots[::10]], rows.columns["told"][slots[::10]] = range(6), 0.5
    for first in range(60, 500, 20):
        add(rows, first, 20)
        if first == 300:
            rows.let_go(np.array([slot for [slot] in find(rows, *(f"r{n}" for n in range(60) if n % 10))]))
    for one in (rows, restarted(rows, corrected=True)):
        told = np.flatnonzero(one.columns["state"] == TOLD)
        told = told[np.argsort(one.columns["offset"][told])]
        assert one.ids(told) == [f"r{n}" for n in range(0, 60, 10)]
        assert (one.columns["told_at"][told].tolist(), set(one.columns["told"][told])) == ([*range(6)], {0.5})
        assert (one.columns["state"] != DONE).sum() == len(one) == 446
