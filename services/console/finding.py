"""One prediction with all that made it: looked up where it stands, or among the newest of the log."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute as pc

from services.console import tape, why
from services.console.picture import Picture
from services.console.searching import Search, searching
from services.console.store import Store
from services.console.tape import Seen
from services.runtime.errors import Retry
from services.runtime.frames import rows
from services.runtime.pii import Masker
from services.runtime.records import Record
from services.runtime.schemas import scored_frame
from services.runtime.settings import Settings
from services.runtime.stream import Stream

NEWEST = 20_000  # records of a partition that are searched


class Finding:
    """Answers what is asked of an event's id."""

    def __init__(
        self,
        stream: Stream,
        settings: Settings,
        topics: Mapping[str, str],
        picture: Picture,
        store: Store,
        masker: Masker,
    ) -> None:
        """`topics` are `predictions`, `scored` and `labels`, by these kinds."""
        self._stream, self._settings, self._topics = stream, settings, topics
        self._picture, self._store, self._masker = picture, store, masker
        self._frame = scored_frame(stream)
        self._why, self._fields = why.reasons(stream), why.fields(stream)

    def find(self, event_id: str) -> dict[str, Any] | None:
        """Return its whole story; None if it is not among the newest. Retry if the broker is away, or slow.

        `label_sought` is False where that had no time left to look for a label.
        """
        event_id = str(self._masker.value(self._id, event_id))  # asked for by what it was before it was hashed
        with searching(self._settings) as search:
            seen = self._picture.ask(lambda core: core.tape.find(event_id)) or self._search(search, event_id)
            if seen is None:
                return None
            found, features = seen.prediction, self._features(search, seen)
            label, sought = self._label(search, seen)
            return {
                "prediction": self._shown(seen),
                "at": seen.at,
                "features": features,
                "versions": list(found.scores),
                "weights": found.weights,
                "label": label,
                "label_sought": sought,
                "trace": self._trace(found.trace_id, event_id),
                "similar": self._picture.ask(lambda core: core.tape.similar(seen)),
            }

    def _shown(self, seen: Seen) -> dict[str, Any]:
        shown: dict[str, Any] = msgspec.to_builtins(seen.prediction)
        rule = self._stream.pipeline.stream
        return shown | {
            "key": self._masker.value(rule.key, shown["key"]),
            "event_id": self._masker.value(rule.id, shown["event_id"]),
        }

    def _search(self, search: Search, event_id: str) -> Seen | None:
        """Look for it among the newest predictions, a partition after the other."""
        topic = self._topics["predictions"]
        for partition in search.partitions(topic):
            record = search.newest(topic, partition, NEWEST, lambda record: _is_of(record, event_id))
            if record is not None:
                return Seen(tape.decode(record.value), record.partition, record.offset, record.timestamp)
        return None

    def _features(self, search: Search, seen: Seen) -> list[dict[str, Any]]:
        """Read the event's row off the batch in which it was scored."""
        source, topic = seen.prediction.source, self._topics["scored"]

        def side(record: Record) -> int:
            offsets = np.asarray(self._frame.decode(record).column("offset"))
            return -1 if offsets[-1] < source.offset else 1 if offsets[0] > source.offset else 0

        record = search.between(topic, source.partition, side)
        if record is None:
            return []
        batch = self._frame.decode(record)
        place = pc.index(batch.column("offset"), source.offset).as_py()
        if place < 0:
            return []
        vector = rows(batch.column("features"))[place].tolist()
        return [self._feature(name, value) for name, value in zip(self._stream.columns, vector, strict=True)]

    def _feature(self, name: str, value: float) -> dict[str, Any]:
        number = None if np.isnan(value) else value
        return {"name": name, "value": self._masker.value(self._fields[name], number), "why": self._why[name]}

    def _label(self, search: Search, seen: Seen) -> tuple[dict[str, Any] | None, bool]:
        """Look for the newest of its labels, which are on the partition of its key; whether all was looked through."""
        event_id, partition = seen.prediction.event_id, seen.prediction.source.partition

        def wanted(record: Record) -> bool:
            return _is_of(record, event_id, self._id)

        try:
            found = search.newest(self._topics["labels"], partition, NEWEST, wanted)
        except Retry:
            return None, False
        if found is None:
            return None, True
        label = msgspec.json.decode(found.value)
        field = self._stream.pipeline.label.field
        value = float(label[field])
        self._picture.ask(lambda core: core.labelled(event_id, value))
        return {field: label[field], "time": label[self._stream.pipeline.label.time], "at": found.timestamp}, True

    @property
    def _id(self) -> str:
        return self._stream.pipeline.stream.id

    def _trace(self, trace_id: str | None, event_id: str) -> dict[str, Any] | None:
        found = trace_id or self._store.of_event(event_id)
        spans = self._store.trace(found) if found else []
        return {"trace_id": found, "spans": spans} if spans else None


def _is_of(record: Record, event_id: str, field: str = "event_id") -> bool:
    """Whether a record is this event's; most are told by their bytes alone."""
    if event_id.encode() not in record.value:
        return False
    try:
        found = msgspec.json.decode(record.value.removeprefix(b"\0"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(found, dict) and found.get(field) == event_id
