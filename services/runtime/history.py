"""What the log holds now, read without a group: one partition at a time, from its beginning to where it ends."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from services.runtime.errors import Retry
from services.runtime.kafka import MAX_BYTES, ask, partitions_of, read, reader
from services.runtime.records import Position, Record
from services.runtime.settings import Settings

CHUNK = 64  # messages taken at once
ANSWER_S = 5
REST_S = 10  # a transaction that is open at the end of a topic may have to time out


class KafkaHistory:
    """Reads the topics of a broker. Where a partition ends in an open transaction it waits until that is decided."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asking = reader(settings, **{"isolation.level": "read_uncommitted"})

    def positions(self, topic: str) -> list[Position]:
        return [Position(topic, partition) for partition in partitions_of(self._asking, topic)]

    def bounds(self, position: Position) -> tuple[int, int]:
        """Return the first offset that is kept, and the end; the embedded broker's may lie within its last batch."""
        where = TopicPartition(position.topic, position.partition)
        low, high = ask(f"where {position} ends", lambda: self._asking.get_watermark_offsets(where, timeout=ANSWER_S))
        return low, high

    def committed(self, group: str, positions: Sequence[Position]) -> dict[Position, int]:
        consumer = reader(self._settings, **{"group.id": group})
        where = [TopicPartition(position.topic, position.partition) for position in positions]
        found = ask(f"what {group} committed", lambda: consumer.committed(where, timeout=ANSWER_S))
        consumer.close()
        return {Position(p.topic, p.partition): max(p.offset, 0) for p in found}

    def read(self, position: Position, batch: int = 2000) -> Iterator[list[Record]]:
        first, end = self.bounds(position)
        if end == 0:
            return
        consumer = reader(self._settings, **{"enable.partition.eof": True})
        consumer.assign([TopicPartition(position.topic, position.partition, first)])
        try:
            yield from _batches(consumer, end, batch)
        finally:
            consumer.close()

    def between(self, position: Position, start: int, end: int | None = None) -> list[Record]:
        until = self.bounds(position)[1] if end is None else end
        consumer = reader(self._settings, **{"enable.partition.eof": True})
        consumer.assign([TopicPartition(position.topic, position.partition, start)])
        found: list[Record] = []
        try:
            ended = end is not None and start >= end
            while not ended:
                messages = _there(consumer)
                ended = any(_ends(message, until) or _reaches(message, end) for message in messages)
                found += [record for message in messages if (record := read(message)) is not None]
        finally:
            consumer.close()
        return [record for record in found if end is None or record.offset < end]

    def read_topic(self, topic: str) -> Iterator[list[Record]]:
        for position in self.positions(topic):
            yield from self.read(position)

    def close(self) -> None:
        self._asking.close()


class Following:
    """Reads a topic of one partition from its beginning, without a group, and goes on with what is new."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._position = Position(topic, 0)
        self._history = KafkaHistory(settings)
        self._consumer = reader(settings, **{"enable.partition.eof": True})
        self._consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        self._reached = 0  # every record before this offset was read
        self._held: list[Record] = []

    def new(self) -> list[Record]:
        """Return what has come, and don't wait for more."""
        self._take(self._consumer.consume(CHUNK, 0))
        held, self._held = self._held, []
        return held

    def rest(self) -> list[Record]:
        """Return what is new, up to where the topic ends now; Retry while it can't be read so far."""
        _, end = self._history.bounds(self._position)
        deadline = time.monotonic() + REST_S
        while self._reached < end:
            if time.monotonic() > deadline:
                raise Retry(f"{self._position.topic} is not read up to {end}, where it ends, but to {self._reached}")
            self._take(_there(self._consumer))
        return self.new()

    def close(self) -> None:
        self._consumer.close()
        self._history.close()

    def _take(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if _ends(message, self._reached):
                self._reached = cast(int, message.offset())
            elif (record := read(message)) is not None:
                self._held.append(record)
                self._reached = record.offset + 1


def read_all(settings: Settings, topic: str) -> Iterator[list[Record]]:
    """Yield what a topic holds now, one partition after the other."""
    with closing(KafkaHistory(settings)) as history:
        yield from history.read_topic(topic)


def _batches(consumer: Consumer, end: int, batch: int) -> Iterator[list[Record]]:
    held: list[Record] = []
    size, ended = 0, False
    while not ended:
        messages = _there(consumer)
        ended = any(_ends(message, end) for message in messages)
        fresh = [record for message in messages if (record := read(message)) is not None]
        held += fresh
        size += sum(len(record.value) for record in fresh)
        if held and (ended or len(held) >= batch or size >= MAX_BYTES):
            yield held
            held, size = [], 0


def _there(consumer: Consumer) -> list[Message]:
    """Wait for a message, and return it with those that are there; `consume` alone would wait until it is full."""
    first = consumer.poll(0.1)
    return [] if first is None else [first, *consumer.consume(CHUNK, 0)]


def _ends(message: Message, end: int) -> bool:
    """Whether this says that the reader has come to the end, and that it is the end that was there at the start."""
    error = message.error()
    at_end = error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
    return at_end and cast(int, message.offset()) >= end


def _reaches(message: Message, end: int | None) -> bool:
    """Whether nothing before this offset is still to come after this message."""
    return end is not None and message.error() is None and cast(int, message.offset()) >= end - 1
