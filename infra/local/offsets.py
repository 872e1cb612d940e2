"""Where a broker's partitions end and how far groups have come, asked again and again without waiting long."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.runtime.kafka import reader
from services.runtime.records import Position
from services.runtime.settings import Settings

PATIENCE_S = 1.0
Offsets: TypeAlias = Mapping[Position, int]


class BrokerSilent(Exception):  # noqa: N818 - a state that the operator sees
    """The broker gives no answer now; it may the next time."""


class Asking:
    """Asks the broker of these settings; its connections stay open. `groups` are those whose offsets are asked for."""

    def __init__(self, settings: Settings, groups: Sequence[str]) -> None:
        self._any = reader(settings, **{"enable.partition.eof": True, "max.partition.fetch.bytes": 1024})
        self._all = reader(settings, **{"isolation.level": "read_uncommitted"})
        self._groups = {group: reader(settings, **{"group.id": group}) for group in groups}
        self._pool = ThreadPoolExecutor(8, "offsets")

    def ends(self, topics: Sequence[str]) -> Offsets:
        """Return the end of each partition of these topics that are there."""
        try:
            known = self._any.list_topics(timeout=PATIENCE_S).topics
        except KafkaException as error:
            raise BrokerSilent(str(error.args[0].str())) from error
        found = [Position(topic, number) for topic in topics if topic in known for number in known[topic].partitions]
        ends = self._pool.map(self._end, found)
        return {position: end for position, end in zip(found, ends, strict=True) if end is not None}

    def committed(self, wanted: Mapping[str, Sequence[Position]]) -> dict[str, Offsets]:
        """Return, by group, the first offset that it has not done of each of these partitions."""
        found = self._pool.map(lambda one: _committed(self._groups[one[0]], one[1]), wanted.items())
        return dict(zip(wanted, found, strict=True))

    def waiting(self, offsets: Offsets) -> dict[Position, float | None]:
        """Return since when (seconds since 1970) the records wait that stand first from these offsets on.

        A transaction's end takes up an offset: where there is nothing but that to read, it is None. A partition whose
        broker does not say is left out.
        """
        found: dict[Position, float | None] = {}
        where = [TopicPartition(position.topic, position.partition, offset) for position, offset in offsets.items()]
        self._any.assign(where)
        deadline = time.monotonic() + PATIENCE_S / 2
        while len(found) < len(offsets) and time.monotonic() < deadline:
            message = self._any.poll(0.05)
            if message is not None and (error := message.error()) is None:
                found.setdefault(_position(message), message.timestamp()[1] / 1000)
            elif message is not None and error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                found.setdefault(_position(message), None)
        self._any.unassign()
        return found

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for consumer in (self._any, self._all, *self._groups.values()):
            consumer.close()

    def _end(self, position: Position) -> int | None:
        """Return where what is committed ends; None if nobody says so. Of 0 see `kafka.bounds`."""
        where = TopicPartition(position.topic, position.partition)
        try:
            committed: int = self._any.get_watermark_offsets(where, timeout=PATIENCE_S)[1]
            return committed or self._all.get_watermark_offsets(where, timeout=PATIENCE_S)[1]
        except KafkaException:
            return None


def _position(message: Message) -> Position:
    return Position(str(message.topic()), message.partition() or 0)


def _committed(consumer: Consumer, positions: Sequence[Position]) -> Offsets:
    asked = [TopicPartition(position.topic, position.partition) for position in positions]
    try:
        found = consumer.committed(asked, timeout=PATIENCE_S) if asked else []
    except KafkaException:
        return {}
    return {Position(p.topic, p.partition): max(p.offset, 0) for p in found if p.error is None}
