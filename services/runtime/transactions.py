"""What a transaction's calls have in common, and the transactions of an operator's command."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException, Producer

from services.runtime.clients import client
from services.runtime.errors import Stop
from services.runtime.kafka import send
from services.runtime.records import Outgoing
from services.runtime.settings import Settings

TIMEOUT_S = 30
FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001 - its name


def insist(seconds: float, action: Callable[[], None]) -> None:
    """Do it; what librdkafka calls retriable is resumed by the same call, for so long."""
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > end:
                raise


def within(seconds: float, action: Callable[[], None]) -> None:
    """Do it on a thread of its own, and time out even where the client does not.

    While a broker is frozen, librdkafka 2.16 may never return from `send_offsets_to_transaction`, whatever its timeout.
    The thread then keeps the producer, which its successor fences off.
    """
    done: Future[None] = Future()

    def act() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=act, name="transaction", daemon=True).start()
    try:
        done.result(seconds)
    except TimeoutError as error:
        late = KafkaError(KafkaError._TIMED_OUT, f"the client did not return within {seconds:g} s")  # noqa: SLF001
        raise KafkaException(late) from error


class Transactions:
    """A transactional producer called `name`, which one command has at a time.

    Making another of that name ends what this one left open, and this one.
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
        try:
            within(2 * TIMEOUT_S, lambda: insist(TIMEOUT_S, action))
        except KafkaException as error:
            raise self._ours(error) from error

    def _ours(self, error: KafkaException) -> Stop:
        cause = error.args[0]
        if cause.code() in FENCED:
            return Stop(f"another command has taken over ({self._name}); let it finish")
        return Stop(f"a transaction of {self._name} was not committed: {cause.str()}. What was before it is written")
