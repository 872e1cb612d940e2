"""What `exactly_once` costs against `at_least_once`: events a second at full load, latency at half of it.

    .venv/bin/python loadtests/guarantee.py [--rounds N] [--events N]

Two whole Thalwegs that differ in nothing but the guarantee stand on one node of Apache Kafka, each with its own copy of
the flights stream; only one of them is given anything to do at a time. In turns they get the same flights: as fast as
the HTTP door takes them, measured from the first send to the last prediction that a consumer reads, then evenly at half
that rate. The script starts everything and stops it; the exit status is 1 if exactly-once costs more than the bar.
"""

import argparse
import contextlib
import itertools
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from infra.local import brokers
from infra.local.ledger import Ledger
from infra.local.processes import Children
from infra.local.replayer import Replayer, Sent, Timed, records
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.grammar import Guarantee
from services.runtime.stream import load_stream

BAR = 0.25
STALL_S = 20.0
WARM_UP = 3000
FULL = float("inf")


class Side:
    """One Thalweg and its flights: both sides play the same ones, in the same order."""

    def __init__(self, guarantee: Guarantee, schemas: Path, broker: str, run_dir: Path) -> None:
        self.guarantee = guarantee
        self.rates: list[float] = []
        self.costs: list[float] = []  # microseconds of computing that an event took, in broker and services
        self.latencies: list[float] = []
        self._stream = load_stream(schemas, guarantee.replace("_", "-"))
        self.stack = Stack(Options(self._stream.name, broker=broker, run_dir=run_dir), self._stream, schemas)
        self._flights = records(schemas, self._stream.name, None)

    def full(self, events: int) -> float:
        """Play the next flights as fast as they are taken; return how many were predicted a second."""
        before = computed()
        sent, ledger = self._play(self._next(events, FULL))
        self.costs.append((computed() - before) / events * 1e6)
        return events / (max(ledger.arrived.values()) - min(sent.events.values()))

    def evenly(self, events: int, rate: float) -> list[float]:
        """Play the next flights at `rate` events a second; return each one's latency in milliseconds."""
        sent, ledger = self._play(self._next(events, rate))
        return [(ledger.arrived[name] - at) * 1e3 for name, at in sent.events.items()]

    def _next(self, events: int, rate: float) -> Iterator[Timed]:
        """Yield the next `events` events, and the labels between them, `rate` events to a second of event time."""
        seen = 0
        for _, kind, record in self._flights:
            seen += kind == "event"
            yield seen / rate, kind, record
            if seen == events:
                return

    def _play(self, flights: Iterator[Timed]) -> tuple[Sent, Ledger]:
        first = next(flights)
        even = first[0] > 0
        ledger = Ledger(self.stack.settings, self._stream)
        replayer = Replayer(
            self._stream,
            self.stack.ingestion,
            itertools.chain([first], flights),
            1.0 if even else FULL,
            self.stack.check,
        )
        try:
            sent = replayer.run(ledger.check)
            settle(self.stack, ledger, sent, STALL_S)
        finally:
            ledger.close()
        return sent, ledger


def settle(stack: Stack, ledger: Ledger, sent: Sent, stall_s: float) -> None:
    """Wait for every prediction, and until no more examples come: nothing is left over for the next measurement."""
    seen, since = (-1, -1), time.monotonic()
    while sent.events.keys() - ledger.arrived.keys() or time.monotonic() - since < 1:
        now = (len(ledger.arrived), len(ledger.examples))
        if now != seen:
            seen, since = now, time.monotonic()
        assert time.monotonic() - since < stall_s, f"{len(ledger.arrived)} of {len(sent.events)} predictions came"
        ledger.check()
        stack.check()
        time.sleep(0.02)


def computed() -> float:
    """Return how many seconds all that this script started has computed; what else the machine does is not in it."""
    waiting, ticks = children_of("self"), 0
    for pid in waiting:  # grows while it is read
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
            waiting += children_of(pid)
    return ticks / os.sysconf("SC_CLK_TCK")


def children_of(pid: str) -> list[str]:
    return [child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def streams(folder: Path) -> Path:
    """Make a copy of the flights stream for each guarantee."""
    for guarantee in ("exactly_once", "at_least_once"):
        copy = shutil.copytree(REPOSITORY / "schemas" / "flights", folder / guarantee.replace("_", "-"))
        pipeline = copy / "pipeline.toml"
        pipeline.write_text(pipeline.read_text().replace("[stream]", f'[stream]\nguarantee = "{guarantee}"', 1))
    return folder


def measure(exactly: Side, at_least: Side, rounds: int, events: int) -> None:
    """Give both sides the same to do, now one first and now the other."""
    orders = list(itertools.islice(itertools.cycle([(exactly, at_least), (at_least, exactly)]), rounds))
    for side in (exactly, at_least):
        side.full(WARM_UP)
    for order in orders:
        for side in order:
            side.rates.append(side.full(events))
        print(f"  full load  {line(exactly, at_least)}", flush=True)
    half = statistics.median(exactly.rates) / 2
    for order in orders:
        for side in order:
            side.latencies += side.evenly(events // 2, half)


def line(exactly: Side, at_least: Side) -> str:
    ratio = exactly.rates[-1] / at_least.rates[-1]
    return (
        f"exactly_once {exactly.rates[-1]:6,.0f}  at_least_once {at_least.rates[-1]:6,.0f} events/s  ratio {ratio:.2f}"
    )


def report(exactly: Side, at_least: Side) -> bool:
    """Print the medians; return whether the cost is within the bar."""
    rates = [statistics.median(side.rates) for side in (exactly, at_least)]
    cost = 1 - statistics.median(e / a for e, a in zip(exactly.rates, at_least.rates, strict=True))
    for side, rate in zip((exactly, at_least), rates, strict=True):
        p50, p99 = np.percentile(side.latencies, [50, 99])
        print(
            f"{side.guarantee:<14} full load: median {rate:6,.0f} events/s, {statistics.median(side.costs[1:]):4.0f} µs"
            " of computing an event;"
            f" at {rates[0] / 2:,.0f} events/s: p50 {p50:4.0f} ms, p99 {p99:4.0f} ms"
        )
    print(f"load average {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores")
    print(f"exactly_once costs {cost:.0%} of at_least_once (median of the rounds' ratios; bar {BAR:.0%})")
    return cost <= BAR


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=12_000)
    given = parser.parse_args()
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as home, Children(Path(home) / "logs") as children:
        broker = brokers.start("kafka", children, Path(home))
        brokers.wait_ready(broker, children)
        schemas = streams(Path(home) / "schemas")
        guarantees: tuple[Guarantee, Guarantee] = ("exactly_once", "at_least_once")
        sides = [Side(guarantee, schemas, broker.address, Path(home) / "run") for guarantee in guarantees]
        with contextlib.ExitStack() as up:
            for side in sides:
                up.enter_context(side.stack)
            print(
                f"two whole Thalwegs on Apache Kafka {broker.version}; {given.events} flights a measurement", flush=True
            )
            measure(sides[0], sides[1], given.rounds, given.events)
            return 0 if report(sides[0], sides[1]) else 1


if __name__ == "__main__":
    sys.exit(main())
