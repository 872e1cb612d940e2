"""Examples of a made-up stream, as records of its topic, for tests of the offline store."""

import numpy as np
import pyarrow as pa

from services.runtime.frames import matrix, times
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import BESIDE, SCORE
from services.trainer.store import ExampleStore
from tests.lessons import FRAME

TOPIC = "made.examples"
HOUR = 3_600_000_000  # microseconds


def value(first: int, number: int = 3, *, corrects: bool = False) -> bytes:
    """Return what a record holds: examples of the events `first` and following, one an hour; labels come later.

    If it corrects, the other labels, another hour later.
    """
    events = np.arange(first, first + number)
    at = events * HOUR
    columns = [
        pa.array([f"e{event}" for event in events]),
        pa.array([f"k{event % 4}" for event in events]),
        times(at),
        pa.array(events),
        matrix(np.outer(events + 1, [1, 1e-3, -50]).astype(np.float32)),
        pa.array(events / 1000),
        pa.array([{"version": int(event), "score": 0.5, "weight": 1.0} for event in events], SCORE),
        pa.array([[]] * len(events), BESIDE),
        pa.array([0] * number, pa.int32()),
        pa.array(((events + corrects) % 2).astype(float)),
        times(at + (3 + corrects - events % 3) * HOUR),
        pa.array(["corrected" if corrects else "label"] * number),
        pa.array([float(event % 2) if corrects else None for event in events], pa.float64()),
    ]
    return FRAME.encode(columns)


def out(first: int, number: int = 3) -> Outgoing:
    return Outgoing(TOPIC, value(first, number), partition=0, headers=FRAME.headers)


def records(count: int, step: int = 2, size: int = 3) -> list[Record]:
    """Return records of `size` events each, at every `step`-th offset: a log of transactions has gaps."""
    return [Record(TOPIC, 0, step * n, None, value(size * n, size), headers=FRAME.headers) for n in range(count)]


def ids(store: ExampleStore, version: int | None = None) -> list[str]:
    """Return the ids that a version holds, in the order of the events."""
    table = store._read(store._fresh().version() if version is None else version)
    return [row["event_id"] for row in sorted(table.to_pylist(), key=lambda row: row["offset"])]


def expected(events: int) -> list[str]:
    return [f"e{event}" for event in range(events)]
