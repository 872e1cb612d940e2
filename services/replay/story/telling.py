"""Tells the story of an event: finds its records, folds again what made them, and says where the two agree.

Nothing is asked but the log, and the versions' artifacts where they are there: an event is told alike whether or not it
was traced when it came. What can't be derived is named, with the reason, and the rest is told.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from services.replay.online import layout, rows_of
from services.replay.story.facts import Event, Hop, Outcome, Predicted, Refusal, Story, Training
from services.replay.story.finding import Found, find, refusals
from services.replay.story.future import Future, future
from services.replay.story.hops import hop, row_of
from services.replay.story.labelling import heard
from services.replay.story.refolding import Refolded, refold, refused_offsets
from services.replay.story.scoring import predicted
from services.replay.verify import Span, Tell
from services.replay.versions import Versions
from services.runtime.dead_letters import place_name
from services.runtime.errors import Stop
from services.runtime.frames import micros
from services.runtime.records import Record
from services.runtime.stream import Stream
from services.runtime.transport import History

NOTHING: Sequence[Training] = ()
WHOLE = Span()


def story(
    stream: Stream,
    history: History,
    versions: Versions,
    name: str,
    tell: Tell,
    span: Span = WHOLE,
    trainings: Sequence[Training] = NOTHING,
    table: Callable[[int], int | None] = lambda _: None,
) -> Story:
    """Tell all that the log knows of an event; Stop if there is no such event.

    `trainings` says what versions of the batch model were trained on, `table` which version of the Delta table was the
    first to have an offset of `examples`: both stand beside the log.
    """
    found = find(history, stream, name, span, tell)
    telling = _Telling(stream, history, versions, found, refusals(history, stream), tell)
    return telling.told(name, trainings, table)


class _Telling:
    """One story, as far as it is told."""

    def __init__(
        self,
        stream: Stream,
        history: History,
        versions: Versions,
        found: Found,
        refused: Mapping[str, list[Refusal]],
        tell: Tell,
    ) -> None:
        self._stream, self._history, self._versions, self._tell = stream, history, versions, tell
        self._position, self._offset, self._predicted = found.position, found.offset, found.predicted
        self._refused = refused
        self._hops: list[Hop] = []
        self._notes: list[str] = []

    def told(self, name: str, trainings: Sequence[Training], table: Callable[[int], int | None]) -> Story:
        event = self._event()
        first = None if event is None else self._add(hop("event", "ingestion", event))
        place = place_name(self._position.topic, self._position.partition, self._offset)
        if event is not None and place in self._refused:
            return self._story(name, "refused", place, event, refused=self._refused[place])
        again = self._again(event)
        made = self._row("features", first)
        scored = self._row("scored", self._hops[-1] if self._hops else None)
        parts: dict[str, Any] = {"features": again.features, "features_agree": self._same(again, made)}
        parts["prediction"] = self._served(made, scored)
        if (time := self._time(again, made)) is not None:
            parts["event_time"] = time
            came = self._future(time, name, scored, trainings, table)
            self._hops += came.hops
            parts |= {"label": came.label, "learned": came.learned, "decided": came.decided}
        return self._story(name, "predicted" if self._predicted else "waiting", place, event, again, **parts)

    def _story(
        self,
        name: str,
        outcome: Outcome,
        place: str,
        event: Record | None,
        again: Refolded | None = None,
        **more: Any,  # noqa: ANN401 - further parts of the story
    ) -> Story:
        row = again.folded.row if again and again.folded else None
        told = None if event is None else _event(event, again)
        key = row.key if row else event.key.decode(errors="replace") if event and event.key else None
        trace = self._predicted[1].trace_id if self._predicted else None
        if trace is None and told is not None:
            trace = _trace_of(told.headers.get("traceparent", ""))
        given = {"event_time": None, "refused": []} | more
        called = row.event_id if row else name
        return Story(
            called,
            self._stream.name,
            outcome,
            place,
            key,
            hops=self._hops,
            event=told,
            notes=self._notes,
            trace_id=trace,
            **given,
        )

    def _add(self, made: Hop) -> Hop:
        self._hops.append(made)
        return made

    # What was, and is folded again

    def _event(self) -> Record | None:
        first, end = self._history.bounds(self._position)
        if self._offset < first:
            self._notes.append(f"{self._position.topic} begins at offset {first}: the event itself is gone")
            return None
        newest = self._offset >= end  # the end may be told too low
        where = (end, None) if newest else (self._offset, self._offset + 1)
        found = (one for one in self._history.between(self._position, *where) if one.offset == self._offset)
        if (event := next(found, None)) is None:
            place = place_name(self._position.topic, self._position.partition, self._offset)
            raise Stop(f"there is no record at {place}; the partition ends at about {end}")
        return event

    def _again(self, event: Record | None) -> Refolded:
        first, _ = self._history.bounds(self._position)
        if event is None or first > 0:
            self._notes.append(f"{self._position.topic} begins at offset {first}: what made the features is gone")
            return Refolded(None)
        refused = refused_offsets(self._refused, self._position.topic, self._position.partition)
        again = refold(self._stream, self._history, event, refused, self._tell)
        if again.folded is not None and again.folded.row is None:
            self._notes.append(f"not accepted by the fold: {again.folded.reason}")
        return again

    def _row(self, kind: str, after: Hop | None) -> tuple[Record, pa.RecordBatch, int] | None:
        topic = self._stream.topic(kind)
        found = row_of(self._history, topic, self._position.partition, self._offset, self._tell)
        if found is None:
            self._notes.append(f"it is not on {topic} yet")
            return None
        service = "features" if kind == "features" else "inference"
        self._add(hop(kind, service, found[0], found[2], after))
        return found

    def _same(self, again: Refolded, made: tuple[Record, pa.RecordBatch, int] | None) -> bool | None:
        """Whether the features that were written are those of the fold, bit for bit."""
        if made is None or again.folded is None or again.folded.row is None:
            return None
        (online,) = rows_of(made[1].select(_FEATURES).slice(made[2], 1))
        written = layout(made[1].schema)
        if written.columns != self._stream.columns:
            self._notes.append(f"written by feature set {written.feature_set}: trace it with the stream folder of then")
        return online.vector == again.folded.row.vector

    def _served(self, made: tuple[Record, pa.RecordBatch, int] | None, scored: Any) -> Predicted | None:  # noqa: ANN401
        if self._predicted is None:
            return None
        record, said = self._predicted
        before = next((one for one in self._hops if one.name == "features"), None)
        self._add(hop("prediction", "inference", record, None, before))
        if made is None:
            return None
        columns, vector = layout(made[1].schema).columns, np.asarray(made[1].column("features")[made[2]].as_py())
        values = dict(zip(columns, vector.astype(np.float32).tolist(), strict=True))
        beside = [] if scored is None else scored[1].column("batch")[scored[2]].as_py()
        return predicted(said, self._stream.pipeline.label.field, values, beside, self._versions)

    # What came of it

    def _time(self, again: Refolded, made: tuple[Record, pa.RecordBatch, int] | None) -> int | None:
        if again.folded is not None and again.folded.row is not None:
            return again.folded.row.time
        return None if made is None else int(micros(made[1].column("event_time"))[made[2]])

    def _future(self, time: int, name: str, scored: Any, trainings: Any, table: Any) -> Future:  # noqa: ANN401
        labels, partition = self._stream.topic("labels"), self._position.partition
        asked = [] if scored is None else [one["version"] for one in scored[1].column("batch")[scored[2]].as_py()]
        called = self._predicted[1].event_id if self._predicted else name
        refused = refused_offsets(self._refused, labels, partition)
        said = heard(self._stream, self._history, partition, called, refused, self._tell)
        letters = [
            one
            for place, letters in self._refused.items()
            if place.startswith(f"{labels}/{partition}/")
            for one in letters
            if one.event_id == called
        ]
        before = next((one for one in self._hops if one.name == "scored"), None)
        event = partition, self._offset, time
        return future(self._stream, self._history, event, said, letters, before, asked, trainings, table, self._tell)


_FEATURES = ["event_id", "key", "event_time", "offset", "features"]


def _event(record: Record, again: Refolded | None) -> Event:
    headers = {name: _text(value) for name, value in record.headers or []}
    try:
        value = msgspec.json.decode(record.value[5:] if record.value[:1] == b"\0" else record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = record.value.decode(errors="backslashreplace")
    return Event(value, headers, again.folded.behind if again and again.folded else None)


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value or ""


def _trace_of(traceparent: str) -> str | None:
    """Return the trace id of a W3C traceparent: version-trace-parent-flags."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else None  # noqa: PLR2004 - as the standard has it
