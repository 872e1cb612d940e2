"""What the console costs, with as much behind it as 100,000 events a second make: processor time and memory.

    .venv/bin/python loadtests/console.py --events 100000 --seconds 60

Starts the embedded broker and a console, writes the summaries, predictions and models that so many events a second
would make (predictions: a part of them, since the console reads few of them however many there are), sends the spans
of ten traces a second, and follows the live stream as one page does.
"""

import argparse
import os
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

from infra.local import brokers
from infra.local.brokers import TopicSpec, free_ports
from infra.local.processes import Children
from services.runtime.layout import Layout
from services.runtime.models import BATCH, Weighed
from services.runtime.stream import TOPICS, UNPARTITIONED, Stream, load_stream
from services.runtime.summaries import BINS, ExampleSummary, Judged, ScoredSummary, Source, encode_summary

ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")
PREDICTIONS = 5_000  # a second, at most
TURN_S = 0.1


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


def measure(events: int, seconds: float) -> dict[str, Any]:
    stream = load_stream(ROOT / "schemas", "flights")
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
    token = msgspec.json.decode((folder / "console" / "tokens.json").read_bytes())["reading"]
    told = [0]
    threading.Thread(target=follow, args=(url, token, told), daemon=True).start()
    writer = threading.Thread(target=load.run)
    writer.start()
    time.sleep(5)  # what a start costs is no part of it
    began, (spent, _) = time.monotonic(), cost(pid)
    largest = 0.0
    while time.monotonic() - began < seconds:
        body = request(int(time.time()))
        httpx.post(f"{url}/v1/traces", content=body, headers={"Content-Type": "application/x-protobuf"})
        largest = max(largest, cost(pid)[1])
        time.sleep(2.0)
    lasted, (now, _) = time.monotonic() - began, cost(pid)
    load.stopped = True
    writer.join()
    quality = httpx.get(f"{url}/api/quality", headers={"Authorization": f"Bearer {token}"}).json()
    return {
        "share_of_a_core": round((now - spent) / lasted, 4),
        "memory_mb": round(largest, 1),
        "page_bytes_a_second": round(told[0] / (lasted + 5)),
        "labelled_rows_shown": sum(point[2] for point in quality["points"]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    print({"wake_ms": round(waking(), 2)} | measure(given.events, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
