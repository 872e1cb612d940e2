"""What metrics cost a loop: µs a batch and ns a record, beside what the loop pays for a record anyway.

    python -m loadtests.metrics

It counts batches as inference has them (a record of `features` in, a prediction for each row and one of `scored` out)
and as features has them (a record for each event in, one out), and makes pages as Prometheus asks for them.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

import pyarrow as pa

from services.runtime.frames import Frame
from services.runtime.metrics import Metrics
from services.runtime.produced import produced
from services.runtime.records import Outgoing, Record
from services.runtime.work import Work

FRAME = Frame(pa.schema([pa.field("x", pa.float64())]))
ROUNDS = 200
A_RECORD_US = 1.0  # what `produce` alone costs, for comparison


def took(action: Callable[[], object]) -> float:
    """Return the median of how long it takes, in µs."""
    times = []
    for _ in range(ROUNDS):
        began = perf_counter()
        action()
        times.append(perf_counter() - began)
    return statistics.median(times) * 1e6


def batch(rows: int) -> tuple[list[Record], list[Outgoing], list[Record]]:
    """Return the input and output of inference for so many rows, and the events that they come from."""
    value = FRAME.encode([pa.array([0.5] * rows)])
    events = [Record("s.events", n % 3, n, b"key", b"{}", 1_000_000 + n) for n in range(rows)]
    features = [Record("s.features", 0, 0, None, value, headers=[*FRAME.headers, produced(events)])]
    return features, [*(Outgoing("s.predictions", b"{}") for _ in range(rows)), Outgoing("s.scored", value)], events


def measured(work: Work, read: Sequence[Record], written: Sequence[Outgoing]) -> float:
    def loop() -> None:
        with work.process:
            pass
        with work.commit:
            pass
        work.committed(read, written)

    return took(loop)


def main() -> None:
    metrics = Metrics()
    metrics.of_process()
    work, share = Work(metrics), 0.0
    for rows in (1, 100, 2000):
        features, predictions, events = batch(rows)
        inference = measured(work, features, predictions)
        told = measured(work, events, features_out(features)) + took(partial(produced, events))
        share = max(inference, told) / rows / A_RECORD_US
        print(
            f"{rows:5} rows: {inference:7.1f} µs a batch in inference, {told:7.1f} in features,"
            f" {1000 * max(inference, told) / rows:7.1f} ns a row"
        )
    print(f"a page: {took(metrics.page) / 1000:.2f} ms, on a thread of its own, each time that Prometheus asks")
    if share > 0.25:  # noqa: PLR2004 - of what writing a record costs, at full batches
        sys.exit(f"metrics cost {share:.0%} of what it costs to write a record")


def features_out(records: Sequence[Record]) -> list[Outgoing]:
    return [Outgoing(record.topic, record.value) for record in records]


if __name__ == "__main__":
    main()
