"""What TLS, users and rules cost: events a second at full load with them, against an open broker.

    .venv/bin/python loadtests/tls.py [--rounds N] [--events N]

Two whole Thalwegs that differ in nothing but that stand each on an Apache Kafka of its own, one open, one guarded:
TLS on every connection, each service logged in as its own user (SCRAM-SHA-512), each request held against the rules of
`infra/kafka/acls.toml`. Only one of them is given anything to do at a time. In turns, now one first and now the other,
they get the same flights as fast as the HTTP door takes them, measured from the first send to the last prediction that
a consumer reads; what it costs in computing depends less on what else the machine does. The script starts everything
and stops it; the exit status is 1 if the ratio of the rates is below the bar.
"""

import argparse
import contextlib
import itertools
import logging
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from guarantee import computed, settle

from infra.local.ledger import Ledger
from infra.local.replayer import Replayer, Timed, records
from infra.local.stack import OFF, REPOSITORY, Options, Stack
from services.runtime.stream import load_stream

BAR = 0.7
STALL_S = 60.0
WARM_UP = 12_000  # a JVM compiles what TLS needs as it is used
SCHEMAS = REPOSITORY / "schemas"
STREAM = load_stream(SCHEMAS, "flights")


class Side:
    """One Thalweg and its flights: both sides play the same ones, in the same order."""

    def __init__(self, name: str, run_dir: Path, *, guarded: bool) -> None:
        self.name = name
        self.rates: list[float] = []
        self.costs: list[float] = []  # microseconds of computing that an event took, in broker and services
        options = Options(STREAM.name, broker="kafka", run_dir=run_dir / name, guarded=guarded, otlp=OFF)
        self.stack = Stack(options, STREAM, SCHEMAS)
        self._flights = records(SCHEMAS, STREAM.name, None)

    def full(self, events: int) -> float:
        """Play the next flights as fast as they are taken; return how many were predicted a second."""
        ledger, before = Ledger(self.stack.settings, STREAM), computed()
        with contextlib.closing(ledger):
            replayer = Replayer(STREAM, self.stack.ingestion, self._next(events), float("inf"), self.stack.check)
            sent = replayer.run(ledger.check)
            settle(self.stack, ledger, sent, STALL_S)
        self.costs.append((computed() - before) / events * 1e6)
        return events / (max(ledger.arrived.values()) - min(sent.events.values()))

    def _next(self, events: int) -> Iterator[Timed]:
        """Yield the next `events` events, and the labels between them."""
        seen = 0
        for timed in self._flights:
            seen += timed[1] == "event"
            yield timed
            if seen == events:
                return


def measure(guarded: Side, plain: Side, rounds: int, events: int) -> None:
    """Give both sides the same to do, now one first and now the other."""
    for side in (guarded, plain):
        side.full(WARM_UP)
    for order in itertools.islice(itertools.cycle([(guarded, plain), (plain, guarded)]), rounds):
        for side in order:
            side.rates.append(side.full(events))
        with_it, without = guarded.rates[-1], plain.rates[-1]
        print(f"  TLS {with_it:6,.0f}  open {without:6,.0f} events/s  ratio {with_it / without:.2f}", flush=True)


def report(guarded: Side, plain: Side) -> bool:
    """Print the medians; return whether the ratio reaches the bar."""
    ratio = statistics.median(g / p for g, p in zip(guarded.rates, plain.rates, strict=True))
    for side in (guarded, plain):
        low, high = min(side.rates), max(side.rates)
        print(
            f"{side.name:<7} median {statistics.median(side.rates):6,.0f} events/s ({low:,.0f} to {high:,.0f}),"
            f" {statistics.median(side.costs[1:]):4.0f} µs of computing an event"
        )
    print(f"load average {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores")
    print(f"with TLS, users and rules: {ratio:.2f} of without (median of the rounds' ratios; bar {BAR})")
    return ratio >= BAR


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=12_000)
    given = parser.parse_args()
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as up:
        guarded, plain = Side("guarded", Path(home), guarded=True), Side("open", Path(home), guarded=False)
        for side in (guarded, plain):
            up.enter_context(side.stack)
        version = guarded.stack.broker.version
        print(
            f"two whole Thalwegs, each on an Apache Kafka {version}; {given.events} flights a measurement", flush=True
        )
        measure(guarded, plain, given.rounds, given.events)
        return 0 if report(guarded, plain) else 1


if __name__ == "__main__":
    sys.exit(main())
