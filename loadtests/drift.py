"""The drift laboratory: how soon each kind of change is found, what is named for it, and how often it cries wolf.

    .venv/bin/python loadtests/drift.py [--streams flights electricity] [--seeds N] [--driftless EVENTS] [--natural]

A real stream's rows are shuffled, so that nothing changes, and then a labelled change begins at a known event: of a
field before features are made of it, which field being chosen by the seed. A shift is of one robust deviation
(IQR / 1.349), in one slice of two. Of each stream's kinds are printed: found within 6,000 events, the delay, false
alarms, and what the first alert ranks first: `own` where it is the changed field's own column, `derived` where it is
that or a feature that is made of it; `slice` where a named slice is the changed one. A change of labels alone is looked
for in `examples`, all else in `scored`; `drift_labels.py` has more on labels. `--driftless` shuffles that many events
and changes nothing; `--natural` tells what is raised in the stream's own order.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from drift_labels import message
from numpy.random import Generator
from numpy.typing import NDArray
from prequential import Prequential
from worlds import BATCH, Floats, Model, World, fit, load, messages, shuffled, vectors

from services.drift.core import DriftCore, ExampleReducer, ScoredReducer
from services.runtime.alerts import Alert
from services.runtime.records import Record

BEFORE, AFTER = 12_000, 6_000
RAMP, ON_OFF = 3_000, 1_000  # events in which a gradual change comes about; of a recurring one, on and off
IQR = 1.349  # normal deviations
SHARE = 0.1  # of the events: the least that a slice has
FACTORS = (60.0, 1.609344, 0.4536, 1000.0, 0.001)  # minutes and seconds, miles and km, pounds and kg, kilo and milli


@dataclass(frozen=True)
class Change:
    """A world that changes at event `start`, in `field` ("" where it is none's), and what may be said of it."""

    world: World
    start: int
    field: str
    slice: str = ""
    of_labels: bool = False  # nothing of it is in `scored`


Injection: TypeAlias = Callable[[World, int, Generator], Change]


def abrupt(world: World, start: int, rng: Generator) -> Change:
    return _shift(world, start, rng, lambda events: np.ones(len(events)))


def gradual(world: World, start: int, rng: Generator) -> Change:
    return _shift(world, start, rng, lambda events: np.minimum(events / RAMP, 1))


def recurring(world: World, start: int, rng: Generator) -> Change:
    return _shift(world, start, rng, lambda events: (events // ON_OFF + 1) % 2)


def _shift(world: World, start: int, rng: Generator, grows: Callable[[Floats], Floats]) -> Change:
    field = rng.choice(world.numbers)
    values = world.columns[field].astype(np.float64)
    values[start:] += _deviation(values) * grows(np.arange(len(world) - start, dtype=np.float64))
    return Change(world.with_column(field, values), start, field)


def features_only(world: World, start: int, rng: Generator) -> Change:
    """Covariate shift: four in five events come from the upper third by a field, each with its own label."""
    field = rng.choice(world.numbers)
    values = world.columns[field].astype(np.float64)
    upper = np.flatnonzero(values >= np.quantile(values, 2 / 3))
    rows = np.arange(len(world))
    mine = start + np.flatnonzero(rng.random(len(world) - start) < 0.8)  # noqa: PLR2004 - four in five
    rows[mine] = rng.choice(upper, len(mine))
    return Change(world.take(rows, world.at), start, field)


def slice_only(world: World, start: int, rng: Generator) -> Change:
    """Two deviations for one carrier of flights; for electricity, in the lowest third of another field."""
    field = rng.choice(world.numbers)
    values = world.columns[field].astype(np.float64)
    name, mine = _slice(world, field, rng)
    mine[:start] = False
    values[mine] += 2 * _deviation(values)
    return Change(world.with_column(field, values), start, field, name)


def _slice(world: World, field: str, rng: Generator) -> tuple[str, NDArray[np.bool_]]:
    if "carrier" in world.columns:
        names, counts = np.unique(world.columns["carrier"].astype(str), return_counts=True)
        carrier = str(rng.choice(names[counts >= SHARE * len(world)]))
        return f"carrier={carrier}", np.asarray(world.columns["carrier"].astype(str) == carrier)
    other = world.columns[rng.choice([name for name in world.numbers if name != field])].astype(np.float64)
    return "", np.asarray(other <= np.quantile(other, 1 / 3))


def unit(world: World, start: int, rng: Generator) -> Change:
    field = rng.choice(world.numbers)
    values = world.columns[field].astype(np.float64)
    values[start:] *= rng.choice(FACTORS)
    return Change(world.with_column(field, values), start, field)


def stuck(world: World, start: int, rng: Generator) -> Change:
    field = rng.choice(world.numbers)
    values = world.columns[field].astype(np.float64)
    values[start:] = values[start - 1]
    return Change(world.with_column(field, values), start, field)


def nulls(world: World, start: int, rng: Generator) -> Change:
    """Make a field null in three of ten events."""
    field = rng.choice(world.numbers)
    values = world.columns[field].astype(np.float64)
    values[start + np.flatnonzero(rng.random(len(world) - start) < 0.3)] = np.nan  # noqa: PLR2004 - three in ten
    return Change(world.with_column(field, values), start, field)


def volume_drop(world: World, start: int, rng: Generator) -> Change:
    """Of ten events three come."""
    kept = np.flatnonzero((np.arange(len(world)) < start) | (rng.random(len(world)) < 0.3))  # noqa: PLR2004
    return Change(world.take(kept, world.at[kept]), start, "")


def label_only(world: World, start: int, _: Generator) -> Change:
    """Turn labels round."""
    labels = world.labels.copy()
    labels[start:] = 1 - labels[start:]
    return Change(replace(world, labels=labels), start, "", of_labels=True)


INJECTIONS: dict[str, Injection] = {
    "abrupt": abrupt,
    "gradual": gradual,
    "recurring": recurring,
    "features only": features_only,
    "one slice": slice_only,
    "unit": unit,
    "stuck": stuck,
    "nulls": nulls,
    "volume": volume_drop,
    "label only": label_only,
}


def _deviation(values: Floats) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / IQR or float(values.std())


@dataclass
class Outcome:
    """What a run said: the first alert after the change and its delay, and how many were raised before it."""

    delay: int | None
    kind: str
    own: bool
    derived: bool
    sliced: bool
    false_alarms: int


def outcome(change: Change, model: Model) -> Outcome:
    at = change.world.at
    found = run_labels(change.world, model) if change.of_labels else run(change.world, model)
    raised = [alert for alert in found if alert.event == "raised"]
    true = [alert for alert in raised if alert.at.time >= at[change.start]]
    false = len(raised) - len(true)
    if not true:
        return Outcome(None, "", own=False, derived=False, sliced=False, false_alarms=false)
    first = true[0]
    delay = int(np.searchsorted(at, first.at.time, side="right")) - change.start
    named = [one.name for alert in true if alert.at == first.at for one in alert.features[:1]]
    own, derived = _columns(change)
    sliced = bool(change.slice) and change.slice in {one.name for alert in true for one in alert.slices[:1]}
    return Outcome(delay, first.kind, bool(own & set(named)), bool(derived & set(named)), sliced, false)


def _columns(change: Change) -> tuple[set[str], set[str]]:
    """Return the columns that are the changed field, and all that are made of it."""
    of = {name: (op, getattr(op, "of", None)) for name, op in change.world.stream.pipeline.features.items()}
    made = {name for name, (_, field) in of.items() if field == change.field}
    return {name for name in made if type(of[name][0]).__name__ == "Value"}, made


def run(world: World, model: Model) -> list[Alert]:
    x = vectors(world)
    reducer, core = ScoredReducer(world.stream, 0), DriftCore(world.stream)
    summaries = (summary for record in messages(world, x, model(x)) for summary in reducer.fold(record))
    return [alert for summary in summaries for alert in core.fold(summary)]


def run_labels(world: World, model: Model) -> list[Alert]:
    """Give each event its label at once; those that have none are not in `examples`."""
    known = np.flatnonzero(~np.isnan(world.labels))
    x = vectors(world)
    rows = Prequential(x, model(x), world.labels, world.at, world.at).pick(known)
    reducer, core = ExampleReducer(world.stream, 0), DriftCore(world.stream)
    summaries = (summary for record in _labelled(world, rows) for summary in reducer.fold(record))
    return [alert for summary in summaries for alert in core.fold(summary)]


def _labelled(world: World, rows: Prequential) -> Iterator[Record]:
    for number, start in enumerate(range(0, len(rows.labels), BATCH)):
        yield message(world.stream, rows.pick(np.arange(start, min(start + BATCH, len(rows.labels)))), number)


def laboratory(name: str, world: World, model: Model, seeds: int) -> None:
    print(f"{name}: {len(INJECTIONS)} kinds x {seeds} seeds, a change after {BEFORE:,} shuffled events")
    print("  kind            found   delay: median   worst   own first   derived first   slice   told by")
    false_alarms = {}
    for kind, inject in INJECTIONS.items():
        outcomes = []
        for seed in range(seeds):
            print(f"\r{name} {kind} {seed + 1}/{seeds}   ", end="", file=sys.stderr, flush=True)
            rng = np.random.default_rng([seed, 1])
            driftless = shuffled(world, seed, BEFORE + 100 + AFTER)
            change = inject(driftless, BEFORE + int(rng.integers(100)), rng)
            outcomes.append(outcome(change, model))
            false_alarms[seed, change.of_labels] = outcomes[-1].false_alarms  # the same for all kinds
        _print(kind, outcomes)
    events = BEFORE * seeds
    rate = sum(false_alarms.values()) / events * 100_000
    print(f"  false alarms in the {events:,} events before: {sum(false_alarms.values())}, {rate:.2f} per 100,000")


def _print(kind: str, outcomes: list[Outcome]) -> None:
    found = [one for one in outcomes if one.delay is not None]
    delays = [one.delay for one in found if one.delay is not None] or [0]
    own, derived = sum(one.own for one in found), sum(one.derived for one in found)
    sliced = sum(one.sliced for one in found)
    told = {name: sum(one.kind == name for one in found) for name in sorted({one.kind for one in found})}
    share = f"{len(found)}/{len(outcomes)}"
    median = statistics.median(delays)
    print(
        f"\r  {kind:<14} {share:>6} {median:>15,.0f} {max(delays):>7,} {own:>11} {derived:>15} {sliced:>7}   {told}",
        flush=True,
    )


def quiet(name: str, world: World, model: Model, events: int) -> None:
    """Print what is raised where nothing changes."""
    raised, done, seed = 0, 0, 1000
    while done < events:
        size = min(events - done, 2 * len(world))
        alerts = [alert for alert in run(shuffled(world, seed, size), model) if alert.event == "raised"]
        for alert in alerts:
            print(f"\r  {name}: false alarm: {alert.kind} at {alert.at.offset}: {alert.reason}")
        raised, done, seed = raised + len(alerts), done + size, seed + 1
    print(f"{name}: {raised} false alarms in {done:,} driftless events, {raised / done * 100_000:.2f} per 100,000")


def natural(name: str, world: World, model: Model) -> None:
    """Print what is raised in the stream's own order."""
    raised = [alert for alert in run(world, model) if alert.event == "raised"]
    per = len(raised) / len(world) * 100_000
    print(f"{name} in its own order: {len(raised)} alerts in {len(world):,} events, {per:.1f} per 100,000")
    for alert in raised:
        row = int(np.searchsorted(world.at, alert.at.time))
        print(f"  {row:>7} {alert.kind:<12} {alert.reason[:140]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", nargs="+", default=["flights", "electricity"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--driftless", type=int, default=300_000)
    parser.add_argument("--natural", action="store_true")
    given = parser.parse_args()
    for name in given.streams:
        print(f"reading {name} …", file=sys.stderr)
        world = load(name)
        model = fit(vectors(world), world.labels)
        if given.seeds:
            laboratory(name, world, model, given.seeds)
        if given.driftless:
            quiet(name, world, model, given.driftless)
        if given.natural:
            natural(name, world, model)


if __name__ == "__main__":
    main()
