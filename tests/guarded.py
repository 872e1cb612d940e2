"""Asks a guarded broker, as one of its users, what that user may do: by doing it."""

import time
from collections.abc import Callable, Sequence

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from services.runtime.clients import client
from services.runtime.settings import Settings

PATIENCE_S = 60
DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}


def writable(settings: Settings, topics: Sequence[str]) -> set[str]:
    """Return the topics that took a record; whatever does not is refused by the broker's rules, or the test fails."""
    said: dict[str, KafkaError | None] = {}
    producer = Producer(client(settings, log_level=0, **{"message.timeout.ms": PATIENCE_S * 1000}))
    for topic in topics:

        def heard(error: KafkaError | None, _: object, topic: str = topic) -> None:
            said[topic] = error

        producer.produce(topic, b"not a record", b"key", partition=0, on_delivery=heard)
    assert producer.flush(PATIENCE_S) == 0
    return _allowed(topics, said)


def readable(settings: Settings, topics: Sequence[str]) -> set[str]:
    """Return the topics of which something, or the end, could be read; of others not even the partitions are told."""
    said: dict[str, KafkaError | None] = {}
    more = {"enable.partition.eof": True, "group.id": f"{settings.stream}.reader.test", "auto.offset.reset": "earliest"}
    consumer = Consumer(client(settings, log_level=0, **more))
    known = {topic: consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].error for topic in topics}
    said |= {topic: error for topic, error in known.items() if error is not None}
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in topics if topic not in said])
    deadline = time.monotonic() + PATIENCE_S
    while len(said) < len(topics) and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and (topic := message.topic()) is not None:
            error = message.error()
            at_end = error is not None and error.code() == KafkaError._PARTITION_EOF
            said.setdefault(topic, None if at_end else error)
    consumer.close()
    return _allowed(topics, said)


def begins(settings: Settings, transactional_id: str) -> bool:
    """Whether the user may begin transactions of that name."""
    named = {"transactional.id": transactional_id, "transaction.timeout.ms": 10_000}
    producer = Producer(client(settings, log_level=0, **named))
    return _done(lambda: producer.init_transactions(PATIENCE_S))


def commits(settings: Settings, group: str, topic: str) -> bool:
    """Whether the user may say how far a group has come."""
    wanted = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 0)])]
    with AdminClient(client(settings, log_level=0)) as admin:
        return _done(admin.alter_consumer_group_offsets(wanted, request_timeout=PATIENCE_S)[group].result)


def _done(act: Callable[[], object]) -> bool:
    try:
        act()
    except KafkaException as error:
        if error.args[0].code() not in DENIED:
            raise
        return False
    return True


def _allowed(topics: Sequence[str], said: dict[str, KafkaError | None]) -> set[str]:
    assert set(said) == set(topics), f"the broker says nothing of {set(topics) - set(said)}"
    for topic, error in said.items():
        assert error is None or error.code() in DENIED, f"{topic}: {error}"
    return {topic for topic, error in said.items() if error is None}
