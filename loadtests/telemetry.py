"""What tracing costs: throughput of a whole Thalweg while it traces 10 events a second, against while it traces none.

    .venv/bin/python loadtests/telemetry.py [--rounds N] [--rate R] [--control]

One run of flights is kept full: events and their labels are sent as fast as predictions come out. Meanwhile the tracing
of all its services is turned on and off (`switched.py`), so that whatever else differs between two runs differs no
more. A round is two times of each, traced between plain or plain between traced, as is drawn: the embedded broker slows
down with what it holds, by a tenth a round, and so neither comes later than the other. Of each time the first seconds,
when batches and spans of the other are still on their way, do not count. After five rounds a new run goes on. Spans go
to a receiver in a process of its own, which throws them away. No batch model is trained: that would be in one time and
not in the other. Printed are the medians of throughput and of the processors' time an event, over all processes of the
run and without the broker, whose time varies most; and of the rounds' ratios, each with the interval in which it lies
by a bootstrap of the rounds, 95 times of 100. Exit status 1 if the median ratio of throughput says that tracing costs
more than the bar's 3 %, or nothing was traced.
"""

import argparse
import multiprocessing
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
from switched import SWITCH, Switch

from infra.chaos.load import endless
from infra.local.brokers import free_ports
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.kafka import Tail
from services.runtime.stream import load_stream

SLICE = 500  # records of a request
FULL = 3000  # events on their way: more would only wait longer
SETTLE_S = 3.0  # spans gather for two
COUNTED_S = 5.0
RENEWED = 5  # rounds of one run
PATIENCE_S = 60.0
BAR = 0.03
BROKER = "tansu"
RESAMPLED = 2000
OK = 200


class Time(NamedTuple):
    """What was measured in one time: events a second, and seconds of processor time an event, by process."""

    throughput: float
    by_process: dict[str, float]

    @property
    def processor_s(self) -> float:
        return sum(self.by_process.values())

    @property
    def own_s(self) -> float:
        """All of it but the broker's."""
        return sum(took for name, took in self.by_process.items() if name != BROKER)


class Full:
    """A run that has as many events on their way as it can use."""

    def __init__(self, stack: Stack, schemas: Path) -> None:
        self._stack, self._flights = stack, endless(schemas, stack.stream)
        self._client = httpx.Client(base_url=f"{stack.ingestion}/v1/streams/{stack.stream.name}", timeout=PATIENCE_S)
        self._predictions = Tail(stack.settings, stack.stream.topic("predictions"), from_beginning=True)
        self._sent = self._read = 0

    def keep(self, seconds: float) -> Time:
        """Keep it full for so long; measure from the first predictions of that time to its last."""
        began = time.monotonic()
        first, last = None, (began, 0)
        while first is None or time.monotonic() < began + seconds:
            if self._sent - self._read < FULL:
                self._send(list(islice(self._flights, SLICE)))
            if came := len(self._predictions.poll(2000, 0.02)):
                self._read += came
                last = time.monotonic(), self._read
                first = first or (*last, self._processor_s())
            if time.monotonic() > last[0] + PATIENCE_S:
                raise TimeoutError(f"no prediction in {PATIENCE_S:g} s; logs are in {self._stack.folder}")
        at, read, before = first
        events = last[1] - read
        return Time(
            events / (last[0] - at), {name: (now - before[name]) / events for name, now in self._processor_s().items()}
        )

    def _send(self, due: list[Any]) -> None:
        for kind in ("event", "label"):
            if lines := [msgspec.json.encode(record) for _, of, record in due if of == kind]:
                headers = {"Content-Type": "application/x-ndjson"}
                self._client.post(f"/{kind}s", content=b"\n".join(lines), headers=headers).raise_for_status()
                self._sent += len(lines) if kind == "event" else 0

    def _processor_s(self) -> dict[str, float]:
        return {child.name: _processor_s(child.pid) for child in self._stack.children}


def _processor_s(pid: int) -> float:
    """Return what its threads have run for, to the nanosecond: a tick of `stat` is 2 µs an event."""
    return sum(_thread_s(task) for task in Path(f"/proc/{pid}/task").iterdir())


def _thread_s(task: Path) -> float:
    try:
        return int((task / "schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return 0.0


class Receiver(multiprocessing.Process):
    """Takes spans in a process of its own. `traces` counts those that ingestion began."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port, self.traces = port, multiprocessing.Value("q", 0)
        self.url = f"http://127.0.0.1:{port}"

    def run(self) -> None:
        traces = self.traces

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with traces.get_lock():
                    traces.value += body.count(b"send flights.events")
                self.send_response(OK)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:  # noqa: ANN401 - the standard library's
                """Say nothing."""

        ThreadingHTTPServer(("127.0.0.1", self._port), Handler).serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help=f"of {4 * (SETTLE_S + COUNTED_S):g} s each")
    parser.add_argument("--rate", type=float, default=10.0, help="traces begun a second")
    parser.add_argument("--control", action="store_true", help="trace neither: what is measured then is the noise")
    given = parser.parse_args()
    receiver, draw = Receiver(free_ports(1)[0]), random.Random(1)  # noqa: S311 - no secret
    receiver.start()
    with tempfile.TemporaryDirectory(prefix="thalweg-telemetry-") as name:
        folder = Path(name)
        schemas, switch = _untrained(folder / "schemas"), Switch.make(folder / "switch")
        settings = {"THALWEG_TRACE_RATE": str(given.rate), SWITCH: str(folder / "switch")}
        through = (str(Path(__file__).with_name("switched.py")),)
        options = Options("flights", run_dir=folder, settings=settings, otlp=receiver.url, through=through)
        rounds: list[tuple[Time, Time]] = []
        while len(rounds) < given.rounds:
            with Stack(options, load_stream(schemas, "flights"), schemas) as stack:
                count = min(RENEWED, given.rounds - len(rounds))
                rounds += _rounds(Full(stack, schemas), count, switch, draw, control=given.control)
    traces, traced_s = receiver.traces.value, 2 * given.rounds * (SETTLE_S + COUNTED_S)
    receiver.terminate()
    print(f"{traces} traces begun in {traced_s:.0f} s of tracing: {traces / traced_s:.1f} a second")
    sys.exit(not (_say(rounds) and traces))


def _untrained(folder: Path) -> Path:
    """Copy the streams, and have flights train no batch model."""
    shutil.copytree(REPOSITORY / "schemas", folder)
    pipeline = folder / "flights" / "pipeline.toml"
    pipeline.write_text(re.sub(r"(?m)^train_every = .*\n", "", pipeline.read_text()))
    return folder


def _rounds(run: Full, rounds: int, switch: Switch, draw: random.Random, *, control: bool) -> list[tuple[Time, Time]]:
    """Return what was measured plain and traced, in each round."""
    found = []
    run.keep(2 * SETTLE_S)  # warm
    for number in range(rounds):
        outer = draw.random() < 1 / 2
        measured: dict[bool, list[Time]] = {False: [], True: []}
        for traced in (outer, not outer, not outer, outer):
            switch.turn(on=traced and not control)
            run.keep(SETTLE_S)
            measured[traced].append(run.keep(COUNTED_S))
        plain, traced_time = _mean(*measured[False]), _mean(*measured[True])
        found.append((plain, traced_time))
        print(
            f"round {number + 1}: plain {plain.throughput:,.0f} events/s, traced {traced_time.throughput:,.0f};"
            f" processors {plain.processor_s * 1e6:.0f} and {traced_time.processor_s * 1e6:.0f} µs an event",
            flush=True,
        )
    switch.turn(on=False)
    return found


def _mean(one: Time, other: Time) -> Time:
    by_process = {name: (took + other.by_process[name]) / 2 for name, took in one.by_process.items()}
    return Time((one.throughput + other.throughput) / 2, by_process)


def _say(rounds: list[tuple[Time, Time]]) -> bool:
    throughput = [traced.throughput / plain.throughput for plain, traced in rounds]
    processors = [traced.processor_s / plain.processor_s for plain, traced in rounds]
    own = [traced.own_s / plain.own_s for plain, traced in rounds]
    for name, place in (("plain", 0), ("traced", 1)):
        speed = statistics.median(pair[place].throughput for pair in rounds)
        cost = statistics.median(pair[place].processor_s for pair in rounds)
        print(f"{name}: {speed:,.0f} events/s, {cost * 1e6:.1f} µs of processors an event (medians)")
    for name in rounds[0][0].by_process:
        each = [statistics.median(pair[place].by_process[name] for pair in rounds) * 1e6 for place in (0, 1)]
        print(f"  {name}: {each[0]:.1f} and {each[1]:.1f} µs")
    print(
        f"ratios, medians of {len(rounds)} rounds: throughput {_ratio(throughput)}, processor time {_ratio(processors)}"
    )
    print(f"processor time without the broker {_ratio(own)}")
    met = 1 - statistics.median(throughput) <= BAR
    print("the bar is met" if met else f"the bar is missed: at most {BAR:.0%}")
    return met


def _ratio(found: list[float]) -> str:
    """Say the median and where it lies, 95 times of 100 (Efron's percentile bootstrap)."""
    draw = random.Random(1)  # noqa: S311 - no secret
    medians = sorted(statistics.median(draw.choices(found, k=len(found))) for _ in range(RESAMPLED))
    return f"{statistics.median(found):.3f} ({medians[RESAMPLED // 40]:.3f} to {medians[-RESAMPLED // 40]:.3f})"


if __name__ == "__main__":
    main()
