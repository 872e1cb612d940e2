"""How many spans a second the console takes over HTTP, and whether its store stays under its size meanwhile.

    .venv/bin/python loadtests/span_store.py --seconds 20 --store-mb 32

Starts a console of its own, without a broker, and posts protobuf as OpenTelemetry's exporter does; what is answered
with 503 is sent again. The store must turn over several times for its size to mean something.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from infra.local.brokers import free_ports

SPANS = 512  # of a request: the exporter's own
SENDERS = 2


def request(seed: int) -> bytes:
    """Make a body of traces of nine spans, with the attributes that ours have."""
    body = ExportTraceServiceRequest()
    resource = body.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "features"
    scope = resource.scope_spans.add()
    now = time.time_ns()
    for number in range(SPANS):
        span = scope.spans.add()
        span.trace_id = (seed * SPANS + number // 9 + 1).to_bytes(16, "big")
        span.span_id = (seed * SPANS + number + 1).to_bytes(8, "big")
        span.name, span.kind = "process flights.events", 5
        span.start_time_unix_nano, span.end_time_unix_nano = now, now + 1_000_000
        for key, value in (
            ("messaging.system", "kafka"),
            ("messaging.destination.name", "flights.events"),
            ("thalweg.event_id", f"2013-01-13-DL-{seed}-{number}"),
            ("thalweg.key", "LGA"),
        ):
            span.attributes.add(key=key).value.string_value = value
        for key, count in (("messaging.kafka.offset", number), ("messaging.batch.message_count", 200)):
            span.attributes.add(key=key).value.int_value = count
    made: bytes = body.SerializeToString()
    return made


class Load:
    """Sends until told to stop; counts what was taken."""

    def __init__(self, url: str) -> None:
        self._url, self._seeds = url, iter(range(1 << 60))
        self.taken = self.refused = 0
        self.stopped = False

    def run(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self.stopped:
                body = request(next(self._seeds))
                while not self.stopped:
                    answer = client.post(self._url, content=body, headers={"Content-Type": "application/x-protobuf"})
                    if answer.status_code == httpx.codes.OK:
                        self.taken += SPANS
                        break
                    self.refused += 1
                    time.sleep(0.05)


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("spans.db*") if path.exists())


def measure(seconds: float, store_mb: int) -> dict[str, float]:
    """Return spans taken a second, refusals, and the largest size seen, in MB."""
    port = free_ports(1)[0]
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "THALWEG_DATA": folder,
            "THALWEG_BROKER": "127.0.0.1:1",
            "THALWEG_CONSOLE_PORT": str(port),
            "THALWEG_CONSOLE_STORE_MB": str(store_mb),
        }
        with subprocess.Popen(
            [sys.executable, "-m", "services.console"], env=environment, stderr=subprocess.DEVNULL
        ) as console:
            try:
                _wait(f"http://127.0.0.1:{port}/healthz")
                return _load(f"http://127.0.0.1:{port}/v1/traces", seconds, Path(folder) / "console", console.pid)
            finally:
                console.terminate()


def _wait(url: str) -> None:
    for _ in range(200):
        try:
            httpx.get(url, timeout=1)
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(url)


def _load(url: str, seconds: float, folder: Path, pid: int) -> dict[str, float]:
    load, largest = Load(url), 0
    threads = [threading.Thread(target=load.run) for _ in range(SENDERS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    while time.monotonic() - began < seconds:
        largest = max(largest, on_disk(folder))
        time.sleep(0.02)
    load.stopped = True
    lasted = time.monotonic() - began
    for thread in threads:
        thread.join()
    memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "spans_a_second": round(load.taken / lasted),
        "spans": load.taken,
        "refusals": load.refused,
        "largest_mb": round(largest / (1 << 20), 1),
        "memory_mb": round(memory / (1 << 20), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--store-mb", type=int, default=32)
    given = parser.parse_args()
    found = measure(given.seconds, given.store_mb)
    print(found)
    return 0 if found["largest_mb"] <= given.store_mb else 1


if __name__ == "__main__":
    sys.exit(main())
