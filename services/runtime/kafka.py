"""Reading the log on a real broker, through librdkafka, and what its readers and writers share; `sinks.py` writes.

Consumers read committed records only. A source remembers with which membership its partitions came (KIP-447): a
commit that carries it is refused once the group has gone on without this member.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from services.runtime.clients import client
from services.runtime.errors import Retry, Stop
from services.runtime.records import Headers, Outgoing, Position, Record
from services.runtime.settings import Settings
from services.runtime.transport import Listener, Offsets

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
CHUNK = 8  # messages taken at once, so that `MAX_BYTES` is noticed: one may hold hundreds of rows
MAX_BYTES = 1 << 19
PATIENCE_S = 60
ANSWER_S = 5
ALLOW = "`thalweg acls` says how"
REFUSED = {  # what no other try would change
    KafkaError.MSG_SIZE_TOO_LARGE: "raise the topic's `max.message.bytes`, or lower THALWEG_BATCH",
    KafkaError.RECORD_LIST_TOO_LARGE: "raise the topic's `segment.bytes`, or lower THALWEG_BATCH",
    KafkaError.INVALID_RECORD: "the topic's settings refuse it",
    KafkaError.POLICY_VIOLATION: "a policy of the broker refuses it",
    KafkaError.UNSUPPORTED_VERSION: "the broker is too old",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: f"allow this user that topic: {ALLOW}",
    KafkaError.GROUP_AUTHORIZATION_FAILED: f"allow this user that consumer group: {ALLOW}",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "allow this user IDEMPOTENT_WRITE on the cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: f"allow this user that transactional id: {ALLOW}",
}


def consumer_settings(settings: Settings) -> dict[str, Any]:
    return {
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": settings.fetch_wait_ms,
        "queued.max.messages.kbytes": 8192,
    }


class KafkaSource:
    """One member of the consumer group `service`."""

    def __init__(self, settings: Settings, service: str, **more: Any) -> None:  # noqa: ANN401 - librdkafka's settings
        group = {
            "group.id": f"{settings.stream}.{service}",
            "session.timeout.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": settings.session_timeout_ms // 6,
            "partition.assignment.strategy": "range",  # partition p of every input goes to the same member
        }
        self.consumer = Consumer(client(settings, **consumer_settings(settings), **group, **more))
        self._starting: dict[Position, int] | None = None  # offsets chosen while an assignment is made
        self._membership: object | None = None  # with which what is assigned came

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        def assign(_: Consumer, partitions: list[TopicPartition]) -> None:
            starting: dict[Position, int] = {}
            self._starting = starting
            self._membership = self._join()
            try:
                listener.assigned(_positions(partitions))
            finally:  # on an error the client assigns them itself, to be sought once the listener knows where
                self._starting = None
            self.consumer.assign(partitions_at(starting))

        self.consumer.subscribe(
            list(topics),
            on_assign=assign,
            on_revoke=lambda _, partitions: listener.revoked(_positions(partitions)),
            on_lost=lambda _, partitions: listener.lost(_positions(partitions)),
        )

    def poll(self, limit: int, timeout: float) -> list[Record]:
        return _take(self.consumer, limit, timeout)

    def committed(self, positions: Sequence[Position]) -> Offsets:
        """Return them once no open transaction can move them any more."""

        def question() -> list[TopicPartition]:
            return self.consumer.committed(_partitions(positions), timeout=ANSWER_S)

        what = "what was committed"
        found = _ask_once(what, question) if self._starting is None else ask(what, question)  # an assignment waits
        for answer in found:
            if answer.error is not None:
                raise failure(f"the broker does not say {what}", answer.error)
        return {Position(p.topic, p.partition): max(p.offset, 0) for p in found}

    def _join(self) -> object | None:
        """Return this member's id and generation; None if the group has dropped it meanwhile.

        Asked for only here: once the group has gone on, the client answers without the id, later without the
        generation too, and with neither a broker takes a transaction's offsets from anybody.
        """
        membership = self.consumer.consumer_group_metadata()
        return membership if self.consumer.memberid() else None

    def membership(self) -> object:
        """Return what a transaction carries to prove that its partitions are this member's still."""
        if self._membership is None:
            raise Retry("the group has dropped this member; it joins again")
        return self._membership

    def commit(self, offsets: Offsets) -> None:
        """Commit offsets and wait for it; Retry where the group has gone on without this member."""
        where = partitions_at(offsets)
        try:
            answers = self.consumer.commit(offsets=where, asynchronous=False)
        except KafkaException as error:
            raise failure("offsets not committed", error.args[0]) from error
        for answer in answers:
            if answer.error is not None:
                raise failure("offsets not committed", answer.error)

    def seek(self, offsets: Offsets) -> None:
        if self._starting is not None:
            self._starting |= offsets
            return
        for position, offset in offsets.items():
            try:
                self.consumer.seek(TopicPartition(position.topic, position.partition, offset))
            except KafkaException as error:
                raise Retry(f"can't read on from {position} at {offset} yet: {error}") from error

    def pause(self, positions: Sequence[Position]) -> None:
        self.consumer.pause(_partitions(positions))

    def resume(self, positions: Sequence[Position]) -> None:
        if self._starting is None:  # what is being assigned is not paused
            self.consumer.resume(_partitions(positions))

    def close(self) -> None:
        self.consumer.close()


def _take(consumer: Consumer, limit: int, timeout: float) -> list[Record]:
    """Wait for a first message, then take what else is there; `consume` alone would wait until it is full."""
    first = consumer.poll(timeout)
    if first is None:
        return []
    messages, size = [first], len(first)
    while len(messages) < limit and size < MAX_BYTES:
        more = consumer.consume(min(CHUNK, limit - len(messages)), 0)
        if not more:
            break
        messages += more
        size += sum(map(len, more))
    return [record for message in messages if (record := read(message)) is not None]


def send(producer: Producer, out: Outgoing, **more: Any) -> None:  # noqa: ANN401 - the delivery callback
    """Hand one record to librdkafka; when its queue is full, wait for it to drain."""
    if out.partition is not None:
        more["partition"] = out.partition
    while True:
        try:
            producer.produce(out.topic, value=out.value, key=out.key, headers=out.headers, **more)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def read(message: Message) -> Record | None:
    """Return the record of a message; None for an event of the client that needs no action; Retry for an error."""
    error = message.error()
    if error is None:
        return Record(
            str(message.topic()),
            cast(int, message.partition()),
            cast(int, message.offset()),
            message.key(),
            message.value() or b"",
            message.timestamp()[1],
            cast(Headers | None, message.headers()),
        )
    if error.code() in (KafkaError._PARTITION_EOF, KafkaError._MAX_POLL_EXCEEDED):  # noqa: SLF001 - their public names
        return None
    raise failure(f"reading {message.topic()}", error)


def failure(what: str, error: KafkaError) -> Retry | Stop:
    """Return a broker's or the client's error as one of ours."""
    if error.code() in REFUSED:
        return Stop(f"{what}, and no other try would change it: {error}. {REFUSED[error.code()]}")
    return Retry(f"{what}: {error}")


def in_words(error: Exception) -> str:
    """Return what went wrong, of an error of the client in its own words."""
    cause = error.args[0]
    return cause.str() if isinstance(cause, KafkaError) else str(cause)


def _positions(partitions: Sequence[TopicPartition]) -> list[Position]:
    return [Position(p.topic, p.partition) for p in partitions]


def partitions_at(offsets: Offsets) -> list[TopicPartition]:
    return [TopicPartition(position.topic, position.partition, offset) for position, offset in offsets.items()]


def _partitions(positions: Sequence[Position]) -> list[TopicPartition]:
    return [TopicPartition(position.topic, position.partition) for position in positions]


class Tail:
    """Reads a whole topic without a group: everybody who asks sees every record."""

    def __init__(self, settings: Settings, topic: str, *, from_beginning: bool) -> None:
        self._consumer = reader(settings)
        ends = _ends(settings, self._consumer, topic)
        starts = dict.fromkeys(ends, OFFSET_BEGINNING) if from_beginning else ends
        self._consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])

    def poll(self, limit: int, timeout: float) -> list[Record]:
        """Return what is there, at most `limit` records; wait up to `timeout` seconds if there is nothing."""
        return _take(self._consumer, limit, timeout)

    def close(self) -> None:
        self._consumer.close()


def reader(settings: Settings, **more: Any) -> Consumer:  # noqa: ANN401 - librdkafka's settings are of many types
    """Return a consumer that joins no group; the client requires the name of one all the same."""
    group = {"group.id": f"{settings.stream}.reader.{os.getpid()}"}
    return Consumer(client(settings, **consumer_settings(settings) | group | more))


def bounds(settings: Settings, consumer: Consumer, where: TopicPartition, timeout: float) -> tuple[int, int]:
    """Return the first offset that is kept and the end of what is committed. KafkaException if nobody says so in time.

    While a transaction is open the embedded broker says of any partition of its that it ends at 0: then all counts.
    """
    low, end = consumer.get_watermark_offsets(where, timeout=timeout)
    if end > 0:
        return low, end
    with closing(reader(settings, **{"isolation.level": "read_uncommitted"})) as asking:
        low, end = asking.get_watermark_offsets(where, timeout=timeout)
    return low, end


def _ends(settings: Settings, consumer: Consumer, topic: str) -> dict[int, int]:
    def end(partition: int) -> int:
        return bounds(settings, consumer, TopicPartition(topic, partition), ANSWER_S)[1]

    return {p: ask(f"where {topic}[{p}] ends", partial(end, p)) for p in partitions_of(consumer, topic)}


def partitions_of(consumer: Consumer, topic: str) -> list[int]:
    """Return the partitions of a topic; Stop if it is not there, or not for this user to know."""
    known = ask("its topics", lambda: consumer.list_topics(topic, timeout=ANSWER_S).topics[topic])
    if known.error is None:
        return sorted(known.partitions)
    if known.error.code() in REFUSED:
        raise failure(f"topic {topic}", known.error)
    raise Stop(f"topic {topic}: {known.error}. Was it created?")


def ask(what: str, question: Callable[[], Answer]) -> Answer:
    """Ask the broker until it answers: a topic that was just made, or a broker that just started, takes a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _ask_once(what, question)
        except Retry as error:
            if time.monotonic() > deadline:
                raise Stop(f"{error}, {PATIENCE_S} s after it was asked first") from error
            log.warning("waiting: %s", error)
            time.sleep(0.2)


def _ask_once(what: str, question: Callable[[], Answer]) -> Answer:
    try:
        return question()
    except KafkaException as error:
        raise failure(f"the broker does not say {what}", error.args[0]) from error
