"""The law of the join: what it holds and what it decided depend on how far each input was read, and on nothing else."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

import services.labels.join
from services.labels.core import Held, LabelsCore
from services.labels.join import BEFORE_ALL, Join, Label, Pair, Row, State
from services.labels.maturity import Maturity
from services.runtime.frames import matrix, micros, rows, times
from services.runtime.grammar import Duration, LabelRule, OnlineRule, Pipeline, StreamRule, Value
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import SCORE, examples_frame, scored_frame
from services.runtime.stream import Stream

SECOND = 1_000_000
HORIZON = 10  # seconds
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LABEL = {
    "required": ["id", "key", "at", "late"],
    "properties": {
        "id": {"type": "string"},
        "key": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "late": {"type": "boolean"},
    },
}
STREAM = Stream(
    "made",
    {"properties": {}},
    LABEL,
    Pipeline(
        StreamRule("binary", "key", "at", "id"),
        {"x": Value(of="x")},
        LabelRule("late", "at", Duration(f"{HORIZON}s"), "negative"),
        OnlineRule(["linear_model.LogisticRegression"]),
    ),
    ("x",),
    "made:0",
)
SCORED, EXAMPLES = scored_frame(STREAM), examples_frame(STREAM)

Said = tuple[str, int]  # an id, and a time in seconds
SAID = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-15, 45)), max_size=25)
IN_ORDER = SAID.map(lambda said: sorted(said, key=lambda one: one[1]))
LOG = st.one_of(SAID, IN_ORDER)
TURNS = st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=40)


class Read(NamedTuple):
    """What was decided, and what is held."""

    pairs: Counter[Any]
    state: State


# The two logs, as rows and labels of the join


def row_of(offset: int, said: Sequence[Said]) -> Row:
    name, seconds = said[offset]
    clock = max(time for _, time in said[: offset + 1]) * SECOND
    vector = np.array([offset + 0.5], np.float32).tobytes()
    return Row(name, "k", seconds * SECOND, offset, vector, 0.25, offset // 3, 0.75, 1.0, clock)


def label_of(offset: int, said: Sequence[Said]) -> Label:
    name, seconds = said[offset]
    clock = max(time for _, time in said[: offset + 1]) * SECOND
    return Label(name, seconds * SECOND, offset, float(offset % 2), clock)


def as_rows(said: Sequence[Said]) -> list[Row]:
    return [row_of(offset, said) for offset in range(len(said))]


def as_labels(said: Sequence[Said]) -> list[Label]:
    return [label_of(offset, said) for offset in range(len(said))]


def oracle(scored: Sequence[Row], labels: Sequence[Label]) -> Read:
    """Say what is decided and held once just these were read, by the definition alone: no order of reading in it."""
    horizon = HORIZON * SECOND
    row_clock = max((row.time for row in scored), default=BEFORE_ALL)
    label_clock = max((label.time for label in labels), default=BEFORE_ALL)
    pairs: list[Pair] = []
    waiting = []
    free = list(labels)
    for row in scored:
        may_meet = [x for x in free if x.id == row.id and _in_time(row, x, horizon)]
        if may_meet:
            pairs.append((row, may_meet[0]))
            free.remove(may_meet[0])
        elif row.time + horizon < label_clock:
            pairs.append((row, None))
        else:
            waiting.append(row)
    kept = [label for label in free if label.time + horizon >= row_clock]
    newest = max((row.offset for row in scored), default=BEFORE_ALL)
    return Read(Counter(pairs), State(row_clock, label_clock, newest, waiting, kept))


def _in_time(row: Row, label: Label, horizon: int) -> bool:
    """Whether each was read before the other's wait was over, by the clock of its own input."""
    return label.clock <= row.time + horizon and row.clock <= label.time + horizon


# The join itself


def turns(scored: int, labels: int, drawn: Iterable[tuple[bool, int]]) -> Iterable[tuple[bool, int]]:
    """Yield which input is read next (true: rows) and how much of it, until both are read to their ends."""
    left = {True: scored, False: labels}
    for first, count in [*drawn, (True, scored), (False, labels)]:
        if taken := min(count, left[first]):
            left[first] -= taken
            yield first, taken


def join(scored: Sequence[Row], labels: Sequence[Label], drawn: Sequence[tuple[bool, int]], *, restart: bool) -> Read:
    joined, pairs = Join(HORIZON * SECOND), list[Pair]()
    at = {True: 0, False: 0}
    for first, count in turns(len(scored), len(labels), drawn):
        for place in range(at[first], at[first] + count):
            pairs += joined.add_row(scored[place]) if first else joined.add_label(labels[place])
        at[first] += count
        if restart:
            state = joined.state()
            joined = Join(HORIZON * SECOND)
            joined.load(msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State))
            assert joined.state() == state
    return Read(Counter(pairs), joined.state())


@given(row_log=LOG, label_log=LOG, drawn=TURNS, restart=st.booleans(), spare=st.sampled_from([0, 2, 1000]))
@example(row_log=[("a", 0)], label_log=[("a", 10)], drawn=[], restart=False, spare=0)  # at the horizon
@example(row_log=[("a", 0)], label_log=[("a", 11)], drawn=[], restart=False, spare=0)  # and behind it
@example(row_log=[("a", 10)], label_log=[("a", 0)], drawn=[(False, 1)], restart=True, spare=0)
@example(row_log=[("a", 11)], label_log=[("a", 0)], drawn=[(False, 1)], restart=True, spare=0)
@example(
    row_log=[("a", 0), ("a", 1)], label_log=[("a", 2), ("a", 3)], drawn=[(True, 1), (False, 1)], restart=True, spare=0
)
@settings(deadline=None, max_examples=400)
def test_the_join_is_its_definition(
    row_log: list[Said], label_log: list[Said], drawn: list[tuple[bool, int]], *, restart: bool, spare: int
) -> None:
    """In any interleaving, restarted or not, pairs and state are those of a definition that knows no interleaving."""
    scored, labels = as_rows(row_log), as_labels(label_log)
    with mock.patch.object(services.labels.join, "SPARE", spare):
        assert join(scored, labels, drawn, restart=restart) == oracle(scored, labels)


@given(LOG, LOG, TURNS, st.data())
@settings(deadline=None, max_examples=150)
def test_what_is_written_twice_is_joined_once(
    row_log: list[Said], label_log: list[Said], drawn: list[tuple[bool, int]], data: st.DataObject
) -> None:
    """Rows that an at-least-once writer wrote again, from any of them on, change nothing."""
    scored, labels = as_rows(row_log), as_labels(label_log)
    at = data.draw(st.integers(0, len(scored)), label="written again after")
    since = data.draw(st.integers(0, at), label="from")
    again = [msgspec.structs.replace(row, clock=scored[at - 1].clock) for row in scored[since:at]]
    assert join([*scored[:at], *again, *scored[at:]], labels, drawn, restart=False) == oracle(scored, labels)


@given(LOG, LOG)
@settings(deadline=None, max_examples=150)
def test_every_row_is_decided_once(row_log: list[Said], label_log: list[Said]) -> None:
    """Once the labels' clock is past every horizon each row was paired once, with one label or with none."""
    scored = as_rows(row_log)
    labels = as_labels([*label_log, ("nobody", 1000)])
    found = join(scored, labels, [], restart=False)
    assert Counter(row for (row, _), times in found.pairs.items() for _ in range(times)) == Counter(scored)
    assert found.state.rows == []


# The core around it: batches of rows, JSON labels, examples


def scored_record(offset: int, batch: Sequence[Row]) -> Record:
    columns = [
        pa.array([row.id for row in batch], pa.string()),
        pa.array([row.key for row in batch], pa.string()),
        times(np.array([row.time for row in batch], np.int64)),
        pa.array([row.offset for row in batch], pa.int64()),
        matrix(np.array([np.frombuffer(row.features, np.float32) for row in batch])),
        pa.array([row.served for row in batch], pa.float64()),
        pa.array([{"version": row.version, "score": row.score, "weight": row.weight} for row in batch], SCORE),
    ]
    return Record("made.scored", 0, offset, None, SCORED.encode(columns), headers=SCORED.headers)


def label_record(label: Label) -> Record:
    at = (EPOCH + dt.timedelta(microseconds=label.time)).isoformat()
    value = {"id": label.id, "key": "k", "at": at, "late": bool(label.value)}
    return Record("made.labels", 0, label.offset, b"k", json.dumps(value).encode())


def log_of(scored: Sequence[Row], labels: Sequence[Label], drawn: Sequence[tuple[bool, int]]) -> list[Record]:
    """Interleave: each turn of rows is one record of as many rows, each turn of labels as many records."""
    log, at = list[Record](), {True: 0, False: 0}
    for first, count in turns(len(scored), len(labels), drawn):
        taken = slice(at[first], at[first] + count)
        at[first] += count
        log += [scored_record(len(log), scored[taken])] if first else map(label_record, labels[taken])
    return log


def fold(log: Sequence[Record], cuts: Sequence[int], *, restart: bool) -> tuple[list[Outgoing], Held]:
    core, out = LabelsCore(STREAM, 0), list[Outgoing]()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(log)], strict=True):
        out += core.fold(log[start:end])
        if restart:
            state = core.snapshot()
            core = LabelsCore(STREAM, 0)
            core.restore(state)
            assert core.snapshot() == state
    return out, msgspec.msgpack.decode(core.snapshot(), type=Held)


def _letters(out: Sequence[Outgoing]) -> list[Any]:
    return [json.loads(record.value) for record in out if record.topic == "made.dead-letter"]


def _examples(out: Outgoing) -> list[Any]:
    batch = EXAMPLES.decode(Record(out.topic, 0, 0, None, out.value, headers=out.headers))
    online = batch.column("online")
    columns = [
        *(batch.column(name).to_pylist() for name in ("event_id", "key")),
        micros(batch.column("event_time")).tolist(),
        batch.column("offset").to_pylist(),
        [vector.tobytes() for vector in rows(batch.column("features"))],
        batch.column("served").to_pylist(),
        *(online.field(name).to_pylist() for name in ("version", "score", "weight")),
        batch.column("label").to_pylist(),
        micros(batch.column("label_time")).tolist(),
        batch.column("outcome").to_pylist(),
    ]
    return list(zip(*columns, strict=True))


def unrepeated(labels: Sequence[Label]) -> tuple[list[Label], list[int]]:
    """Return the first label of each id, with the clock that they make, and the offsets of the others."""
    taken, repeated, clock = list[Label](), list[int](), BEFORE_ALL
    for label in labels:
        if label.id in {other.id for other in taken}:
            repeated.append(label.offset)
        else:
            clock = max(clock, label.time)
            taken.append(msgspec.structs.replace(label, clock=clock))
    return taken, repeated


def hours_of(scored: Sequence[Row], read: Read) -> list[tuple[int, list[int]]]:
    """Count all rows, and then all labels that one of them has met."""
    counts, met = Maturity(), [pair for pair in read.pairs.elements() if pair[1] is not None]
    counts.add_rows(np.array([row.time for row in scored], np.int64))
    counts.add_labels(*(np.array([pair[side].time for pair in met], np.int64) for side in (0, 1)))
    return counts.state()


def expected_example(row: Row, label: Label | None) -> Any:
    """Return an example as `_examples` reads it: the row as it was, and its label, or false at the horizon's end."""
    said = (label.value, label.time, "label") if label else (0.0, row.time + HORIZON * SECOND, "timeout")
    return (*msgspec.structs.astuple(row)[:-1], *said)


@given(row_log=LOG, label_log=LOG, drawn=TURNS, cuts=st.lists(st.integers(0, 50), max_size=6), restart=st.booleans())
@settings(deadline=None, max_examples=150)
def test_the_core_is_the_definition_too(
    row_log: list[Said], label_log: list[Said], drawn: list[tuple[bool, int]], cuts: list[int], *, restart: bool
) -> None:
    """However the records interleave and are cut, restarted or not: the same examples, dead letters and state."""
    scored, labels = as_rows(row_log), as_labels(label_log)
    log = log_of(scored, labels, drawn)
    out, held = fold(log, [min(cut, len(log)) for cut in cuts], restart=restart)
    taken, repeated = unrepeated(labels)
    expected = oracle(scored, taken)
    assert held == Held(expected.state, [sorted(label.id for label in taken), []], hours_of(scored, expected))
    assert [(letter["reason"], letter["offset"]) for letter in _letters(out)] == [("duplicate", n) for n in repeated]
    examples = [example for record in out if record.topic == "made.examples" for example in _examples(record)]
    assert Counter(examples) == Counter(expected_example(row, label) for row, label in expected.pairs.elements())
