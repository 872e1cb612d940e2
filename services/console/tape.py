"""A sample of the newest predictions, and where each of them stands. Pure."""

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeAlias

import msgspec

from services.runtime.records import Record
from services.runtime.stream import Stream

Mask: TypeAlias = Callable[[str, Any], Any]  # of a field and its value
SHOWN = 60
KEPT = 5_000  # whose place is known by their id


class Source(msgspec.Struct, frozen=True):
    """Where the event stands on `events`."""

    partition: int
    offset: int


class Prediction(msgspec.Struct, frozen=True):
    """What is read of a prediction; `services/inference/core.py` writes it."""

    event_id: str
    key: str
    event_time: dt.datetime
    prediction: dict[str, float]
    scores: dict[str, float]
    weights: dict[str, float]
    source: Source
    features: str = ""
    degraded: bool = False
    trace_id: str | None = None


class Seen(msgspec.Struct, frozen=True):
    """A prediction, and the partition and offset at which it stands itself."""

    prediction: Prediction
    partition: int
    offset: int
    at: int


decode = msgspec.json.Decoder(Prediction).decode


class Tape:
    """Folds samples of `predictions`, by the ids that are shown. `mask` says what stands for a field of the event.

    Labels are those that came to light when somebody asked for them.
    """

    def __init__(self, stream: Stream, mask: Mask) -> None:
        self._rule, self._field, self._mask = stream.pipeline.stream, stream.pipeline.label.field, mask
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._labels: dict[str, float] = {}

    def fold(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                found = decode(record.value)
            except msgspec.MsgspecError:  # of another version of the service
                continue
            self._seen[self._shown(found.event_id)] = Seen(found, record.partition, record.offset, record.timestamp)
        while len(self._seen) > KEPT:
            gone, _ = self._seen.popitem(last=False)
            self._labels.pop(gone, None)

    def label(self, event_id: str, label: float) -> None:
        if (shown := self._shown(event_id)) in self._seen:
            self._labels[shown] = label

    def _shown(self, event_id: str) -> str:
        return str(self._mask(self._rule.id, event_id))

    def find(self, event_id: str) -> Seen | None:
        return self._seen.get(event_id)

    def newest(self, limit: int = SHOWN) -> list[Seen]:
        newest = islice(reversed(self._seen.values()), limit)
        return sorted(newest, key=lambda seen: -seen.at)

    def similar(self, seen: Seen, limit: int = 8) -> list[str]:
        """Return the recent events of the same key whose score is nearest, nearest first."""
        mine = self._score(seen)
        others = [
            other
            for other in self._seen.values()
            if other.prediction.key == seen.prediction.key and other.prediction.event_id != seen.prediction.event_id
        ]
        others.sort(key=lambda other: abs(self._score(other) - mine))
        return [self._shown(other.prediction.event_id) for other in others[:limit]]

    def _score(self, seen: Seen) -> float:
        return seen.prediction.prediction.get(self._field, 0.0)

    def view(self) -> dict[str, Any]:
        return {"predictions": [self.row(seen) for seen in self.newest()]}

    def row(self, seen: Seen) -> dict[str, Any]:
        found = seen.prediction
        return {
            "event_id": (shown := self._shown(found.event_id)),
            "key": self._mask(self._rule.key, found.key),
            "event_time": round(found.event_time.timestamp() * 1000),
            "score": self._score(seen),
            "partition": found.source.partition,
            "offset": found.source.offset,
            "trace_id": found.trace_id,
            "degraded": found.degraded,
            "label": self._labels.get(shown),
        }
