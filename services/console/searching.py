"""Finds single records on the log when somebody asks: bounded reads by a reader of its own, that is let go again."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from services.runtime.errors import Retry
from services.runtime.kafka import bounds, read, reader
from services.runtime.records import Record
from services.runtime.settings import Settings

Wanted: TypeAlias = Callable[[Record], bool]
ANSWER_S = 3.0
PATIENCE_S = 8.0  # for all that one question reads
CHUNK = 1_000
BATCH = 10_000  # records of one, at most, as producers are set
LIMITS = {"enable.partition.eof": True, "queued.max.messages.kbytes": 4096}


class Search:
    """Reads for one question; Retry where the broker does not answer, or what is asked for takes too long to read."""

    def __init__(self, settings: Settings, consumer: Consumer) -> None:
        self._settings, self._consumer = settings, consumer
        self._ends_at = time.monotonic() + PATIENCE_S

    def partitions(self, topic: str) -> list[int]:
        return sorted(self._consumer.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions)

    def at(self, topic: str, partition: int, offset: int) -> Record | None:
        """Return the record at an offset, or the first one behind it."""
        low, end = self._bounds(topic, partition)
        start = max(low, min(offset, end - 1))  # behind its end nothing would ever come
        return next((record for record in self._from(topic, partition, start, end) if record.offset >= offset), None)

    def newest(self, topic: str, partition: int, most: int, wanted: Wanted) -> Record | None:
        """Return the last record that is wanted among the newest `most` of a partition, the newest first."""
        low, end = self._bounds(topic, partition)
        lowest, start, chunk = max(low, end - most), end, CHUNK
        limit = sys.maxsize  # the newest chunk goes as far as there is something
        while start > lowest:
            start, chunk = max(lowest, start - chunk), 2 * chunk
            found = None
            for record in self._from(topic, partition, start, end):
                if record.offset >= limit:
                    break
                if wanted(record):
                    found = record
            if found is not None:
                return found
            end = limit = start
        return None

    def behind(self, topic: str, partition: int, offset: int) -> Iterator[Record]:
        """Yield the records from an offset on, up to where the partition ends now."""
        yield from self._from(topic, partition, offset, self._bounds(topic, partition)[1])

    def between(self, topic: str, partition: int, side: Callable[[Record], int]) -> Record | None:
        """Return the record whose `side` is 0, in a partition where it is negative before it and positive behind it."""
        low, end = self._bounds(topic, partition)
        high = end
        while low < high:
            middle = (low + high) // 2
            record = next(self._from(topic, partition, middle, middle), None)
            where = 1 if record is None else side(record)
            if where == 0:
                return record
            if where > 0:
                high = middle
            else:
                low = (middle if record is None else record.offset) + 1
        return next((one for one in self._from(topic, partition, end, end) if side(one) == 0), None)  # see _from

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return bounds(self._settings, self._consumer, TopicPartition(topic, partition), ANSWER_S)

    def _from(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        """Yield the records from `start` on to the partition's end, that was `end` when the broker was asked.

        The embedded broker counts its last batch as one record, so there may be more behind it, a batch at most.
        """
        self._consumer.assign([TopicPartition(topic, partition, start)])
        try:
            while True:
                for message in self._there():
                    record = read(message)
                    if record is not None and record.offset < end + BATCH:
                        yield record
                    elif (message.offset() or 0) >= end:
                        return
        finally:
            self._consumer.unassign()

    def _there(self) -> list[Message]:
        """Return a message with those behind it, or nothing yet; Retry where patience is over."""
        if time.monotonic() > self._ends_at:
            raise Retry(f"the log could not be read through within {PATIENCE_S:g} s")
        first = self._consumer.poll(0.1)
        return [] if first is None else [first, *self._consumer.consume(CHUNK, 0)]


@contextmanager
def searching(settings: Settings) -> Iterator[Search]:
    """Open a search; whatever the broker says against it is Retry."""
    consumer = reader(settings, **LIMITS)
    try:
        yield Search(settings, consumer)
    except KafkaException as error:
        raise Retry(f"the broker at {settings.broker}: {error.args[0].str()}") from error
    finally:
        consumer.close()
