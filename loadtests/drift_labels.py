"""How soon drift sees that labels changed their meaning, and how often it cries wolf: monitors of what examples tell.

    .venv/bin/python loadtests/drift_labels.py [--seeds N] [--stream flights electricity]

Real events with the scores that the stream's online model gave them before it learned them, in the order in which
labels came. In the *shuffled* rows nothing changes but what is injected: labels are turned round while the scores stay
what they were, as of a model that is frozen. One that learns on gets over a turn by itself, and is found less surely.
Printed is, of each kind of change, how many were found, after how many labelled events, and what was said of slices;
then the alarms where nothing was injected, a budget of one in 100,000 events for all the monitors here together, and
for scale those in the stream's own order, where the world does change. Exit status 1 if a bar is missed.
"""

import argparse
import collections
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from prequential import SCHEMAS, Prequential, prequential

from services.drift.example_rows import SERVED
from services.drift.example_summaries import ExampleReducer
from services.drift.quality import Quality
from services.drift.signals import Signal
from services.runtime.frames import matrix, times
from services.runtime.records import Record
from services.runtime.schemas import BESIDE, SCORE, examples_frame
from services.runtime.stream import Stream, load_stream
from services.runtime.summaries import ExampleSummary

MESSAGE = 5000  # rows
CHANGE, ROWS = 10_000, 16_000  # of a trial: where the change begins, and how many there are
FOUND_WITHIN = 5000  # events after a change began
SLICE = "carrier=EV"
GRADUAL, SPELL = 4000, 1500  # events that a gradual change takes, and that a recurring one lasts
BAR_FOUND, BAR_DELAY, BAR_FALSE = 0.95, 500, 1.0
Turned = Callable[[Prequential, Stream, np.random.Generator], NDArray[np.bool_]]


class Raised(NamedTuple):
    """An alarm: what of, and behind how many labelled events it came."""

    signal: Signal
    rows: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--stream", nargs="+", default=["flights", "electricity"])
    given = parser.parse_args()
    met = [bar for name in given.stream for bar in laboratory(load_stream(SCHEMAS, name), given.seeds)]
    print("every bar is met" if all(met) else "a bar is missed")
    sys.exit(not all(met))


def laboratory(stream: Stream, seeds: int) -> Iterator[bool]:
    whole = prequential(stream)
    print(f"{stream.name}: {len(whole.labels):,} labelled events")
    for kind, turned in KINDS.items():
        if kind != "one slice" or SLICE in stream.columns:
            yield changes(kind, turned, stream, whole, seeds)
    yield quiet(stream, whole, seeds)
    natural(stream, whole)


# What is injected


def everything(rows: Prequential, _: Stream, __: np.random.Generator) -> NDArray[np.bool_]:
    return np.asarray(np.arange(len(rows.labels)) >= CHANGE, np.bool_)


def one_slice(rows: Prequential, stream: Stream, rng: np.random.Generator) -> NDArray[np.bool_]:
    of_slice = np.asarray(rows.vectors[:, stream.columns.index(SLICE)], np.bool_)
    return everything(rows, stream, rng) & of_slice


def gradual(rows: Prequential, _: Stream, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Turn ever more labels, until all are."""
    chance = (np.arange(len(rows.labels)) - CHANGE) / GRADUAL
    return np.asarray(rng.random(len(rows.labels)) < chance)


def recurring(rows: Prequential, _: Stream, __: np.random.Generator) -> NDArray[np.bool_]:
    after = np.arange(len(rows.labels)) - CHANGE
    return np.asarray((after >= 0) & (after // SPELL % 2 == 0), np.bool_)


def some(rows: Prequential, _: Stream, rng: np.random.Generator) -> NDArray[np.bool_]:
    after = np.arange(len(rows.labels)) >= CHANGE
    return np.asarray(after & (rng.random(len(rows.labels)) < 0.2))  # noqa: PLR2004 - a fifth, as its name says


KINDS: dict[str, Turned] = {
    "all labels": everything,
    "a fifth of labels": some,
    "one slice": one_slice,
    "gradual": gradual,
    "recurring": recurring,
}


def changes(kind: str, turned: Turned, stream: Stream, whole: Prequential, seeds: int) -> bool:
    delays, early, named, back = [], 0, 0, 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rows = shuffled(whole, rng, ROWS)
        flips = turned(rows, stream, rng)
        rows = rows._replace(labels=np.where(flips, 1 - rows.labels, rows.labels))
        raised = alarms(stream, rows)
        loss = [one for one in raised if (one.signal.kind, one.signal.subject) == ("loss", SERVED)]
        early += sum(one.rows <= CHANGE for one in raised)
        found = [one for one in loss if CHANGE < one.rows <= CHANGE + FOUND_WITHIN]
        delays += [one.rows - CHANGE for one in found[:1]]
        said = {one.signal.slice or (one.signal.slices[0].name if one.signal.slices else "") for one in found}
        named += SLICE in said
        back += any(one.rows > CHANGE + 2 * SPELL for one in loss)
    share, delay = len(delays) / seeds, statistics.median(delays) if delays else float("inf")
    also = {"one slice": f", {SLICE} named in {named}", "recurring": f", again in {back}"}.get(kind, "")
    print(f"  {kind:<18} found {len(delays)}/{seeds}, median delay {delay:,.0f} events{also}, {early} alarms before")
    return share >= BAR_FOUND and (kind == "gradual" or delay <= BAR_DELAY)


def quiet(stream: Stream, whole: Prequential, seeds: int) -> bool:
    found: collections.Counter[str] = collections.Counter()
    for seed in range(seeds):
        rows = shuffled(whole, np.random.default_rng(1000 + seed), len(whole.labels))
        found.update(named(one.signal) for one in alarms(stream, rows))
    events = seeds * len(whole.labels)
    rate = found.total() / events * 1e5
    print(f"  nothing, shuffled: {found.total()} alarms in {events:,} events, {rate:.2f} in 100,000: {dict(found)}")
    return rate <= BAR_FALSE


def natural(stream: Stream, whole: Prequential) -> None:
    start = time.perf_counter()
    raised = alarms(stream, whole)
    took = (time.perf_counter() - start) / len(whole.labels) * 1e6
    found = collections.Counter(named(one.signal) for one in raised)
    print(f"  in its own order: {len(raised)} alarms: {dict(found)}; {took:.2f} µs an event, all of this included")
    summaries = list(summarised(stream, whole))
    quality = Quality(stream, 0.5)
    start = time.perf_counter()
    for summary in summaries:
        quality.fold(msgspec.msgpack.decode(summary, type=ExampleSummary))
    took = (time.perf_counter() - start) / len(whole.labels) * 1e6
    print(f"  the monitors alone, of two models: {took:.2f} µs an event")


def named(signal: Signal) -> str:
    return f"{signal.kind} {signal.subject} {signal.slice}".strip()


# The monitors


def shuffled(whole: Prequential, rng: np.random.Generator, count: int) -> Prequential:
    """Return so many rows in any order, each with its own delay, at times in their order."""
    places = rng.permutation(len(whole.labels))[:count]
    rows, at = whole.pick(places), np.sort(whole.times)[:count]
    return rows._replace(times=at, label_times=at + rows.label_times - rows.times)


def alarms(stream: Stream, rows: Prequential) -> list[Raised]:
    """Return what is raised, each alarm once while it stands."""
    quality, found, standing = Quality(stream, 1.0), [], set()
    seen = 0
    for encoded in summarised(stream, rows):
        summary = msgspec.msgpack.decode(encoded, type=ExampleSummary)
        signals = quality.fold(summary) + quality.fold_scores(summary.source, rows.scores[seen : seen + summary.rows])
        seen += summary.rows
        for signal in signals:
            name = named(signal)
            if signal.on and name not in standing:
                standing.add(name)
                found.append(Raised(signal, seen))
            elif signal.calm:
                standing.discard(name)
    return found


def summarised(stream: Stream, rows: Prequential) -> Iterator[bytes]:
    reducer = ExampleReducer(stream, 0)
    for number, first in enumerate(range(0, len(rows.labels), MESSAGE)):
        yield from reducer.fold(
            message(stream, rows.pick(np.arange(first, min(first + MESSAGE, len(rows.labels)))), number)
        )


def message(stream: Stream, rows: Prequential, number: int) -> Record:
    """Return a message of `examples`: what was served is what the online model said."""
    n, frame = len(rows.labels), examples_frame(stream)
    one, none = pa.array(np.ones(n, np.int64)), pa.array(np.full(n, "k"))
    columns = [
        none,
        none,
        times(rows.times),
        pa.array(np.arange(n)),
        matrix(rows.vectors),
        pa.array(rows.scores),
        pa.StructArray.from_arrays([one, pa.array(rows.scores), pa.array(np.ones(n))], fields=list(SCORE)),
        pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), pa.array([], BESIDE.value_type)),
        pa.array(np.zeros(n, np.int32)),
        pa.array(rows.labels),
        times(rows.label_times),
        pa.array(np.full(n, "label")),
        pa.nulls(n, pa.float64()),
    ]
    return Record(stream.topic("examples"), 0, number, None, frame.encode(columns), headers=frame.headers)


if __name__ == "__main__":
    main()
