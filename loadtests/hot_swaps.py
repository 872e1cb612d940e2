"""Whether a swap of the batch model is felt: fifty new versions go live, one after the other, under half load.

    .venv/bin/python loadtests/hot_swaps.py [--swaps N] [--seconds S] [--broker embedded|kafka]

A whole Thalweg learns from flights, as fast as they are taken, which says what full load is; `thalweg train` fits a
network to them. Then flights come evenly at half that rate, and every few seconds a new version of that network is
registered and made champion, by two records on `models`; the one before is retired once the new one has answered. The
latency of what was sent within a second of a swap is held against that of all else in the same run. Exit status 1 if a
prediction is lost or doubled, a version never serves, or p99 during swaps is more than twice that without.
"""

import argparse
import itertools
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Producer

from infra.chaos.load import endless
from infra.local.ledger import Ledger
from infra.local.replayer import Replayer, Sent, Timed
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.artifacts import Artifacts
from services.runtime.models import BATCH, Lineup, Moved, Registered
from services.runtime.stream import Stream, load_stream

SCHEMAS = REPOSITORY / "schemas"
WARM_UP = 20_000
SWAP_S = 1.0  # what is sent so soon after a swap, it may have been felt by
BAR = 2.0
STALL_S = 30.0
FIRST = 1000  # the number of the first version: none that a training would have
THALWEG = Path(sys.executable).with_name("thalweg")


class Swaps(threading.Thread):
    """Makes a new version champion every `every` seconds, `count` times; `at` says when, by version."""

    def __init__(self, stack: Stack, graph: bytes, count: int, every: float) -> None:
        super().__init__(name="swaps", daemon=True)
        self._stream, self._artifacts = stack.stream, Artifacts(stack.data, stack.stream.name)
        self._producer = Producer({"bootstrap.servers": stack.broker.address, "log_level": 0})
        self._graph, self._count, self._every = graph, count, every
        self._lineup = Lineup(stack.stream.feature_set)
        self.at: dict[int, float] = {}

    def run(self) -> None:
        began = time.monotonic()
        for number in range(self._count):
            time.sleep(max(began + (number + 0.5) * self._every - time.monotonic(), 0))
            version = FIRST + number
            self._artifacts.write(BATCH, version, self._graph)
            self._say(Registered(BATCH, version, self._stream.feature_set, WARM_UP, 0.3, 0.5, "load test"))
            self._say(Moved(BATCH, version, "champion", "load test", "a swap"))
            self.at[version] = time.monotonic()
            if number:
                time.sleep(self._every / 3)
                self._say(Moved(BATCH, version - 1, "retired", "load test", "a swap"))

    def _say(self, event: Registered | Moved) -> None:
        key = self._lineup.keys([event])[0] if isinstance(event, Moved) else f"{BATCH}@{event.version}".encode()
        self._lineup.fold(event)
        self._producer.produce(self._stream.topic("models"), msgspec.json.encode(event), key, partition=0)
        self._producer.flush(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--broker", default="embedded")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="thalweg-swaps-"))
    schemas = _without_trainings(folder)
    stream = load_stream(schemas, "flights")
    try:
        with Stack(Options(stream.name, broker=given.broker, run_dir=folder), stream, schemas) as stack:
            met = _swap(stack, stream, given.swaps, given.seconds)
    finally:
        shutil.rmtree(folder)
    sys.exit(not met)


def _without_trainings(folder: Path) -> Path:
    """Return stream folders by which the trainer does nothing by itself: versions here have numbers of their own."""
    shutil.copytree(SCHEMAS, folder / "schemas")
    pipeline = folder / "schemas" / "flights" / "pipeline.toml"
    text = pipeline.read_text().replace("[batch]\n", "[batch]\non_alert = false\n")
    pipeline.write_text(re.sub(r"train_after = \d+", "train_after = 100_000_000", text))
    return folder / "schemas"


def _swap(stack: Stack, stream: Stream, swaps: int, seconds: float) -> bool:
    flights = endless(SCHEMAS, stream)
    sent, ledger = _play(stack, stream, _paced(flights, WARM_UP, float("inf")), float("inf"))
    rate = WARM_UP / (max(ledger.arrived.values()) - min(sent.events.values())) / 2
    print(f"full load: {2 * rate:.0f} events/s; {swaps} swaps in {seconds:.0f} s at {rate:.0f} events/s", flush=True)
    graph = _trained(stack, stream)
    making = Swaps(stack, graph, swaps, seconds / swaps)
    making.start()
    sent, ledger = _play(stack, stream, _paced(flights, int(rate * seconds), rate), 1.0)
    making.join()
    return _judge(sent, ledger, making.at)


def _paced(flights: Iterator[Timed], events: int, rate: float) -> Iterator[Timed]:
    """Yield the next `events` events, and the labels between them, `rate` of them a second."""
    seen = 0
    for _, kind, record in flights:
        seen += kind == "event"
        yield seen / rate, kind, record
        if seen == events:
            return


def _trained(stack: Stack, stream: Stream) -> bytes:
    """Return the graph that `thalweg train` makes of the examples that are in the table by now."""
    time.sleep(15)  # the table gathers for ten seconds
    argv = [str(THALWEG), "train", "--run-dir", str(stack.options.run_dir)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"thalweg train: {done.stderr.strip()}")
    print(done.stdout.splitlines()[-1], flush=True)
    newest = max(int(path.stem) for path in (stack.data / "artifacts" / stream.name / BATCH).glob("*.model"))
    return Artifacts(stack.data, stream.name).read(BATCH, newest)


def _play(stack: Stack, stream: Stream, flights: Iterator[Timed], speed: float) -> tuple[Sent, Ledger]:
    ledger = Ledger(stack.settings, stream)
    first = next(flights)
    replayer = Replayer(stream, stack.ingestion, itertools.chain([first], flights), speed, stack.check)
    sent = replayer.run(_Progress(replayer.sent, ledger))
    seen, since = 0, time.monotonic()
    while len(ledger.arrived) < len(sent.events) and time.monotonic() - since < STALL_S:
        if len(ledger.arrived) != seen:
            seen, since = len(ledger.arrived), time.monotonic()
        ledger.check()
        stack.check()
        time.sleep(0.1)
    ledger.close()
    return sent, ledger


class _Progress:
    """A line every half a minute."""

    def __init__(self, sent: Sent, ledger: Ledger) -> None:
        self._sent, self._ledger, self._due = sent, ledger, time.monotonic() + 30

    def __call__(self) -> None:
        if time.monotonic() > self._due:
            self._due += 30
            print(f"  {len(self._sent.events)} events sent, {len(self._ledger.arrived)} predicted", flush=True)


def _judge(sent: Sent, ledger: Ledger, swaps: dict[int, float]) -> bool:
    counts = ledger.counts(sent)
    times = np.array([sent.events[name] for name in ledger.arrived])
    waits = np.array([(at - sent.events[name]) * 1e3 for name, at in ledger.arrived.items()])
    began = np.sort(np.array([*swaps.values()]))
    last = np.searchsorted(began, times + 0.25, side="right") - 1  # what was on its way at a swap may feel it too
    during = (last >= 0) & (times - began[last] < SWAP_S)
    with_swaps, without = (float(np.percentile(waits[which], 99)) for which in (during, ~during))
    took = _took(ledger, swaps)
    lost, twice = counts["missing"], counts["duplicates"]
    print(f"{counts['events_sent']} events: {lost} predictions lost, {twice} doubled")
    print(f"{len(took)} of {len(swaps)} versions served; from a version's record until a consumer saw it")
    print(f"  {statistics.median(took):.2f} s (median), {max(took):.2f} s at most")
    print(f"p99 within {SWAP_S:g} s of a swap {with_swaps:.0f} ms ({during.sum()} events), else {without:.0f} ms:")
    print(
        f"  {with_swaps / without:.2f} times; p50 {np.median(waits[during]):.0f} and {np.median(waits[~during]):.0f} ms"
    )
    met = not lost and not twice and len(took) == len(swaps) and with_swaps <= BAR * without
    print("every bar is met" if met else "a bar is missed")
    return met


def _took(ledger: Ledger, swaps: dict[int, float]) -> list[float]:
    """Return how long it took, in seconds, until a prediction that a version was part of arrived."""
    first: dict[str, float] = {}
    for name, version in ledger.serving.items():
        first[version] = min(first.get(version, float("inf")), ledger.arrived[name])
    return [first[f"{BATCH}@{version}"] - at for version, at in swaps.items() if f"{BATCH}@{version}" in first]


if __name__ == "__main__":
    main()
