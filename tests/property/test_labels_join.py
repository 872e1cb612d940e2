"""The law of the join: what it holds and what it decided depend on how far each input was read, and on nothing else."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import services.labels.early
from services.labels.core import Held, LabelsCore
from services.labels.early import Label
from services.labels.in_memory import InMemory, Segments
from services.labels.join import BEFORE_ALL, Join, State
from services.labels.maturity import Maturity
from services.labels.rows import DONE, NEVER, TOLD
from services.runtime.frames import matrix, micros, rows, times
from services.runtime.grammar import Duration, LabelRule, OnlineRule, Pipeline, StreamRule, Value
from services.runtime.quality import Quality
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import BESIDE, SCORE, examples_frame, scored_frame
from services.runtime.stream import Stream
from tests.former.join import Decided, Life, Row
from tests.former.join import State as Kept

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


def corrected(stream: Stream, seconds: int | None) -> Stream:
    """Return the stream with labels that may be corrected for so long."""
    rule = replace(stream.pipeline.label, corrections=None if seconds is None else Duration(f"{seconds}s"))
    return replace(stream, pipeline=replace(stream.pipeline, label=rule))


Said = tuple[str, int]  # an id, and a time in seconds
SAID = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-15, 45)), max_size=25)
IN_ORDER = SAID.map(lambda said: sorted(said, key=lambda one: one[1]))
LOG = st.one_of(SAID, IN_ORDER)
CORRECTIONS = st.sampled_from([None, HORIZON, HORIZON + 5, 30])
TURNS = st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=40)


class Read(NamedTuple):
    """What was decided, and what is held."""

    decided: Counter[Decided]
    state: Kept


# The two logs, as rows and labels of the join


def row_of(offset: int, said: Sequence[Said]) -> Row:
    name, seconds = said[offset]
    clock = max(time for _, time in said[: offset + 1]) * SECOND
    vector = np.array([offset + 0.5], np.float32).tobytes()
    return Row(
        name, "k", seconds * SECOND, offset, vector, 0.25, offset // 3, 0.75, 1.0, tuple(range(offset % 3)), clock
    )


def label_of(offset: int, said: Sequence[Said]) -> Label:
    name, seconds = said[offset]
    clock = max(time for _, time in said[: offset + 1]) * SECOND
    return Label(name, seconds * SECOND, offset, float(offset % 2), clock)


def as_rows(said: Sequence[Said]) -> list[Row]:
    return [row_of(offset, said) for offset in range(len(said))]


def as_labels(said: Sequence[Said]) -> list[Label]:
    return [label_of(offset, said) for offset in range(len(said))]


def oracle(scored: Sequence[Row], labels: Sequence[Label], corrections: int | None = None) -> Read:
    """Say what is decided and held once just these were read, by the definition alone: no order of reading in it."""
    horizon = HORIZON * SECOND
    hears = horizon if corrections is None else corrections * SECOND
    row_clock = max((row.time for row in scored), default=BEFORE_ALL)
    label_clock = max((label.time for label in labels), default=BEFORE_ALL)
    heard: dict[int, list[Label]] = {row.offset: [] for row in scored}
    free = []
    for label in labels:
        rows = (row for row in scored if row.id == label.id and _may_meet(row, label, horizon, hears))
        row = next((row for row in rows if corrections is not None or not heard[row.offset]), None)
        (heard[row.offset] if row else free).append(label)
    decided = [one for row in scored for one in life(row, heard[row.offset], label_clock, horizon)]
    waiting = [row for row in scored if row not in [one.row for one in decided]]
    truths = {one.row.offset: Life(one.row, one.label) for one in decided}  # the last that was said
    lives = [one for one in truths.values() if corrections is not None and one.time + hears >= label_clock]
    kept = [label for label in free if label.time + horizon >= row_clock]
    said = Counter[str](one.outcome for one in decided)
    told = sum(map(len, heard.values()))
    vain = {"superseded": told - said["label"] - said["late"] - said["corrected"], "unmet": len(free) - len(kept)}
    totals = {outcome: said[outcome] for outcome in ("label", "timeout", "late", "corrected")} | vain
    newest = max((row.offset for row in scored), default=BEFORE_ALL)
    return Read(Counter(decided), Kept(row_clock, label_clock, newest, waiting, lives, kept, totals))


def life(row: Row, heard: Sequence[Label], label_clock: int, horizon: int) -> Iterable[Decided]:
    """Say what becomes of a row that is told these labels, in this order."""
    truth = None
    if heard and heard[0].clock <= row.time + horizon:
        truth, *heard = heard
        yield Decided("label", row, truth)
    elif row.time + horizon < label_clock:
        yield Decided("timeout", row, None)
    for label in heard:
        if truth is None:
            yield Decided("late", row, label)
        elif label.time >= truth.time:
            yield Decided("corrected", row, label, truth)
        else:
            continue
        truth = label


def _may_meet(row: Row, label: Label, horizon: int, hears: int) -> bool:
    """Whether each was read before the other's wait was over, by the clock of its own input."""
    return label.clock <= row.time + hears and row.clock <= label.time + horizon


# The join itself


def turns(scored: int, labels: int, drawn: Iterable[tuple[bool, int]]) -> Iterable[tuple[bool, int]]:
    """Yield which input is read next (true: rows) and how much of it, until both are read to their ends."""
    left = {True: scored, False: labels}
    for first, count in [*drawn, (True, scored), (False, labels)]:
        if taken := min(count, left[first]):
            left[first] -= taken
            yield first, taken


def batch_of(found: Sequence[Row]) -> pa.RecordBatch:
    columns = [
        pa.array([row.id for row in found], pa.string()),
        pa.array([row.key for row in found], pa.string()),
        times(np.array([row.time for row in found], np.int64)),
        pa.array([row.offset for row in found], pa.int64()),
        matrix(np.array([np.frombuffer(row.features, np.float32) for row in found])),
        pa.array([row.served for row in found], pa.float64()),
        pa.array([{"version": row.version, "score": row.score, "weight": row.weight} for row in found], SCORE),
        pa.array([[{"version": version} for version in row.batch] for row in found], BESIDE),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCORED.schema)


def rows_of(joined: Join, slots: Sequence[int]) -> list[Row]:
    """Return the rows in these slots as they were added."""
    if not slots:
        return []
    batch = joined.rows.take(np.array(slots, np.int64), SCORED.schema.names)
    return list(map(Row, *row_columns(batch), joined.rows.columns["clock"][slots].tolist()))


def row_columns(batch: pa.RecordBatch) -> list[list[Any]]:
    online = batch.column("online")
    return [
        *(batch.column(name).to_pylist() for name in ("event_id", "key")),
        micros(batch.column("event_time")).tolist(),
        batch.column("offset").to_pylist(),
        [vector.tobytes() for vector in rows(batch.column("features"))],
        batch.column("served").to_pylist(),
        *(online.field(name).to_pylist() for name in ("version", "score", "weight")),
        [tuple(one["version"] for one in said) for said in batch.column("batch").to_pylist()],
    ]


class Spans(NamedTuple):
    """What a join is made for: how long it waits, and how its rows are kept."""

    corrections: int | None = None
    page: int = 4
    hashed: Callable[[str], int] = hash

    def join(self, segments: Segments) -> Join:
        corrections = None if self.corrections is None else self.corrections * SECOND
        return Join(SCORED.schema, HORIZON * SECOND, corrections, segments, page=self.page, hashed=self.hashed)


def kept(state: State, segments: Segments, spans: Spans) -> Kept:
    """Return what a state holds, whatever page it is on; of a truth, time and value alone."""
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
    joined = spans.join(segments)
    joined.load(state)
    columns = joined.rows.columns
    slots = sorted(np.flatnonzero(columns["state"] != DONE).tolist(), key=lambda slot: columns["offset"][slot])
    assert len(slots) == len(joined.rows)
    told = [slot for slot in slots if columns["state"][slot] == TOLD]
    lives = [
        Life(
            row, None if columns["told_at"][slot] == NEVER else told_of(columns["told_at"][slot], columns["told"][slot])
        )
        for slot, row in zip(told, rows_of(joined, told), strict=True)
    ]
    waiting = rows_of(joined, [slot for slot in slots if slot not in told])
    return Kept(state.row_clock, state.label_clock, state.row_offset, waiting, lives, state.labels, state.totals)


def told_of(time: int, value: float) -> Label:
    """Return a label of which no more is known."""
    return Label("", int(time), 0, float(value), 0)


def brief(read: Read) -> Read:
    """Return the same, with labels of which no more is known than is held."""
    decided = Counter(map(_brief, read.decided.elements()))
    lives = [Life(life.row, life.truth and told_of(life.truth.time, life.truth.value)) for life in read.state.lives]
    return Read(decided, replace(read.state, lives=lives))


def _brief(one: Decided) -> Decided:
    label, before = one.label, one.retracted
    return Decided(
        one.outcome, one.row, label and told_of(label.time, label.value), before and told_of(0, before.value)
    )


def decisions(joined: Join, found: Sequence[Any]) -> list[Decided]:
    """Return what the join said, each with its row."""
    return [
        Decided(
            one.outcome,
            row,
            None if one.time is None else told_of(one.time, one.value),
            None if one.retracted is None else told_of(0, one.retracted),
        )
        for one, row in zip(found, rows_of(joined, [one.slot for one in found]), strict=True)
    ]


PLAIN = Spans()


def join(
    scored: Sequence[Row],
    labels: Sequence[Label],
    drawn: Sequence[tuple[bool, int]],
    *,
    restart: bool,
    spans: Spans = PLAIN,
) -> Read:
    segments = InMemory()
    joined, decided = spans.join(segments), list[Decided]()
    at = {True: 0, False: 0}
    for first, count in turns(len(scored), len(labels), drawn):
        for start in range(at[first], at[first] + count, spans.page):
            part = slice(start, min(start + spans.page, at[first] + count))
            said = joined.add_rows(batch_of(scored[part])) if first else joined.add_labels(labels[part])
            decided += decisions(joined, said)
        at[first] += count
        if restart:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(joined.state()), type=State)
            before = kept(state, segments, spans)
            joined = spans.join(segments)
            joined.load(state)
            assert kept(joined.state(), segments, spans) == before
    return Read(Counter(decided), kept(joined.state(), segments, spans))


SPANS = st.builds(
    Spans, CORRECTIONS, st.sampled_from([4, 8, 1000]), st.sampled_from([hash, lambda name: ord(name) % 2])
)


def edge(scored: list[Said], labels: list[Said], drawn: Any = (), corrections: int | None = None) -> Any:
    """Have a case tried that chance may miss."""
    turned = {"drawn": list(drawn), "restart": bool(drawn), "spare": 0, "spans": Spans(corrections)}
    return example(row_log=scored, label_log=labels, **turned)


@given(
    row_log=LOG,
    label_log=LOG,
    drawn=TURNS,
    restart=st.booleans(),
    spare=st.sampled_from([0, 2, 1000]),
    spans=SPANS,
)
@edge([("a", 0)], [("a", 10)])  # at the horizon
@edge([("a", 0)], [("a", 11)])  # and behind it
@edge([("a", 10)], [("a", 0)], [(False, 1)])
@edge([("a", 11)], [("a", 0)], [(False, 1)])
@edge([("a", 0), ("a", 1)], [("a", 2), ("a", 3)], [(True, 1), (False, 1)])
@edge([("a", 0), ("a", -1)], [("a", 11)], corrections=15)  # given up in another order than they came in
@settings(deadline=None, max_examples=400)
def test_the_join_is_its_definition(
    row_log: list[Said],
    label_log: list[Said],
    drawn: list[tuple[bool, int]],
    *,
    restart: bool,
    spare: int,
    spans: Spans,
) -> None:
    """In any interleaving, restarted or not, outcomes and state are those of a definition that knows none."""
    scored, labels = as_rows(row_log), as_labels(label_log)
    with mock.patch.object(services.labels.early, "SPARE", spare):
        found = join(scored, labels, drawn, restart=restart, spans=spans)
    assert found == brief(oracle(scored, labels, spans.corrections))


@given(LOG, LOG, TURNS, st.data())
@settings(deadline=None, max_examples=150)
def test_what_is_written_twice_is_joined_once(
    row_log: list[Said], label_log: list[Said], drawn: list[tuple[bool, int]], data: st.DataObject
) -> None:
    """Rows that an at-least-once writer wrote again, from any of them on, change nothing."""
    scored, labels = as_rows(row_log), as_labels(label_log)
    at = data.draw(st.integers(0, len(scored)), label="written again after")
    since = data.draw(st.integers(0, at), label="from")
    again = [replace(row, clock=scored[at - 1].clock) for row in scored[since:at]]
    assert join([*scored[:at], *again, *scored[at:]], labels, drawn, restart=False) == brief(oracle(scored, labels))


@given(LOG, LOG)
@settings(deadline=None, max_examples=150)
def test_every_row_is_decided_once(row_log: list[Said], label_log: list[Said]) -> None:
    """Once the labels' clock is past every horizon each row was decided once, with one label or with none."""
    scored = as_rows(row_log)
    labels = as_labels([*label_log, ("nobody", 1000)])
    found = join(scored, labels, [], restart=False)
    assert Counter(one.row for one in found.decided.elements()) == Counter(scored)
    assert (found.state.rows, found.state.lives) == ([], [])


# The core around it: batches of rows, JSON labels, examples


def scored_record(offset: int, batch: Sequence[Row]) -> Record:
    value = SCORED.encode(batch_of(batch).columns)
    return Record("made.scored", 0, offset, None, value, headers=SCORED.headers)


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


def fold(
    log: Sequence[Record], cuts: Sequence[int], spans: Spans, *, restart: bool, stream: Stream = STREAM
) -> tuple[list[Outgoing], Held, Kept]:
    segments = InMemory()
    core, out = LabelsCore(stream, 0, segments, spans.page), list[Outgoing]()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(log)], strict=True):
        out += core.fold(log[start:end])
        if restart:
            state = core.snapshot()
            core = LabelsCore(stream, 0, segments, spans.page)
            core.restore(state)
    held = msgspec.msgpack.decode(core.snapshot(), type=Held)
    return out, held, kept(held.join, segments, spans)


def _letters(out: Sequence[Outgoing]) -> list[Any]:
    return [json.loads(record.value) for record in out if record.topic == "made.dead-letter"]


def _examples(out: Outgoing) -> list[Any]:
    batch = EXAMPLES.decode(Record(out.topic, 0, 0, None, out.value, headers=out.headers))
    columns = [
        *row_columns(batch),
        batch.column("label").to_pylist(),
        micros(batch.column("label_time")).tolist(),
        batch.column("outcome").to_pylist(),
        batch.column("retracts").to_pylist(),
    ]
    return list(zip(*columns, strict=True))


def unrepeated(labels: Sequence[Label], names: Sequence[str]) -> tuple[list[Label], list[int]]:
    """Return the first label of each name, with the clock that they make, and the offsets of the others."""
    taken, repeated, clock = list[Label](), list[int](), BEFORE_ALL
    for label, name in zip(labels, names, strict=True):
        if name in names[: label.offset]:
            repeated.append(label.offset)
        else:
            clock = max(clock, label.time)
            taken.append(replace(label, clock=clock))
    return taken, repeated


def hours_of(scored: Sequence[Row], read: Read) -> list[tuple[int, list[int]]]:
    """Count all rows, and then all labels that one of them has met."""
    counts, met = Maturity(), [one for one in read.decided.elements() if one.outcome in ("label", "late")]
    counts.add_rows(np.array([row.time for row in scored], np.int64))
    event_times, label_times = (np.array([getattr(one, side).time for one in met]) for side in ("row", "label"))
    counts.add_labels(event_times.astype(np.int64), label_times.astype(np.int64))
    return counts.state()


def quality_of(read: Read) -> Quality:
    """Count, of each row, the label that holds: the one that no other retracts."""
    quality, decided = Quality(), list(read.decided.elements())
    retracted = [(one.row.offset, one.retracted) for one in decided if one.retracted]
    for one in decided:
        if one.label and (one.row.offset, one.label) not in retracted:
            quality.count(one.row.served, one.label.value)
    return quality


def expected_example(one: Decided) -> Any:
    """Return an example as `_examples` reads it: the row, what is said of it, or no at the horizon's end, and was."""
    label, before = one.label, one.retracted
    said = (label.value, label.time) if label else (0.0, one.row.time + HORIZON * SECOND)
    retracts = before.value if before else {"late": 0.0}.get(one.outcome)
    return (*msgspec.structs.astuple(one.row)[:-1], *said, one.outcome, retracts)


@given(
    row_log=LOG,
    label_log=LOG,
    drawn=TURNS,
    cuts=st.lists(st.integers(0, 50), max_size=6),
    restart=st.booleans(),
    spans=SPANS,
)
@settings(deadline=None, max_examples=200)
def test_the_core_is_the_definition_too(
    row_log: list[Said],
    label_log: list[Said],
    drawn: list[tuple[bool, int]],
    cuts: list[int],
    *,
    restart: bool,
    spans: Spans,
) -> None:
    """However the records interleave and are cut, restarted or not: the same examples, dead letters and state."""
    scored, labels = as_rows(row_log), as_labels(label_log)
    log = log_of(scored, labels, drawn)
    cuts = [min(cut, len(log)) for cut in cuts]
    corrections = spans.corrections
    out, held, state = fold(
        log, cuts, Spans(corrections, spans.page), restart=restart, stream=corrected(STREAM, corrections)
    )
    names = [x.id if corrections is None else f"{bool(x.value)} {x.time} {x.id}" for x in labels]
    taken, repeated = unrepeated(labels, names)
    expected = oracle(scored, taken, corrections)
    ids, quality = [sorted(set(names)), []], quality_of(expected)
    assert state == brief(expected).state
    assert (held.ids, held.hours, held.quality) == (ids, hours_of(scored, expected), quality.state())
    assert [(letter["reason"], letter["offset"]) for letter in _letters(out)] == [("duplicate", n) for n in repeated]
    examples = [example for record in out if record.topic == "made.examples" for example in _examples(record)]
    assert Counter(examples) == Counter(map(expected_example, expected.decided.elements()))
