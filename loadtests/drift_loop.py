"""Whether the loop heals what a change has broken: labels turned round, with the loop, and without it.

    .venv/bin/python loadtests/drift_loop.py [--stream S ...] [--rate N] [--report FILE]

A whole Thalweg plays a recorded stream, and after some events the labels of all others are turned round. It is played
three times: undisturbed, which tells the old level of each part of the stream; turned, without the loop, which is
`on_alert = false` and `renew = false`; turned, with it. Nobody touches anything. While a version is trained the events
wait, since in life hardly any come in those seconds. The served log loss is counted by labelled events and held against
the undisturbed run's on the same ones, since what can be known differs from week to week by more than 5 %. It is back
after the first 2,000 that lose at most 5 % more, if all that follow them do no worse.

`--detector plain` lets a sum of what is lost beyond the usual raise an alert on the loss, in place of the service: it
shows what the loop does once an alert is there.

Written are both curves as JSON and as a page with a picture. Exit status 1 if the loop does not bring the loss back, or
no sooner than it comes back without, or any event has not exactly one prediction.
"""

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from plain_alerts import Plain

from infra.local.curves import Curve, page
from infra.local.demo import PROMPT, Trainings, play
from infra.local.ledger import Ledger
from infra.local.progress import Progress
from infra.local.quality import losses
from infra.local.repairs import Repair, Repairs, Told, line
from infra.local.replayer import Replayer, Sent, Timed, records, turned
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.stream import load_stream

SCHEMAS = REPOSITORY / "schemas"
PLAYED = {"flights": (20_000, 34_000), "electricity": (25_000, 37_000)}  # events before labels turn, and in all
WINDOW, STEP, BAR = 2000, 250, 1.05
SLICE = 100  # records sent at once
RUNS = ("undisturbed", "without the loop", "with the loop")


class Played(msgspec.Struct):
    """A run: the served log loss of its labelled events, in the order in which labels were sent, and what was done."""

    losses: list[float]
    alerts: list[Repair]
    first: int  # labelled events before the first that is turned
    clean: bool


class Judged(NamedTuple):
    """Mean losses: before the turn, of the worst window after it; and after how many labelled events it is back."""

    before: float
    worst: float
    back: int | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", action="append", choices=sorted(PLAYED), help="one of them alone (both)")
    parser.add_argument("--rate", type=float, default=400, help="events a second (400)")
    parser.add_argument("--broker", default="embedded")
    parser.add_argument("--detector", choices=("service", "plain"), default="service", help="who sees it (service)")
    parser.add_argument("--report", type=Path, default=Path("drift_loop.json"), help="and .html beside it")
    given = parser.parse_args()
    found = {stream: {run: play_one(given, stream, run) for run in RUNS} for stream in given.stream or sorted(PLAYED)}
    curves = {stream: [Curve(name, *windows(run)) for name, run in runs.items()] for stream, runs in found.items()}
    turns = {stream: runs[RUNS[-1]].first for stream, runs in found.items()}
    given.report.write_bytes(msgspec.json.format(msgspec.json.encode({"curves": curves, "runs": told(found)})))
    given.report.with_suffix(".html").write_text(page(curves, turns))
    met = [judge(stream, runs) for stream, runs in found.items()]
    print(f"curves: {given.report}, {given.report.with_suffix('.html')}")
    print("every bar is met" if all(met) else "a bar is missed")
    sys.exit(not all(met))


def told(found: dict[str, dict[str, Played]]) -> dict[str, dict[str, object]]:
    return {
        stream: {
            name: {"alerts": run.alerts, "turned_after": run.first, "clean": run.clean} for name, run in runs.items()
        }
        for stream, runs in found.items()
    }


# Playing


def play_one(given: argparse.Namespace, name: str, run: str) -> Played:
    folder = Path(tempfile.mkdtemp(prefix="thalweg-loop-"))
    schemas = folder / "schemas"
    shutil.copytree(SCHEMAS, schemas)
    if run != RUNS[-1]:
        pipeline = schemas / name / "pipeline.toml"
        text = pipeline.read_text().replace("[batch]\n", "[batch]\non_alert = false\n")
        pipeline.write_text(text.replace("[online]\n", "[online]\nrenew = false\n"))
    print(f"{name}, {run}:", flush=True)
    try:
        return _play(given, schemas, name, folder, flip=run != RUNS[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _play(given: argparse.Namespace, schemas: Path, name: str, folder: Path, *, flip: bool) -> Played:
    stream, (after, events) = load_stream(schemas, name), PLAYED[name]
    timed = list(records(schemas, name, events))
    labels = [record[stream.pipeline.stream.id] for _, kind, record in timed if kind == "label"]
    later = {record[stream.pipeline.stream.id] for _, kind, record in timed if kind == "event"} - set(
        itertools.islice((r[stream.pipeline.stream.id] for _, kind, r in timed if kind == "event"), after)
    )
    sent_as = turned(iter(timed), stream, after) if flip else iter(timed)
    options = Options(name, run_dir=folder / "run", broker=given.broker)
    with Stack(replace(options, settings=PROMPT), stream, schemas) as stack:
        ledger, repairs = Ledger(stack.settings, stream), Repairs(stack.settings, stream)
        try:
            paced = _paced(sent_as, given.rate, trainings := Trainings(stack))
            look = Plain(stack).look if given.detector == "plain" and flip else stack.check
            replayer = Replayer(stream, stack.ingestion, paced, float("inf"), look, SLICE)
            progress = Progress(ledger, replayer.sent, events, Told(repairs))
            sent = play(replayer, ledger, look, progress, trainings)
            repairs.read()
            return _played(ledger, sent, list(repairs.found.values()), labels, later)
        finally:
            ledger.close()
            repairs.close()


def _paced(timed: Iterator[Timed], rate: float, trainings: Trainings) -> Iterator[Timed]:
    """Yield so many events a second; time that a training was waited for does not count."""
    began, events = time.monotonic(), 0
    for one in timed:
        if one[1] == "event":
            events += 1
            if (wait := began + trainings.waited_s + events / rate - time.monotonic()) > 0:
                time.sleep(wait)
        yield one


def _played(ledger: Ledger, sent: Sent, alerts: list[Repair], labels: list[str], later: set[str]) -> Played:
    for alert in alerts:
        print(f"  {line(alert)}", flush=True)
    served = [name for name in labels if name in ledger.served]
    scores, truth = [ledger.served[name] for name in served], [sent.labels[name] for name in served]
    lost = losses(np.array(scores), np.array(truth, bool))
    counts = ledger.counts(sent)
    first = next((place for place, name in enumerate(served) if name in later), len(served))
    return Played(lost.tolist(), alerts, first, not (counts["missing"] or counts["duplicates"]))


# Judging


def windows(run: Played) -> tuple[list[int], list[float]]:
    """Return where each window ends, in labelled events, and its mean loss."""
    sums = np.concatenate([[0.0], np.cumsum(run.losses)])
    ends = np.arange(WINDOW, len(sums), STEP)
    return ends.tolist(), ((sums[ends] - sums[ends - WINDOW]) / WINDOW).tolist()


def judged(run: Played, level: Played) -> Judged:
    """Hold a run against the undisturbed one, window by window of the same labels."""
    after, usual = (np.array(one.losses[run.first :]) for one in (run, level))
    rows = min(len(after), len(usual))
    ends = range(WINDOW, rows + 1, STEP)

    def holds(start: int, end: int) -> bool:
        return bool(after[start:end].mean() <= BAR * usual[start:end].mean())

    back = next((end for end in ends if holds(end - WINDOW, end) and holds(end - WINDOW, rows)), None)
    before = float(np.mean(run.losses[max(run.first - 5000, 0) : run.first]))
    return Judged(before, max(float(after[end - WINDOW : end].mean()) for end in ends), back)


def judge(stream: str, runs: dict[str, Played]) -> bool:
    level, without, looped = (runs[name] for name in RUNS)
    found = {name: judged(runs[name], level) for name in RUNS[1:]}
    for name, (before, worst, back) in found.items():
        end = "not back" if back is None else f"back within {BAR - 1:.0%} after {back:,} labelled events"
        print(f"{stream}, {name}: log loss {before:.4f} before, {worst:.4f} at worst, {end}")
        after = np.array(runs[name].losses[runs[name].first :]), np.array(level.losses[level.first :])
        for first, last in itertools.pairwise((0, 1000, 2000, 4000, 8000, 12_000)):
            parts = [part[first:last] for part in after]
            if len(parts[0]) > (last - first) / 2:
                lost, usual = (float(part.mean()) for part in parts)
                print(
                    f"  {first:>6,} to {last:>6,} after: {lost:.4f}, undisturbed {usual:.4f} ({lost / usual - 1:+.0%})"
                )
    with_loop, alone = found[RUNS[2]].back, found[RUNS[1]].back
    sooner = with_loop is not None and (alone is None or with_loop < alone)
    return sooner and without.clean and looped.clean and level.clean


if __name__ == "__main__":
    main()
