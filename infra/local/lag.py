"""How far behind a consumer group is, asked of the broker, whether or not its members are there."""

import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.runtime.kafka import bounds, reader
from services.runtime.settings import Settings

PATIENCE_S = 5.0


def behind(settings: Settings, group: str, topic: str) -> int | None:
    """Return how many records of the topic the group has not committed; None if the broker does not say.

    A transaction's end takes up an offset, so the distance of two offsets is never quite the number of records. What
    is certain is 0: whether there is a record to read is found by reading, without joining the group.
    """
    more: dict[str, Any] = {"enable.partition.eof": True, "max.partition.fetch.bytes": 1024, "log_level": 0}
    consumer = reader(settings, **more, **{"group.id": group})
    try:
        return _behind(settings, consumer, _committed(consumer, topic))
    except KafkaException:
        return None
    finally:
        consumer.close()


def _committed(consumer: Consumer, topic: str) -> list[TopicPartition]:
    partitions = consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].partitions
    found = consumer.committed([TopicPartition(topic, number) for number in partitions], timeout=PATIENCE_S)
    return [TopicPartition(topic, p.partition, p.offset if p.offset >= 0 else OFFSET_BEGINNING) for p in found]


def _behind(settings: Settings, consumer: Consumer, starts: list[TopicPartition]) -> int | None:
    consumer.assign(starts)
    found: dict[int | None, int] = {}
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < len(starts):
        if time.monotonic() > deadline:
            return None
        message = consumer.poll(0.1)
        if message is not None and message.partition() not in found:
            found[message.partition()] = _from(settings, consumer, message)
    return sum(found.values())


def _from(settings: Settings, consumer: Consumer, message: Message) -> int:
    """Count from the first record that is there up to the end of its partition."""
    error = message.error()
    if error is None:
        place = TopicPartition(str(message.topic()), message.partition() or 0)
        end = bounds(settings, consumer, place, PATIENCE_S)[1]
        return max(end - (message.offset() or 0), 1)
    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
        return 0
    raise KafkaException(error)
