"""What the console costs, while one page follows its live stream: processor time and memory, measured twice.

    .venv/bin/python loadtests/console.py --events 100000 --seconds 60

First beside a whole run of flights that is kept as full as this machine can, traced at the usual rate. Then with as
much behind it as 100,000 events a second make: of a Thalweg only the embedded broker and the console run, and the test
writes the summaries, predictions and models that so many events a second would make (predictions: a part of them, since
the console reads few of them however many there are), and sends the spans of ten traces a second.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from confluent_kafka import Producer
from span_store import request
from telemetry import Full

from infra.local import brokers
from infra.local.brokers import TopicSpec, free_ports
from infra.local.processes import Children
from infra.local.stack import Options, Stack
from services.console.tokens import make_tokens, tokens_path
from services.runtime.layout import Layout
from services.runtime.models import BATCH, Weighed
from services.runtime.stream import TOPICS, UNPARTITIONED, Stream, load_stream
from services.runtime.summaries import BINS, ExampleSummary, Judged, ScoredSummary, Source, encode_summary

SCHEMAS = Path(__file__).parents[1] / "schemas"
TICKS = os.sysconf("SC_CLK_TCK")
PREDICTIONS = 5_000  # a second, at most
TURN_S = 0.1
WARM_S = 5.0  # what a start costs is no part of it
TIME_S = 5.0


class Load:
    """Writes what so many events a second make."""

    def __init__(self, broker: str, stream: Stream, events: int) -> None:
        self._producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "log_level": 0})
        self._stream, self._layout, self._events = stream, Layout(stream), events
        self._draw, self._number = np.random.default_rng(7), 0
        self.stopped = False

    def run(self) -> None:
        scored, examples = self._events * TURN_S / 200, self._events * TURN_S / 100
        due, owed = time.monotonic(), [0.0, 0.0]
        while not self.stopped:
            owed = [owed[0] + scored, owed[1] + examples]
            for place, make in enumerate((self._scored, self._examples)):
                for _ in range(int(owed[place])):
                    self._producer.produce(self._stream.topic("summaries"), make(), partition=0)
                owed[place] %= 1
            self._predictions(int(min(self._events, PREDICTIONS) * TURN_S))
            self._producer.poll(0)
            due += TURN_S
            time.sleep(max(0.0, due - time.monotonic()))
        self._producer.flush(10)

    def _source(self, kind: str) -> Source:
        self._number += 1
        at = self._number * 1_000_000
        return Source(self._stream.topic(kind), 0, self._number, self._number, self._number, at, at + 1_000_000)

    def _scored(self) -> bytes:
        layout = self._layout
        numbers = np.sort(self._draw.normal(size=(len(layout.numbers), 100)).astype(np.float32), axis=1)
        hot = np.full(layout.hot_width, 9, np.uint16)
        whole = np.zeros((40, layout.width), np.float32)
        sums = np.zeros((len(layout.sliced), 1 + len(layout.numbers)), np.float32)
        missing, defaults = np.zeros(len(layout.numbers), np.uint16), np.zeros(len(layout.features), np.uint16)
        parts = [part.tobytes() for part in (numbers, missing, defaults, hot, whole, sums)]
        quantiles, absent, stood_in, counts, rows, totals = parts
        source = self._source("scored")
        return encode_summary(ScoredSummary(source, 200, quantiles, absent, stood_in, counts, rows, totals))

    def _examples(self) -> bytes:
        bins, slices = np.full((BINS, 3), 10.0), np.full((len(self._layout.sliced), 3), 2.0)
        sums = np.full(7, 30.0)
        models = [
            Judged(name, 100, sums.tobytes(), bins.tobytes(), slices.tobytes())
            for name in ("served", "online", "batch@1", "batch@2")
        ]
        source = self._source("examples")
        return encode_summary(ExampleSummary(source, 100, (95, 5, 0, 0), (95, 9e3, 9e5, 900.0), models))

    def _predictions(self, count: int) -> None:
        for _ in range(count):
            self._number += 1
            made = {
                "event_id": f"2013-01-05-DL-{self._number}-JFK",
                "key": "JFK",
                "event_time": "2013-01-05T14:02:00Z",
                "prediction": {"late": 0.37},
                "scores": {"online@1840": 0.41, "batch@7": 0.35},
                "weights": {"online@1840": 0.33, "batch@7": 0.67},
                "source": {"partition": 0, "offset": self._number},
                "features": "flights:5f3c",
                "degraded": False,
            }
            self._producer.produce(self._stream.topic("predictions"), msgspec.json.encode(made), partition=0)
        if self._number % 10 == 0:
            weighed = Weighed(BATCH, {1: 0.5}, {1: (self._number, 0.5, -0.2)})
            self._producer.produce(self._stream.topic("models"), msgspec.json.encode(weighed), partition=0)


def follow(url: str, token: str, told: list[int]) -> None:
    """Read the live stream, as a page does, until the console ends."""
    try:
        with httpx.stream("GET", f"{url}/api/live", headers={"Authorization": f"Bearer {token}"}, timeout=30) as lines:
            for chunk in lines.iter_bytes():
                told[0] += len(chunk)
    except httpx.HTTPError:
        return


def cost(pid: int) -> tuple[float, float]:
    """Return the processor seconds so far, and the memory now in MB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return (int(fields[11]) + int(fields[12])) / TICKS, pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def waking(times: int = 5) -> float:
    """Return the processor time in ms of who sleeps a second and then does next to nothing, each time.

    It is the share of this machine in what is measured: some virtual ones take milliseconds to find memory again.
    """
    spent = time.process_time()
    for _ in range(times):
        time.sleep(1.0)
        sum(range(1_000))
    return (time.process_time() - spent) / times * 1e3


class Watched:
    """A console whose page is followed, and what it costs."""

    def __init__(self, url: str, pid: int, token: str) -> None:
        self._pid, self._told = pid, [0]
        threading.Thread(target=follow, args=(url, token, self._told), daemon=True).start()
        self._largest = 0.0

    def begin(self) -> None:
        self._began, self._spent, self._before = time.monotonic(), cost(self._pid)[0], self._told[0]

    def look(self) -> None:
        self._largest = max(self._largest, cost(self._pid)[1])

    def end(self) -> dict[str, float]:
        self.look()
        lasted, spent = time.monotonic() - self._began, cost(self._pid)[0] - self._spent
        return {
            "share_of_a_core": round(spent / lasted, 4),
            "memory_mb": round(self._largest, 1),
            "page_bytes_a_second": round((self._told[0] - self._before) / lasted),
        }


def measure_full(seconds: float) -> dict[str, float]:
    """Return what it costs beside a whole run that is as busy as can be."""
    stream = load_stream(SCHEMAS, "flights")
    with tempfile.TemporaryDirectory() as name, Stack(Options("flights", run_dir=Path(name)), stream, SCHEMAS) as stack:
        [console] = [child for child in stack.children if child.name == "console"]
        tokens, _ = make_tokens(tokens_path(stack.data))
        full, watched = Full(stack, SCHEMAS), Watched(stack.console, console.pid, tokens.reading)
        full.keep(WARM_S)
        watched.begin()
        throughput = []
        for _ in range(round(seconds / TIME_S)):
            throughput.append(full.keep(TIME_S).throughput)
            watched.look()
        return {"events_a_second": round(statistics.median(throughput))} | watched.end()


def measure(events: int, seconds: float) -> dict[str, Any]:
    stream = load_stream(SCHEMAS, "flights")
    with tempfile.TemporaryDirectory() as name, Children(Path(name) / "logs") as children:
        folder = Path(name)
        broker = brokers.start("embedded", children, folder)
        brokers.wait_ready(broker, children)
        specs = {stream.topic(kind): TopicSpec(1 if kind in UNPARTITIONED else 3, {}) for kind in TOPICS}
        brokers.create_topics(broker, specs)
        port = free_ports(1)[0]
        told = {"THALWEG_BROKER": broker.address, "THALWEG_DATA": name, "THALWEG_CONSOLE_PORT": str(port)}
        console = children.start("console", [sys.executable, "-m", "services.console"], env={**os.environ, **told})
        return _measure(f"http://127.0.0.1:{port}", console.pid, folder, Load(broker.address, stream, events), seconds)


def _measure(url: str, pid: int, folder: Path, load: Load, seconds: float) -> dict[str, Any]:
    while True:
        try:
            httpx.get(f"{url}/healthz", timeout=1)
            break
        except httpx.HTTPError:
            time.sleep(0.2)
    tokens, _ = make_tokens(tokens_path(folder))
    watched = Watched(url, pid, tokens.reading)
    writer = threading.Thread(target=load.run)
    writer.start()
    time.sleep(WARM_S)
    watched.begin()
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        body = request(int(time.time()))
        httpx.post(f"{url}/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"})
        watched.look()
        time.sleep(2.0)
    found = watched.end()
    load.stopped = True
    writer.join()
    quality = httpx.get(f"{url}/api/quality", headers={"Authorization": f"Bearer {tokens.reading}"}).json()
    return found | {"labelled_rows_shown": sum(point[2] for point in quality["points"])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    print(f"a process that does nothing: {waking():.2f} ms of processor time each time that it wakes", flush=True)
    print("a full run:", measure_full(given.seconds), flush=True)
    print(f"{given.events:,} events/s behind it:", measure(given.events, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
