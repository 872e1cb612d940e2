"""How many events a second the feature engine folds on one core, decode and encode included, broker excluded.

    .venv/bin/python loadtests/features.py [--events N] [--batch B ...]

Real flights through the flights pipeline, keyed over as many airports as the data has. Each batch size is run several
times and the best and the median are printed, then what each step of a batch costs. A slow or busy machine shows in
the spread, and in what a bare decode of the same records costs beside the steps; compare within one run.
"""

import argparse
import statistics
import time

import msgspec
import numpy as np
import pyarrow as pa

from infra.local.replayer import records
from infra.local.stack import REPOSITORY
from services.features.core import SERVICE, FeaturesCore
from services.features.engine import Engine
from services.features.times import plain_times
from services.runtime.admission import Admission
from services.runtime.frames import matrix, times
from services.runtime.record_types import record_type
from services.runtime.records import Record
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream, load_stream

SCHEMAS = REPOSITORY / "schemas"
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 20, 200, 500, 2000, 8000])
    given = parser.parse_args()
    stream = load_stream(SCHEMAS, "flights")
    log = recorded(stream, given.events)
    print(f"{len(log)} flights, {len(log[0].value)} bytes each, {len(stream.columns)} columns, one partition, one core")
    for batch in given.batch:
        rates = sorted(rate(stream, log[: max(batch * 200, 20_000)], batch) for _ in range(ROUNDS))
        print(f"batch {batch:>5}: median {statistics.median(rates):>9,.0f} events/s, best {rates[-1]:>9,.0f}")
    print("batches of 2,000, step by step (median):")
    steps = Steps(stream)
    for first in range(0, len(log) - 1999, 2000):
        steps.run(log[first : first + 2000])
    for step, micros in steps.medians().items():
        print(f"  {step:<20} {micros:6.3f} µs/event")


def recorded(stream: Stream, events: int) -> list[Record]:
    """Return the stream's events as the log would hold them, all on one partition."""
    found = [record for _, kind, record in records(SCHEMAS, stream.name, events) if kind == "event"]
    values = [(event[stream.key].encode(), msgspec.json.encode(event)) for event in found]
    return [Record("flights.events", 0, offset, key, value) for offset, (key, value) in enumerate(values)]


def rate(stream: Stream, log: list[Record], batch: int) -> float:
    core = FeaturesCore(stream, 0)
    core.warm_up()
    start = time.perf_counter()
    for first in range(0, len(log), batch):
        core.fold(log[first : first + batch])
    return len(log) / (time.perf_counter() - start)


class Steps:
    """Folds batch after batch as the core does, with a stop-watch between the steps."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._admission = Admission(stream, SERVICE, "event", plain_times)
        self._frame, self._engine = features_frame(stream), Engine(stream)
        self._bare = msgspec.json.Decoder(record_type("event", stream.event)).decode
        self._taken: dict[str, list[float]] = {}
        self._last = 0.0

    def run(self, batch: list[Record]) -> None:
        self._last = time.perf_counter()
        list(map(self._bare, [record.value for record in batch]))
        self._stop("for scale: bare JSON", batch)
        events, _ = self._admission.read(batch)
        self._stop("decode and check", batch)
        when = events.times[self._stream.pipeline.stream.time]
        vectors, _ = self._engine.fold(events.column, when)
        self._stop("fold", batch)
        texts = [pa.array(events.column(name), pa.string()) for name in ("event_id", self._stream.key)]
        columns = [*texts, times(when), pa.array(np.arange(len(batch))), matrix(vectors)]
        self._stop("Arrow columns", batch)
        self._frame.encode(columns)
        self._stop("Arrow message", batch)

    def _stop(self, step: str, batch: list[Record]) -> None:
        now = time.perf_counter()
        self._taken.setdefault(step, []).append((now - self._last) / len(batch) * 1e6)
        self._last = now

    def medians(self) -> dict[str, float]:
        """Return what each step costs, in microseconds an event."""
        return {step: statistics.median(values) for step, values in self._taken.items()}


if __name__ == "__main__":
    main()
