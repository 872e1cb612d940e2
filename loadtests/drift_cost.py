"""What drift costs per event, on one core, broker excluded: reducing `scored`, and folding summaries.

    .venv/bin/python loadtests/drift_cost.py [--events N] [--message ROWS ...]

The flights stream's real rows, in messages of several sizes. Each is run several times; processor time is printed, the
median and the best, and the size of a summary and of snapshots, which is the same however many events there were.
"""

import argparse
import statistics
import time

from worlds import fit, load, messages, vectors

from services.drift.core import DriftCore, ScoredReducer
from services.runtime.records import Record
from services.runtime.stream import Stream

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--message", type=int, nargs="+", default=[20, 200, 2000, 8000])
    given = parser.parse_args()
    world = load("flights", given.events)
    x = vectors(world)
    served = fit(x, world.labels)(x)
    print(f"{len(world):,} flights, {x.shape[1]} columns, one partition, one core")
    for rows in given.message:
        log = list(messages(world, x, served, rows))
        took = sorted(run(world.stream, log) for _ in range(ROUNDS))
        summary = " + ".join(f"{statistics.median(part) / len(world) * 1e6:.2f}" for part in zip(*took, strict=True))
        best = sum(min(part) for part in zip(*took, strict=True)) / len(world) * 1e6
        print(f"messages of {rows:>5}: reducing + folding {summary} µs/event (median), {best:.2f} in all (best)")
    sizes(world.stream, log)


def run(stream: Stream, log: list[Record]) -> tuple[float, float]:
    """Return the seconds for reducing and for folding."""
    reducer, core = ScoredReducer(stream, 0), DriftCore(stream)
    start = time.process_time()
    summaries = [summary for record in log for summary in reducer.fold(record)]
    middle = time.process_time()
    for summary in summaries:
        core.fold(summary)
    return middle - start, time.process_time() - middle


def sizes(stream: Stream, log: list[Record]) -> None:
    reducer, core = ScoredReducer(stream, 0), DriftCore(stream)
    summaries = [summary for record in log for summary in reducer.fold(record)]
    for place, summary in enumerate(summaries):
        core.fold(summary)
        if place + 1 in (100, len(summaries)):
            print(f"after {place + 1} summaries: a snapshot has {len(core.snapshot()):,} bytes")
    print(f"a summary has {len(summaries[-1]):,} bytes")


if __name__ == "__main__":
    main()
