"""Reads a log for the report: alerts, decisions on versions, commands, then all that was scored and labelled."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from services.replay.drift.curves import Curves
from services.replay.drift.report import Report
from services.replay.drift.stories import Stories
from services.replay.verify import Span
from services.runtime.chronicle import Chronicle
from services.runtime.commands import Orders, decode_command
from services.runtime.errors import Stop
from services.runtime.records import Position, Record
from services.runtime.stream import Stream
from services.runtime.transport import History

Tell: TypeAlias = Callable[[Position, int, int], None]  # how far of which partition is read, and where it ends


def read_report(stream: Stream, history: History, span: Span, now: int, tell: Tell) -> Report:
    """Fold the log. `now` is the time of the clock on the wall (µs), by which silences hold."""
    watched = exists(history, stream.topic("alerts"))
    stories, orders = read_alerts(stream, history), read_orders(stream, history)
    chronicle = Chronicle(stream.feature_set)
    for record in _records(history, stream.topic("models"), tell):
        chronicle.fold(record)
    curves = Curves(span)
    for records in _batches(history, stream.topic("scored"), tell):
        curves.fold_scored(records)
    for records in _batches(history, stream.topic("examples"), tell):
        curves.fold_examples(records)
    return Report(stream.name, span, now, stories if watched else None, chronicle, orders, curves)


def read_alerts(stream: Stream, history: History) -> Stories:
    stories = Stories()
    topic = stream.topic("alerts")
    for record in _records(history, topic) if exists(history, topic) else ():
        stories.fold(record)
    return stories


def read_orders(stream: Stream, history: History) -> Orders:
    orders = Orders()
    topic = stream.topic("commands")
    for record in _records(history, topic) if exists(history, topic) else ():
        orders.fold(decode_command(record.value))
    return orders


def _records(history: History, topic: str, tell: Tell | None = None) -> Iterator[Record]:
    for records in _batches(history, topic, tell):
        yield from records


def _batches(history: History, topic: str, tell: Tell | None = None) -> Iterator[list[Record]]:
    for position in history.positions(topic):
        _, end = history.bounds(position)
        for records in history.read(position):
            if records:
                yield records
                if tell:
                    done = records[-1].offset + 1
                    tell(position, done, max(done, end))


def exists(history: History, topic: str) -> bool:
    """Say whether there is such a topic: a run of an older version has no alerts."""
    try:
        return bool(history.positions(topic))
    except Stop:
        return False
