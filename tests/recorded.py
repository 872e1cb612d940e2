"""A small run, recorded in memory by the services' own cores, for the tests that read a log again."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.features.core import FeaturesCore
from services.inference.core import InferenceCore
from services.inference.mix import Beside, Mix, Scores
from services.labels.core import LabelsCore
from services.learner.core import LearnerCore
from services.replay.versions import Versions
from services.runtime.artifacts import Artifacts
from services.runtime.memory import MemoryHistory, MemoryLog
from services.runtime.records import Outgoing, Position, Record
from services.runtime.signing import make_keys
from services.runtime.stream import Stream, load_stream

ROOT = Path(__file__).parents[1]
STREAM = load_stream(ROOT / "schemas", "flights")
START = dt.datetime(2013, 1, 5, 6, tzinfo=dt.UTC)
PARTITIONS = {"EWR": 0, "JFK": 1}
FLIGHTS, SLICE = 40, 4


def flight(n: int, *, minutes: int | None = None, **more: Any) -> dict[str, Any]:
    at = START + dt.timedelta(minutes=7 * n if minutes is None else minutes)
    event = {
        "event_id": f"f{n}",
        "origin": ("EWR", "JFK")[n % 3 == 0],
        "dest": ("SFO", "MIA", "BOS")[n % 3],
        "carrier": ("UA", "DL", "XX")[n % 3],
        "flight": n + 1,
        "tailnum": None,
        "scheduled_at": at.isoformat(),
        "departed_at": at.isoformat(),
        "departure_delay_min": float(n * 13 % 50 - 10),
        "distance_mi": 100.0 + n,
    }
    return event | more


def label(n: int) -> dict[str, Any]:
    event = flight(n)
    landed = dt.datetime.fromisoformat(event["departed_at"]) + dt.timedelta(minutes=40)
    return {
        "event_id": event["event_id"],
        "origin": event["origin"],
        "landed_at": landed.isoformat(),
        "arrival_delay_min": 0.0,
        "late": event["departure_delay_min"] > 15,
    }


def outgoing(kind: str, record: dict[str, Any], **more: Any) -> Outgoing:
    key = record["origin"]
    return Outgoing(f"flights.{kind}", json.dumps(record).encode(), key.encode(), PARTITIONS[key], **more)


class Recorded:
    """The run: its log, its artifacts. Event 20 comes two hours late, and one record is no event.

    With a graph, `batch@7` is a shadow that gives no score every third time, and serves every second row later on.
    """

    def __init__(self, data: Path, stream: Stream = STREAM, graph: bytes | None = None) -> None:
        self._graph = graph
        self.stream, self.log = stream, MemoryLog(partitions=2)
        make_keys(data / "keys")
        self.artifacts = Artifacts(data, stream.name)
        self._features = {partition: FeaturesCore(stream, partition) for partition in (0, 1)}
        self._labels = {partition: LabelsCore(stream, partition) for partition in (0, 1)}
        self._inference, self._learner = InferenceCore(stream), LearnerCore(stream)
        self._read: dict[Position, int] = {}
        self._publish()
        if graph is not None:
            self.artifacts.write("batch", 7, graph)
        for first in range(0, FLIGHTS, SLICE):
            self.slice(range(first, first + SLICE))

    def slice(self, numbers: range) -> None:
        for n in numbers:
            if n == 11:
                self.log.append(Outgoing("flights.events", b"{", b"EWR", 0))
            self.log.append(outgoing("events", flight(n, minutes=20) if n == 20 else flight(n)))
            if n >= 8:
                self.log.append(outgoing("labels", label(n - 8)))
        self.go_on()

    def go_on(self) -> None:
        """Have every service read what is new."""
        version = self._learner.learned
        for partition in (0, 1):
            self._append(self._features[partition].fold(self._new("events", partition)))
            if rows := self._new("features", partition):
                batch = self._inference.read(rows)
                self._append(self._inference.write(partition, batch, self._mix(batch, version)))
            self._append(
                self._labels[partition].fold([*self._new("scored", partition), *self._new("labels", partition)])
            )
        self._learner.fold(self._new("examples", 0))
        self._publish()

    def _mix(self, batch: Any, version: int) -> Mix:
        online = Scores(version, self._scores(batch, f"online@{version}"))
        if self._graph is None:
            return Mix(online)
        values, rows = self._scores(batch, "batch@7"), np.arange(batch.num_rows)
        if version == 0:
            shadow = np.where(rows % 3 == 0, np.nan, values)
            return Mix(online, [Beside(7, "shadow", 0.5, shadow, np.zeros(len(rows)))])
        return Mix(online, [Beside(7, "champion", 0.25, values, np.where(rows % 2, 0.25, 0.0))])

    def _scores(self, batch: Any, name: str) -> NDArray[np.float64]:
        vectors, score = self._inference.vectors(batch).tolist(), self.versions().score
        return np.array([score(name, dict(zip(self.stream.columns, vector, strict=True))) for vector in vectors])

    def _publish(self) -> None:
        self.artifacts.write("online", self._learner.learned, self._learner.artifact())

    def _new(self, kind: str, partition: int) -> list[Record]:
        position = Position(f"flights.{kind}", partition)
        seen = self._read.get(position, 0)
        self._read[position] = len(self.log.topics[position])
        return self.log.topics[position][seen:]

    def _append(self, outgoing: list[Outgoing]) -> None:
        for out in outgoing:
            self.log.append(out)

    @property
    def history(self) -> MemoryHistory:
        return MemoryHistory(self.log)

    def versions(self, artifacts: Artifacts | None = None, stream: Stream | None = None) -> Versions:
        examples = (stream or self.stream).topic("examples")
        return Versions(stream or self.stream, artifacts or self.artifacts, lambda: self.history.read_topic(examples))
