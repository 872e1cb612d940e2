"""The event's features once more, by a fold of its partition up to it, and what each of them was made of."""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from services.replay.compare import time_text
from services.replay.fold import Folded, Refold
from services.replay.online import Row
from services.replay.story.facts import Cause, Feature, Why
from services.replay.story.memories import Made, Seen, number
from services.replay.story.past import Past, grouping, said_again
from services.replay.verify import Tell
from services.runtime.codec import JsonCodec
from services.runtime.grammar import Hour, OneHot, Operator, Value, Weekday
from services.runtime.records import Position, Record
from services.runtime.stream import Stream
from services.runtime.transport import History


class Refolded(msgspec.Struct, frozen=True):
    """The event after the fold, and what its features are made of; nothing of one that has no row."""

    folded: Folded | None
    features: list[Feature] = []


def refold(stream: Stream, history: History, event: Record, refused: Container[int], tell: Tell) -> Refolded:
    """Fold the partition of `events` from its beginning up to this event, which decodes."""
    codec = JsonCodec("event", stream.event)
    row = _row(codec, event)
    past, fold = None if row is None else Past(stream, row), Refold(stream, event.partition, refused)
    for records in _upto(history, event, tell):
        found = [*zip(fold.fold(records), records, strict=True)]
        mine = found.pop()[0] if found[-1][1].offset == event.offset else None
        if past is not None:
            past.fold(_seen(codec, found))
        if mine is not None:
            features = [] if past is None or mine.row is None else _features(stream, past, mine.row, row)
            return Refolded(mine, features)
    return Refolded(None)


def _row(codec: JsonCodec, event: Record) -> Any:  # noqa: ANN401 - a record of the stream's own type
    rows = codec.decode([event.value]).rows
    return rows[0] if rows else None


def _upto(history: History, event: Record, tell: Tell) -> Iterator[list[Record]]:
    position = Position(event.topic, event.partition)
    for records in history.read(position):
        there = [record for record in records if record.offset <= event.offset]
        if there:
            yield there
            tell(position, there[-1].offset + 1, event.offset + 1)
        if len(there) < len(records):
            return


def _seen(codec: JsonCodec, found: Sequence[tuple[Folded, Record]]) -> Iterator[Seen]:
    """Yield the events that were accepted, with their fields."""
    kept = [(one.row, record) for one, record in found if one.row is not None]
    fields = codec.decode([record.value for _, record in kept]).rows
    for (row, _), said in zip(kept, fields, strict=True):
        yield Seen(row.offset, row.event_id, row.time, said)


def _features(stream: Stream, past: Past, row: Row, fields: Any) -> list[Feature]:  # noqa: ANN401 - see above
    columns = dict(zip(stream.columns, np.frombuffer(row.vector, np.float32).tolist(), strict=True))
    event, made = Seen(row.offset, row.event_id, row.time, fields), past.made(row.time)
    told = []
    for name, operator in stream.pipeline.features.items():
        mine = {column: columns[column] for column in operator.columns(name)}
        why = _own(operator, event) if name not in made else _past(stream, name, made[name], event, mine, past)
        told.append(Feature(name, mine, why))
    return told


def _own(operator: Operator, event: Seen) -> Why:
    """Say what a feature is that is of the event alone."""
    value = None
    match operator:
        case Value(of=of):
            value, said = number(event.row, of), f"{of} is {getattr(event.row, of)}"
        case OneHot(of=of):
            said = f"{of} is {getattr(event.row, of)}"
        case Hour():
            said = f"the time of day is {time_text(event.time)}"
        case Weekday():
            said = f"the time of week is {time_text(event.time)}"
        case _:
            said = ""
    cause = Cause(event.offset, event.name, event.time, value)
    return Why(_op(operator), getattr(operator, "of", None), {}, 1, [cause], None, proven=None, said=said)


def _past(stream: Stream, name: str, made: Made, event: Seen, wrote: Mapping[str, float], past: Past) -> Why:
    operator = stream.pipeline.features[name]
    by, of = grouping(operator, stream.key), getattr(operator, "of", None)
    weights: Sequence[float | None] = made.weights or [None] * len(made.counted)
    causes = [
        Cause(one.offset, one.name, one.time, None if of is None else number(one.row, of), weight)
        for one, weight in zip(made.counted, weights, strict=True)
    ]
    proven = None
    if made.whole:
        again = said_again(stream, name, made.given, event).tolist()
        proven = again == [*wrote.values()]
    group = {field: getattr(event.row, field) for field in by}
    length = getattr(operator, "window", None) or getattr(operator, "half_life", None)
    more = past.forgotten.get(by), None if length is None else length.text
    return Why(_op(operator), of, group, made.total, causes, made.start, proven, *more)


def _op(operator: Operator) -> str:
    return str(operator.__struct_config__.tag)


def refused_offsets(refused: Mapping[str, object], topic: str, partition: int) -> set[int]:
    """Return which offsets of a partition were refused, of records by their places."""
    head = f"{topic}/{partition}/"
    return {int(place.removeprefix(head)) for place in refused if place.startswith(head)}
