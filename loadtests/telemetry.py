"""What tracing costs: throughput of a whole Thalweg that traces 10 events a second, against one that traces none.

    .venv/bin/python loadtests/telemetry.py [--rounds N] [--events N] [--rate R] [--control]

Two runs of flights are up at once and take turns: in each round both are sent the same events and labels as fast as
they take them, one after the other, and who is first changes from round to round. A round lasts until the last
prediction was read. Spans go to a receiver in a process of its own, which throws them away. Printed are the medians of
throughput and of the processors' time an event, over all processes of a run and without the broker, whose time varies
most; and of the rounds' ratios, each with the interval in which it lies by a bootstrap of the rounds, 95 times of 100.
Exit status 1 if the median ratio of throughput says that tracing costs more than the bar's 3 %, or nothing was traced.
"""

import argparse
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec

from infra.chaos.load import endless
from infra.local.brokers import free_ports
from infra.local.replayer import Timed
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.kafka import Tail
from services.runtime.stream import Stream, load_stream

SCHEMAS = REPOSITORY / "schemas"
BAR = 0.03
SLICE = 500
PATIENCE_S = 120.0
BROKER = "tansu"
RESAMPLED = 2000
OK = 200


class Round(NamedTuple):
    """Events a second, and seconds of processor time an event, by process and in all."""

    throughput: float
    by_process: dict[str, float]

    @property
    def processor_s(self) -> float:
        return sum(self.by_process.values())

    @property
    def own_s(self) -> float:
        """All of it but the broker's."""
        return sum(took for name, took in self.by_process.items() if name != BROKER)


class Side:
    """One run: traced, if it has somewhere to send spans."""

    def __init__(self, stack: Stack, stream: Stream) -> None:
        self._stack, self._flights = stack, endless(SCHEMAS, stream)
        self._client = httpx.Client(base_url=f"{stack.ingestion}/v1/streams/{stream.name}", timeout=PATIENCE_S)
        self._predictions = Tail(stack.settings, stream.topic("predictions"), from_beginning=True)

    def play(self, events: int) -> Round:
        """Send so many events, and the labels between them; return once all are predicted."""
        due = self._due(events)
        began, before = time.monotonic(), self._processor_s()
        for first in range(0, len(due), SLICE):
            self._send(due[first : first + SLICE])
        read = 0
        while read < events:
            read += len(self._predictions.poll(1000, 0.1))
            if time.monotonic() > began + PATIENCE_S:
                raise TimeoutError(f"{read} of {events} predictions in {PATIENCE_S:g} s; logs in {self._stack.folder}")
        took = time.monotonic() - began
        return Round(events / took, {name: (at - before[name]) / events for name, at in self._processor_s().items()})

    def _due(self, events: int) -> list[Timed]:
        due: list[Timed] = []
        left = events
        while left:
            more = list(islice(self._flights, left))
            left -= sum(kind == "event" for _, kind, _ in more)
            due += more
        return due

    def _send(self, due: list[Timed]) -> None:
        for kind in ("event", "label"):
            if lines := [msgspec.json.encode(record) for _, of, record in due if of == kind]:
                headers = {"Content-Type": "application/x-ndjson"}
                self._client.post(f"/{kind}s", content=b"\n".join(lines), headers=headers).raise_for_status()

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
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--events", type=int, default=5000, help="events of a round")
    parser.add_argument("--rate", type=float, default=10.0, help="traces begun a second")
    parser.add_argument("--control", action="store_true", help="trace neither: what is measured then is the noise")
    given = parser.parse_args()
    receiver = Receiver(free_ports(1)[0])
    receiver.start()
    urls = {"plain": "", "traced": "" if given.control else receiver.url}
    with tempfile.TemporaryDirectory(prefix="thalweg-telemetry-") as folder, ExitStack() as runs:
        sides = [runs.enter_context(_stack(Path(folder) / name, url, given.rate)) for name, url in urls.items()]
        rounds, traces, took = _rounds(sides, given.rounds, given.events, receiver)
    receiver.terminate()
    sys.exit(not _say(rounds, traces, took))


def _stack(folder: Path, otlp: str, rate: float) -> Stack:
    settings = {"THALWEG_TRACE_RATE": str(rate), "THALWEG_TRAINER_COMMIT_EVERY_S": "1"}
    options = Options("flights", run_dir=folder, settings=settings, otlp=otlp)
    return Stack(options, load_stream(SCHEMAS, "flights"), SCHEMAS)


def _rounds(
    stacks: list[Stack], rounds: int, events: int, receiver: Receiver
) -> tuple[list[tuple[Round, Round]], int, float]:
    """Return each round's plain and traced figures, and how many traces were begun in how many seconds."""
    plain, traced = (Side(stack, stack.stream) for stack in stacks)
    for side in (plain, traced):
        side.play(events)  # warm
    found, took, before = [], 0.0, receiver.traces.value
    for number in range(rounds):
        order = (plain, traced) if number % 2 == 0 else (traced, plain)
        played = {side: side.play(events) for side in order}
        found.append((played[plain], played[traced]))
        took += events / played[traced].throughput
        print(
            f"round {number + 1}: plain {played[plain].throughput:,.0f} events/s, traced"
            f" {played[traced].throughput:,.0f}; processors {played[plain].processor_s * 1e6:.0f} and"
            f" {played[traced].processor_s * 1e6:.0f} µs an event",
            flush=True,
        )
    time.sleep(1.0)  # the last spans are on their way
    return found, receiver.traces.value - before, took


def _say(rounds: list[tuple[Round, Round]], traces: int, took: float) -> bool:
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
    print(f"{traces} traces begun in {took:.1f} s of playing: {traces / took:.1f} a second")
    print(
        f"ratios, medians of {len(rounds)} rounds: throughput {_ratio(throughput)}, processor time {_ratio(processors)}"
    )
    print(f"processor time without the broker {_ratio(own)}")
    met = 1 - statistics.median(throughput) <= BAR and traces > 0
    print("the bar is met" if met else f"the bar is missed: at most {BAR:.0%}")
    return met


def _ratio(found: list[float]) -> str:
    """Say the median and where it lies, 95 times of 100 (Efron's percentile bootstrap)."""
    draw = random.Random(1)  # noqa: S311 - no secret
    medians = sorted(statistics.median(draw.choices(found, k=len(found))) for _ in range(RESAMPLED))
    return f"{statistics.median(found):.3f} ({medians[RESAMPLED // 40]:.3f} to {medians[-RESAMPLED // 40]:.3f})"


if __name__ == "__main__":
    main()
