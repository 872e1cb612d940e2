"""A topic is written again without some of its records, each of the others at its old offset, with its old time.

Kafka takes no record out of the middle of a log, and offsets are what snapshots, predictions and groups speak in. So
the topic is deleted, made again and filled from a spool. Where an offset has no record (a transaction ended there, or
it is of what is forgotten) it gets what no reader sees: one offset by ending the transaction of the records before it,
several by records of a transaction that is aborted, those at the beginning by deleting up to there. Nobody may write
meanwhile.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from infra.forgetting.spool import Partition, Plan, Run, Spool
from services.runtime.clients import client
from services.runtime.errors import Stop
from services.runtime.history import KafkaHistory
from services.runtime.kafka import ask, reader
from services.runtime.records import Record
from services.runtime.settings import Settings

TIME_TYPE = "message.timestamp.type"
ANSWER_S = 30.0
PASSING = {
    KafkaError.TOPIC_ALREADY_EXISTS,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._TIMED_OUT,  # noqa: SLF001 - its public name
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - its public name
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - its public name
}
Left = Callable[[Record], Record | None]


class Cluster:
    """What is asked of a broker, and told to it, beside reading and writing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._admin = AdminClient(client(settings))
        self._reader = reader(settings, **{"isolation.level": "read_uncommitted"})

    def topics(self) -> set[str]:
        return set(self._admin.list_topics(timeout=ANSWER_S).topics)

    def members(self, prefix: str) -> list[str]:
        """Return the consumer groups of this prefix that have members now."""
        groups = self._groups(prefix)
        described = self._admin.describe_consumer_groups(groups) if groups else {}
        return sorted(name for name, future in described.items() if future.result().members)

    def end(self, topic: str, partition: int) -> int:
        return self.bounds(topic, partition)[1]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        where = TopicPartition(topic, partition)
        what = f"where {topic}[{partition}] ends"
        low, high = ask(what, lambda: self._reader.get_watermark_offsets(where, timeout=ANSWER_S))
        return low, high

    def plan(self, topic: str, prefix: str, partitions: list[Partition]) -> Plan:
        known = self._admin.list_topics(topic, timeout=ANSWER_S).topics[topic]
        resource = ConfigResource(ResourceType.TOPIC, topic)
        entries = self._admin.describe_configs([resource])[resource].result()
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        config = {name: entry.value for name, entry in entries.items() if entry.source == own}
        numbers = [one.number for one in partitions]
        committed = {group: self._committed(group, topic, numbers) for group in self._groups(prefix)}
        replicas = len(known.partitions[0].replicas)
        return Plan(topic, replicas, config, partitions, {group: at for group, at in committed.items() if at})

    def make_anew(self, plan: Plan) -> None:
        """Delete the topic, if it is there, and make it again, empty and with times of our own."""
        if plan.topic in self.topics():
            self._admin.delete_topics([plan.topic])[plan.topic].result()
        config = {name: value for name, value in plan.config.items() if name != TIME_TYPE}
        wanted = NewTopic(plan.topic, len(plan.partitions), plan.replicas, config=config)
        _insist(lambda: self._create(wanted))
        for one in plan.partitions:
            _insist(partial(self._wait_empty, plan.topic, one.number))

    def _create(self, wanted: NewTopic) -> None:
        for future in self._admin.create_topics([wanted]).values():
            future.result()

    def _wait_empty(self, topic: str, partition: int) -> None:
        if self._reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_S)[1]:
            raise KafkaException(KafkaError(KafkaError.TOPIC_ALREADY_EXISTS))

    def finish(self, plan: Plan) -> None:
        """Give the topic its clock back, and the groups their offsets."""
        if TIME_TYPE in plan.config:
            entry = ConfigEntry(TIME_TYPE, plan.config[TIME_TYPE], incremental_operation=AlterConfigOpType.SET)
            resource = ConfigResource(ResourceType.TOPIC, plan.topic, incremental_configs=[entry])
            self._admin.incremental_alter_configs([resource])[resource].result()
        for group, offsets in plan.committed.items():
            where = [TopicPartition(plan.topic, number, offset) for number, offset in offsets.items()]
            asked = ConsumerGroupTopicPartitions(group, where)
            self._admin.alter_consumer_group_offsets([asked])[group].result()

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        where = TopicPartition(topic, partition, offset)
        for future in self._admin.delete_records([where]).values():
            future.result()

    def wait_end(self, topic: str, partition: int, end: int) -> None:
        """Return once the partition ends there: the end of a transaction is written after it was promised."""
        deadline = time.monotonic() + ANSWER_S
        while (found := self.end(topic, partition)) != end:
            if found > end or time.monotonic() > deadline:
                raise Stop(f"{topic}[{partition}] ends at {found}, expected {end}: does anybody else write to it?")
            time.sleep(0.002)

    def close(self) -> None:
        self._reader.close()

    def _groups(self, prefix: str) -> list[str]:
        found = self._admin.list_consumer_groups().result().valid
        return sorted(group.group_id for group in found if group.group_id.startswith(prefix))

    def _committed(self, group: str, topic: str, numbers: list[int]) -> dict[int, int]:
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, number) for number in numbers])
        found = self._admin.list_consumer_group_offsets([asked])[group].result()
        return {at.partition: at.offset for at in found.topic_partitions if at.offset >= 0}


def spooled(cluster: Cluster, history: KafkaHistory, spool: Spool, topic: str, prefix: str, left: Left) -> None:
    """Keep what may stay of a topic in the spool; Stop if somebody wrote to it meanwhile."""
    spool.begin()
    partitions: list[Partition] = []
    for position in history.positions(topic):
        _, end = cluster.bounds(topic, position.partition)
        records = (record for batch in history.read(position) for record in batch)
        kept = (stays for record in records if (stays := left(record)) is not None)
        partitions.append(spool.write(position.partition, kept, end))
    plan = cluster.plan(topic, prefix, partitions)
    _lower(plan)
    for one in partitions:
        cluster.wait_end(topic, one.number, one.end)
    spool.complete(plan)


def refilled(cluster: Cluster, spool: Spool) -> None:
    """Make the topic of a complete spool again, as often as it takes, and remove the spool."""
    plan = spool.plan()
    if plan is None:
        return
    cluster.make_anew(plan)
    filling = _Filling(cluster, plan.topic)
    for one in plan.partitions:
        filling.fill(one, spool.read(one.number))
    cluster.finish(plan)
    spool.remove()


def _lower(plan: Plan) -> None:
    """Have no group wait for a record that is gone: move what was committed to behind the last one before it."""
    for offsets in plan.committed.values():
        for one in plan.partitions:
            if (at := offsets.get(one.number)) is not None:
                ends = [min(run.first + run.count, at) for run in one.runs if run.first < at]
                offsets[one.number] = ends[-1] if ends else 0


class _Filling:
    """Writes one topic, and knows which offset each record must get."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        more: dict[str, Any] = {"linger.ms": 5, "message.max.bytes": 16 << 20}
        self._cluster, self._topic = cluster, topic
        self._plain = Producer(client(cluster.settings, **more, **{"enable.idempotence": True}))
        named = {"transactional.id": f"{topic}.forget", "transaction.timeout.ms": 600_000}
        self._named = Producer(client(cluster.settings, **more, **named))
        self._named.init_transactions(ANSWER_S)
        self._wrong: str | None = None

    def fill(self, one: Partition, records: Iterator[Record]) -> None:
        if one.begin:
            self._write(
                self._plain, one.number, (Record(self._topic, one.number, n, None, b"") for n in range(one.begin))
            )
            self._cluster.delete_before(self._topic, one.number, one.begin)
        for run in one.runs:
            self._run(one.number, run, itertools.islice(records, run.count))
        self._cluster.wait_end(self._topic, one.number, one.end)

    def _run(self, number: int, run: Run, records: Iterator[Record]) -> None:
        after = run.first + run.count
        if run.gap == 1:
            self._named.begin_transaction()
            self._write(self._named, number, records)
            self._named.commit_transaction(ANSWER_S)
        else:
            self._write(self._plain, number, records)
        if run.gap > 1:
            hidden = (Record(self._topic, number, after + n, None, b"") for n in range(run.gap - 1))
            self._named.begin_transaction()
            self._write(self._named, number, hidden)
            self._named.abort_transaction(ANSWER_S)
        self._cluster.wait_end(self._topic, number, after + run.gap)

    def _write(self, producer: Producer, number: int, records: Iterator[Record]) -> None:
        for record in records:
            self._send(producer, number, record)
        if producer.flush(ANSWER_S) or self._wrong:
            raise Stop(f"{self._topic}[{number}] could not be written: {self._wrong or 'the broker does not answer'}")

    def _send(self, producer: Producer, number: int, record: Record) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None or message.offset() != record.offset:
                self._wrong = self._wrong or f"{error or message.offset()}, expected offset {record.offset}"

        more: dict[str, Any] = {"timestamp": record.timestamp} if record.timestamp > 0 else {}
        while True:
            try:
                producer.produce(
                    self._topic, record.value, record.key, number, delivered, headers=record.headers, **more
                )
            except BufferError:
                producer.poll(0.1)
            else:
                return


def _insist(action: Callable[[], object]) -> None:
    """Do it; a topic that is being deleted, or was just made, takes a moment to be gone, or there, for everybody."""
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            action()
        except KafkaException as error:
            if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
