"""What keys, quotas and TLS cost at the HTTP door: µs a request in its process, and throughput side by side.

    python -m loadtests.keys [--seconds 3] [--rounds 5]

Three doors stand on one embedded broker: an open one, one with keys and quotas, one with these and TLS. They are driven
in turn by as many senders, with single events and with a thousand a request; a round's figures are compared with each
other alone, since the machine may have been another a minute before. Bars: a check takes less than 10 µs, and with TLS
throughput is at least 0.7 of what it is without.
"""

import argparse
import json
import os
import ssl
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx
from starlette.requests import Request

from infra.local import authority, brokers
from infra.local.brokers import TopicSpec
from infra.local.processes import Children
from infra.local.replayer import records
from infra.local.stack import REPOSITORY
from services.ingestion import issuing
from services.ingestion.audit import Audit
from services.ingestion.doorkeeper import Doorkeeper
from services.ingestion.key_file import KeyFile, change, draw
from services.ingestion.keys import Book, Producer

MOST_US, LEAST_TLS = 10.0, 0.7
SENDERS, PRODUCERS, CALLS, REPEATS = 2, 1000, 1000, 100
GRANT = Producer(["events:write"], ["*"], 1e9, 1e12)
SIZES = (1, 1000)


def make_keys(path: Path, producers: int) -> str:
    """Write a file of so many producers; return the key of one."""
    book, now = Book(), datetime.now(UTC)
    for number in range(producers):
        fresh = draw()
        book = issuing.create(book, f"p{number}", GRANT, fresh, now)
    change(path, lambda _: book)
    return fresh.token


def check_us(path: Path, key: str) -> float:
    """Return what a request is held up by its key and its quota, in µs of the thread's own time."""
    keeper = Doorkeeper(KeyFile(path), "flights", Audit(lambda _reason, _route: None), 1)
    headers = [(b"host", b"door"), (b"content-length", b"250"), (b"authorization", f"Bearer {key}".encode())]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers})
    times = []
    for _ in range(REPEATS):
        began = time.thread_time()
        for _ in range(CALLS):
            keeper.charge(request, keeper.admit(request, "events:write"), 1, 250)
        times.append((time.thread_time() - began) / CALLS)
    return statistics.median(times) * 1e6


class Door:
    """A running ingestion, and how it is spoken to."""

    def __init__(self, children: Children, name: str, folder: Path, broker: str, key: str, *, tls: bool) -> None:
        port = brokers.free_ports(1)[0]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
        trust = ssl.create_default_context(cafile=folder / "authority.pem")
        self._verify: ssl.SSLContext | bool = trust if tls else True
        own = {"PORT": str(port), "KEYS": str(folder / ("none.json" if name == "open" else "keys.json"))}
        files = {"TLS_CERTIFICATE": str(folder / "chain.pem"), "TLS_KEY": str(folder / "key.pem")}
        given = {f"THALWEG_INGESTION_{name}": value for name, value in (own | (files if tls else {})).items()}
        environment = os.environ | {"THALWEG_BROKER": broker} | given
        self._child = children.start(
            name, [sys.executable, "-m", "services.ingestion"], env=environment, cwd=REPOSITORY
        )
        while not self._answers():
            children.check()
            time.sleep(0.1)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, verify=self._verify, headers=self.headers)

    def cpu_s(self) -> float:
        """Return the processor's time that the door has had."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return client.get("/healthz").is_success
        except httpx.TransportError:
            return False


def drive(door: Door, body: bytes, size: int, seconds: float) -> tuple[float, float]:
    """Return how many records a second a door takes, and how long its processor works for one, in µs."""
    taken, end = [0] * SENDERS, time.monotonic() + seconds

    def send(number: int) -> None:
        with door.client() as client:
            while time.monotonic() < end:
                answer = client.post("/v1/streams/flights/events", content=body)
                if answer.is_success:
                    taken[number] += size
                elif answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    answer.raise_for_status()

    senders = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
    began, had = time.monotonic(), door.cpu_s()
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return sum(taken) / (time.monotonic() - began), (door.cpu_s() - had) / max(1, sum(taken)) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="What keys and TLS cost at the door")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority.issue(folder)
        key = make_keys(folder / "keys.json", PRODUCERS)
        cost = check_us(folder / "keys.json", key)
        print(f"a check: {cost:.1f} µs, with {PRODUCERS} producers in the file")
        children = stack.enter_context(Children(folder / "logs"))
        ratios = side_by_side(children, folder, key, given.rounds, given.seconds)
    if cost > MOST_US or min(ratios) < LEAST_TLS:
        sys.exit(f"expected a check of at most {MOST_US:g} µs, and with TLS at least {LEAST_TLS} of what is without")


def side_by_side(children: Children, folder: Path, key: str, rounds: int, seconds: float) -> list[float]:
    """Drive the three doors; return what is left with TLS, as a share, at each size of request."""
    broker = brokers.embedded(children, brokers.free_ports(1)[0])
    brokers.wait_ready(broker, children)
    brokers.create_topics(broker, {f"flights.{kind}": TopicSpec(3) for kind in ("events", "labels", "predictions")})
    doors = {
        name: Door(children, name, folder, broker.address, key, tls=name == "keys and TLS")
        for name in ("open", "keys", "keys and TLS")
    }
    timed = records(REPOSITORY / "schemas", "flights", max(SIZES))
    lines = [json.dumps(record).encode() for _, kind, record in timed if kind == "event"]
    return [compare(doors, b"\n".join(lines[:size]), size, rounds, seconds) for size in SIZES]


def compare(doors: dict[str, Door], body: bytes, size: int, rounds: int, seconds: float) -> float:
    taken = [{name: drive(door, body, size, seconds) for name, door in doors.items()} for _ in range(rounds)]
    for name in doors:
        rates, costs = zip(*(found[name] for found in taken), strict=True)
        share = statistics.median(found[name][0] / found["open"][0] for found in taken)
        print(
            f"{size:5} a request, {name:12}: {statistics.median(rates):8.0f} records/s, {share:.2f} of the open door's;"
            f" {statistics.median(costs):7.1f} µs of its processor a record",
            flush=True,
        )
    return statistics.median(found["keys and TLS"][0] / found["keys"][0] for found in taken)


if __name__ == "__main__":
    main()
