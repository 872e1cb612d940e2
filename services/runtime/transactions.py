"""Writes of an operator's command: several records or none of them, under a name that one command has at a time."""

import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Producer

from services.runtime.errors import Stop
from services.runtime.kafka import client, send
from services.runtime.records import Outgoing
from services.runtime.settings import Settings

TIMEOUT_S = 30
_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001 - its name


class Transactions:
    """A transactional producer called `name`. Making another of that name ends what this one left open, and this one.

    So whoever has made one and then reads the log sees all that others of that name will ever have written.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._name = name
        more = {
            "transactional.id": name,
            "transaction.timeout.ms": TIMEOUT_S * 1000,
            "partitioner": "murmur2_random",  # as Kafka's own clients: one key, one partition, whoever sends
            "linger.ms": 2,
            "message.max.bytes": 16 << 20,
        }
        self._producer = Producer(client(settings, **more))
        self._insist(lambda: self._producer.init_transactions(TIMEOUT_S))

    def write(self, outgoing: Sequence[Outgoing]) -> None:
        """Write them in one transaction; Stop if that did not work, or if another command has taken the name."""
        self._insist(self._producer.begin_transaction)
        try:
            for out in outgoing:
                send(self._producer, out)
        except KafkaException as error:
            raise self._ours(error) from error
        self._insist(lambda: self._producer.commit_transaction(TIMEOUT_S))

    def _insist(self, action: Callable[[], None]) -> None:
        """Do it; what librdkafka calls retriable is resumed by the same call."""
        end = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return action()
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > end:
                    raise self._ours(error) from error

    def _ours(self, error: KafkaException) -> Stop:
        cause = error.args[0]
        if cause.code() in _FENCED:
            return Stop(f"another command has taken over ({self._name}); let it finish")
        return Stop(f"a transaction of {self._name} was not committed: {cause.str()}. What was before it is written")
