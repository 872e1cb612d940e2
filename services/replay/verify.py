"""Proves that online equals offline: folds `events` again and compares features, predictions, late and refused events.

Every event is folded from the beginning of the log, a partition at a time; a span of event times bounds what is
compared, not what is folded. What the services had not committed when this began is waiting, not missing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, TypeVar

import msgspec
import numpy as np

from services.replay.compare import Told, prediction_differs, row_differs, scores_differ
from services.replay.findings import Findings
from services.replay.fold import Folded, Refold
from services.replay.online import (
    Counts,
    Following,
    Layout,
    OnlineRows,
    Predicted,
    Row,
    late,
    online_predictions,
    refused,
)
from services.replay.versions import Versions
from services.runtime.errors import Stop
from services.runtime.records import Position
from services.runtime.stream import Stream
from services.runtime.transport import History

Written = TypeVar("Written", Row, Predicted)
Tell: TypeAlias = Callable[[Position, int, int], None]  # partition of `events`, how far, and where it ends


class Span(msgspec.Struct, frozen=True):
    """Event times from `start` to before `end`, in microseconds since 1970."""

    start: int = -(2**63)
    end: int = 2**63 - 1

    def __contains__(self, time: int) -> bool:
        return self.start <= time < self.end


def verify(stream: Stream, history: History, versions: Versions, span: Span, tell: Tell) -> Iterator[Findings]:
    """Verify the log, a partition of `events` at a time."""
    events, features = (history.positions(stream.topic(kind)) for kind in ("events", "features"))
    done = {
        **history.committed(f"{stream.name}.features", events),
        **history.committed(f"{stream.name}.inference", features),
    }
    letters, came_late = refused(history, stream), late(history, stream)
    for position in events:
        of_here = letters.get(position, {}), came_late.get(position.partition, {})
        yield _Check(stream, history, position, versions, span, *of_here).run(done, tell)


class _Check:
    """One partition: the fold and what was written online, side by side."""

    def __init__(
        self,
        stream: Stream,
        history: History,
        events: Position,
        versions: Versions,
        span: Span,
        letters: Counts,
        came_late: Counts,
    ) -> None:
        self._stream, self._history, self._events = stream, history, events
        self._versions, self._span, self._letters, self._came_late = versions, span, letters, came_late
        self._made = Layout(stream.feature_set, stream.columns)
        self._found = Findings(events)
        self._features, self._predictions = stream.topic("features"), stream.topic("predictions")
        self._rows = OnlineRows(history.read(self._beside(self._features)))
        self._predicted = Following(online_predictions(history.read(self._beside(self._predictions))))

    def _beside(self, topic: str) -> Position:
        return Position(topic, self._events.partition)

    def run(self, done: dict[Position, int], tell: Tell) -> Findings:
        """Compare what `done` says was committed: of `events` by the features, of `features` by the inference."""
        end, self._scored = done[self._events], done[self._beside(self._features)]
        first, last = self._history.bounds(self._events)
        if first > 0:
            raise Stop(f"{self._events.topic}[{self._events.partition}] begins at {first}: what came before is gone")
        refold = Refold(self._stream, self._events.partition, self._letters)
        for records in self._history.read(self._events):
            ready = [record for record in records if record.offset < end]
            self._found.counts["waiting"] += len(records) - len(ready)
            for folded in refold.fold(ready):
                self._event(folded)
            tell(self._events, records[-1].offset + 1, last)
        self._strays(self._features, self._rows.following.rest(), end)
        self._strays(self._predictions, self._predicted.rest(), end)
        self._found.feature_set = self._written.feature_set
        return self._found

    def _event(self, folded: Folded) -> None:
        offset = folded.offset
        rows = list(self._of(self._features, self._rows.following.upto(offset), offset))
        predicted = list(self._of(self._predictions, self._predicted.upto(offset), offset))
        if folded.row is None:
            self._refused(folded, rows, predicted)
        elif folded.row.time in self._span:
            self._accepted(folded.row, folded.behind, rows, predicted)

    def _of(self, topic: str, items: Iterable[Written], offset: int) -> Iterator[Written]:
        """Yield what is of this event; an earlier one has had its own already."""
        for item in items:
            if item.offset == offset:
                yield item
            else:
                self._strays(topic, [item], offset)

    def _strays(self, topic: str, items: Iterable[Row | Predicted], end: int) -> None:
        for item in items:
            if item.offset < end and item.time in self._span:
                self._differ(topic, item, "record", "one more", "one an event, in their order")

    def _refused(self, folded: Folded, rows: list[Row], predicted: list[Predicted]) -> None:
        for topic, items in ((self._features, rows), (self._predictions, predicted)):
            for item in items:
                self._differ(topic, item, "record", "one", f"none, as it was refused: {folded.reason}")
        self._found.counts["refused"] += 1
        self._found.counts["accepted now"] += folded.reason is None
        times = self._letters.get(folded.offset, 0)
        if times != 1:
            topic, replayed = self._stream.topic("dead-letter"), f"one: {folded.reason}"
            self._found.differ(topic, folded.offset, None, None, "record", _many(times), replayed)

    def _accepted(self, row: Row, behind: int | None, rows: list[Row], predicted: list[Predicted]) -> None:
        self._found.counts["rows"] += 1
        self._once(self._features, row, rows)
        for online in rows[:1]:
            self._report(self._features, row, online.place, row_differs(online, row, self._written, self._made))
        self._scored_once(row, rows, predicted)
        for found in predicted[:1]:
            self._prediction(found, row, rows[0] if rows else None)
        self._late(row, behind)

    def _scored_once(self, row: Row, rows: list[Row], predicted: list[Predicted]) -> None:
        """Expect one prediction of what inference has committed; a row that is missing has been named as such."""
        if predicted or any(online.place is not None and online.place < self._scored for online in rows):
            self._once(self._predictions, row, predicted)
        elif rows:
            self._found.counts["unscored"] += 1

    def _prediction(self, found: Predicted, row: Row, online: Row | None) -> None:
        """Compare a prediction; its scores are those of the vector that was written, as the model saw no other."""
        self._found.counts["predictions"] += 1
        layout, vector = (self._written, online.vector) if online else (self._made, row.vector)
        differing = [*prediction_differs(found, row, layout.feature_set, self._events.partition)]
        values = dict(zip(layout.columns, np.frombuffer(vector, np.float32).tolist(), strict=True))
        try:
            scores = {version: self._versions.score(version, values) for version in found.said.scores}
        except Stop as error:
            differing.append(("scores", str(found.said.scores), f"can't be made again: {error}"))
        else:
            differing += scores_differ(found.said, self._stream.pipeline.label.field, scores)
        self._report(self._predictions, row, found.place, differing)

    def _late(self, row: Row, behind: int | None) -> None:
        times, expected = self._came_late.get(row.offset, 0), int(behind is not None)
        if times != expected:
            self._differ(self._stream.topic("late"), row, "record", _many(times), _many(expected))
        if behind is not None:
            self._found.come_late(row.offset, row.event_id, behind)

    @property
    def _written(self) -> Layout:
        return self._rows.layout or self._made

    def _once(self, topic: str, row: Row, items: Sequence[Row | Predicted]) -> None:
        if len(items) != 1:
            self._differ(topic, items[-1] if items else row, "record", _many(len(items)), "one")

    def _report(self, topic: str, row: Row, place: int | None, found: Iterable[Told]) -> None:
        for told in found:
            self._found.differ(topic, row.offset, row.event_id, place, *told)

    def _differ(self, topic: str, item: Row | Predicted, *told: str) -> None:
        self._found.differ(topic, item.offset, item.event_id, item.place, *told)


def _many(times: int) -> str:
    return {0: "none", 1: "one"}.get(times, f"{times} of them")
