"""From a message of `scored` or `examples` to the summaries that it completes; its rows are counted by the hour."""

from services.drift.tables import Tables
from services.runtime.frames import micros
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import examples_frame, scored_frame
from services.runtime.stream import Stream


class Summing:
    """Folds messages of any partition of both."""

    def __init__(self, stream: Stream, tables: Tables) -> None:
        self._tables, self._topic = tables, stream.topic("summaries")
        self._frames = {"scored": scored_frame(stream), "examples": examples_frame(stream)}

    def fold(self, kind: str, record: Record) -> list[Outgoing]:
        made = self._tables.open(kind, record.partition).fold(record)
        times = micros(self._frames[kind].decode(record).column("event_time"))
        self._tables.hours[kind].count(record.partition, record.offset, times)
        return [Outgoing(self._topic, summary) for summary in made]
