"""Finds single records on the log when somebody asks: bounded reads by a reader of its own, that is let go again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.runtime.errors import Retry
from services.runtime.kafka import read, reader
from services.runtime.records import Record
from services.runtime.settings import Settings

ANSWER_S = 3.0
PATIENCE_S = 4.0  # for all that one question reads
CHUNK = 1_000
LIMITS = {"enable.partition.eof": True, "queued.max.messages.kbytes": 4096}


class Search:
    """Reads for one question; Retry where the broker does not answer."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._ends_at = time.monotonic() + PATIENCE_S

    def partitions(self, topic: str) -> list[int]:
        return sorted(self._consumer.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions)

    def at(self, topic: str, partition: int, offset: int) -> Record | None:
        """Return the record at an offset, or the first one behind it."""
        return next(self._from(topic, partition, offset, offset + 1), None)

    def newest(self, topic: str, partition: int, most: int, wanted: Callable[[Record], bool]) -> Record | None:
        """Return the last record that is wanted among the newest `most` of a partition."""
        low, high = self._bounds(topic, partition)
        found = None
        for record in self._from(topic, partition, max(low, high - most), high):
            if wanted(record):
                found = record
        return found

    def behind(self, topic: str, partition: int, offset: int) -> Iterator[Record]:
        """Yield the records from an offset on, up to where the partition ends now."""
        yield from self._from(topic, partition, offset, self._bounds(topic, partition)[1])

    def between(self, topic: str, partition: int, side: Callable[[Record], int]) -> Record | None:
        """Return the record whose `side` is 0, in a partition where it is negative before it and positive behind it."""
        low, high = self._bounds(topic, partition)
        while low < high:
            middle = (low + high) // 2
            record = self.at(topic, partition, middle)
            where = 1 if record is None else side(record)
            if where == 0:
                return record
            if where > 0:
                high = middle
            else:
                low = (middle if record is None else record.offset) + 1
        return None

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_S)

    def _from(self, topic: str, partition: int, start: int, end: int) -> Iterator[Record]:
        if start >= end:
            return
        self._consumer.assign([TopicPartition(topic, partition, start)])
        try:
            while time.monotonic() < self._ends_at:
                first = self._consumer.poll(0.1)
                messages = [] if first is None else [first, *self._consumer.consume(CHUNK, 0)]
                for message in messages:
                    record = read(message)
                    if record is None:  # the partition's end
                        return
                    yield record
                    if record.offset >= end - 1:
                        return
        finally:
            self._consumer.unassign()


@contextmanager
def searching(settings: Settings) -> Iterator[Search]:
    """Open a search; whatever the broker says against it is Retry."""
    consumer = reader(settings, **LIMITS)
    try:
        yield Search(consumer)
    except KafkaException as error:
        raise Retry(f"the broker at {settings.broker}: {error.args[0].str()}") from error
    finally:
        consumer.close()
