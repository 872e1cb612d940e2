"""Finds an event on the log by its id: the newest records first, in bounded memory, until it is there."""

from collections.abc import Iterator, Sequence

import msgspec

from services.inference.core import Prediction
from services.replay.story.facts import Refusal
from services.replay.verify import Span, Tell
from services.runtime.dead_letters import DeadLetter, Replayed, decode_dead_letter, place_name
from services.runtime.errors import Stop
from services.runtime.records import Position, Record
from services.runtime.stream import Stream
from services.runtime.transport import History

FIRST, LARGEST = 2000, 32_000  # offsets of a partition that are read at once: the newest may be what is asked for


class Found(msgspec.Struct, frozen=True):
    """Where an event stands on `events`, and the record of its prediction, if there is one."""

    position: Position
    offset: int
    predicted: tuple[Record, Prediction] | None = None


def find(history: History, stream: Stream, name: str, span: Span, tell: Tell) -> Found:
    """Find it by its id, or by its place, `topic/partition/offset`; Stop if it is not there.

    `span` is of times at which the broker got its prediction, or the event, in microseconds.
    """
    events = history.positions(stream.topic("events"))
    if (place := _place(name, events)) is not None:
        return _with_prediction(history, stream, place, span, tell)
    read = 0
    for record in newest_first(history, history.positions(stream.topic("predictions")), span, tell):
        read += 1
        if _names(record.value, name) and (said := _prediction(record)).event_id == name:
            return Found(Position(stream.topic("events"), said.source.partition), said.source.offset, (record, said))
    for record in newest_first(history, events, span, tell):
        read += 1
        if _names(record.value, name) and _id(record.value, stream) == name:
            return Found(record.position, record.offset)
    narrowed = "" if span == Span() else "; --from and --to may leave it out"
    raise Stop(
        f"no event {name!r} among {read:,} records of {stream.topic('predictions')} and {stream.topic('events')}"
        f"{narrowed}. Is it another stream's (--stream)? One whose id can't be read is found by its place, such as"
        f" {stream.topic('events')}/0/17 (thalweg dead-letter list)"
    )


def newest_first(history: History, positions: Sequence[Position], span: Span, tell: Tell) -> Iterator[Record]:
    """Yield the records of these partitions, a slice of each in turn, the newest first."""
    bounds = {position: history.bounds(position) for position in positions}
    ends = {position: end for position, (first, end) in bounds.items() if end > first}
    size = FIRST
    while ends:
        for position, end in [*ends.items()]:
            first = bounds[position][0]
            ends[position] = start = max(first, end - size)
            records = history.between(position, start, None if end == bounds[position][1] else end)
            yield from (record for record in reversed(records) if record.timestamp * 1000 in span)
            tell(position, bounds[position][1] - start, bounds[position][1] - first)
            if start == first or (records and records[-1].timestamp * 1000 < span.start):
                del ends[position]
        size = min(2 * size, LARGEST)


def refusals(history: History, stream: Stream) -> dict[str, list[Refusal]]:
    """Return what is in `dead-letter`, by the place of the original."""
    found: dict[str, list[tuple[Record, DeadLetter]]] = {}
    replayed = set()
    for records in history.read_topic(stream.topic("dead-letter")):
        for record in records:
            letter = decode_dead_letter(record)
            if isinstance(letter, Replayed):
                replayed.add(letter.place)
            else:
                found.setdefault(letter.place, []).append((record, letter))
    return {place: [_refusal(stream, *one, place in replayed) for one in ones] for place, ones in found.items()}


def _refusal(stream: Stream, record: Record, letter: DeadLetter, replayed: bool) -> Refusal:  # noqa: FBT001 - of it
    where = place_name(record.topic, record.partition, record.offset)
    parts = letter.reason, letter.message, letter.service, letter.place, where, record.timestamp
    called = None if letter.value is None else _id(letter.original()[1], stream)
    return Refusal(*parts, replayed, called)


def _place(name: str, events: Sequence[Position]) -> Found | None:
    partition, _, offset = name.rpartition("/")
    position = {f"{one.topic}/{one.partition}": one for one in events}.get(partition)
    return Found(position, int(offset)) if position is not None and offset.isdecimal() else None


def _with_prediction(history: History, stream: Stream, found: Found, span: Span, tell: Tell) -> Found:
    beside = Position(stream.topic("predictions"), found.position.partition)
    for record in newest_first(history, [beside], span, tell):
        said = _prediction(record)
        if said.source.offset == found.offset:
            return Found(found.position, found.offset, (record, said))
        if said.source.offset < found.offset:
            break  # they are in the order of their events
    return found


def _names(value: bytes, name: str) -> bool:
    """Whether a record may name it; an escape may hide it."""
    return name.encode() in value or b"\\" in value


def _prediction(record: Record) -> Prediction:
    try:
        return msgspec.json.decode(record.value, type=Prediction)
    except msgspec.MsgspecError as error:
        place = place_name(record.topic, record.partition, record.offset)
        raise Stop(f"{place} is no prediction: {error}") from error


def _id(value: bytes, stream: Stream) -> str | None:
    try:
        said = msgspec.json.decode(value[5:] if value[:1] == b"\0" else value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return said.get(stream.pipeline.stream.id) if isinstance(said, dict) else None
