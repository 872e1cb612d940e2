"""The two guarantees on a real broker: outputs and offsets in one transaction, or outputs first and offsets after.

Whatever goes wrong, a sink begins anew with another producer and says Retry: the loop goes on from the committed
offsets, and they say whether the batch counts. A transaction belongs to a name, `<stream>.<service>.<instance>`. When
the next producer of that name begins, the broker ends what the last one left open, so no reader waits for the dead.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from confluent_kafka import KafkaError, KafkaException, Producer

from services.runtime.clients import client
from services.runtime.errors import Stop
from services.runtime.grammar import Guarantee
from services.runtime.kafka import REFUSED, KafkaSource, ask, failure, partitions_at, send
from services.runtime.records import Outgoing
from services.runtime.settings import Settings
from services.runtime.transactions import FENCED, insist, within
from services.runtime.transport import Offsets, Sink

log = logging.getLogger(__name__)
PATIENCE = 2.0  # times the longest that a transaction may be open, until a call counts as one that never returns


def open_sink(guarantee: Guarantee, settings: Settings, service: str, source: KafkaSource) -> Sink:
    """Return the sink that keeps the stream's guarantee."""
    kind = ExactlyOnce if guarantee == "exactly_once" else AtLeastOnce
    return kind(settings, service, source)


class _Writer:
    """A producer, and the errors of the records that it could not deliver."""

    def __init__(self, settings: Settings, **more: Any) -> None:  # noqa: ANN401 - librdkafka's settings are of many types
        failed: list[KafkaError] = []
        shared = {
            "partitioner": "murmur2_random",
            "linger.ms": 0,
            "retry.backoff.ms": 2,  # how soon a transaction asks again whether the one before it is closed
            "retry.backoff.max.ms": 100,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 1_000_000,
            "message.max.bytes": 16 << 20,
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: failed.append(error),  # no self: it goes when its owner lets it go
        }
        self.failed = failed
        self.producer = Producer(client(settings, **shared, **more))

    def write(self, outgoing: Sequence[Outgoing]) -> None:
        for out in outgoing:
            send(self.producer, out)

    def reason(self, error: KafkaError) -> KafkaError:
        """Return what lies behind an error: a record that was refused fails everything that it is a part of."""
        with suppress(KafkaException):  # a producer that is beyond use says so once more
            self.producer.poll(0)  # deliveries that failed are told from within it
        return next((failed for failed in self.failed if failed.code() in REFUSED), error)

    def leave(self) -> None:
        """Be done with it, on a thread of its own: while a broker is away, ending a client may take forever."""
        threading.Thread(target=self._end, name="leaving", daemon=True).start()

    def _end(self) -> None:
        with suppress(KafkaException, RuntimeError, SystemError):  # a transaction that is open still ends in the latter
            self.producer.purge()
            self.producer.close()


class ExactlyOnce:
    """Commits outputs and offsets in one transaction, which carries the membership that the partitions came with."""

    def __init__(self, settings: Settings, service: str, source: KafkaSource) -> None:
        self._settings, self._service, self._source = settings, service, source
        self._name = f"{settings.stream}.{service}.{settings.instance}"
        self._timeout = settings.session_timeout_ms / 1000  # an open transaction outlives its process no longer
        self._writer: _Writer | None = ask(f"that {self._name} may begin transactions", self._begin)

    def settle(self) -> None:
        """Begin anew if that did not work when a transaction failed: it ends that transaction."""
        self._writer = self._writer or self._begin_again()

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        writer = self._writer = self._writer or self._begin_again()
        membership = self._source.membership() if offsets else None
        opened = time.monotonic()
        try:
            within(PATIENCE * self._timeout, lambda: self._transact(writer, outgoing, offsets, membership))
        except KafkaException as error:
            self._recover(writer, writer.reason(error.args[0]), opened)

    def _transact(self, writer: _Writer, outgoing: Sequence[Outgoing], offsets: Offsets, membership: object) -> None:
        producer = writer.producer
        producer.begin_transaction()
        writer.write(outgoing)
        if offsets:
            where = partitions_at(offsets)
            self._insist(lambda: producer.send_offsets_to_transaction(where, membership, self._timeout))
        self._insist(lambda: producer.commit_transaction(self._timeout))

    def _insist(self, action: Callable[[], None]) -> None:
        insist(self._timeout, action)

    def _recover(self, writer: _Writer, error: KafkaError, opened: float) -> NoReturn:
        """Begin anew, which ends the transaction if the broker has not ended it yet, and say what to do."""
        open_s = time.monotonic() - opened
        if error.code() in FENCED and open_s < self._timeout:
            raise Stop(
                f"another process runs as instance {self._settings.instance!r} of {self._service} and has taken over"
                f" ({self._name}: {error.str()}). Give each process of a service a THALWEG_INSTANCE of its own"
            )
        writer.leave()
        self._writer = None  # should none begin, `settle` tries again
        self._writer = self._begin_again()
        raise failure(f"transaction not committed after {open_s:.1f} s", error)

    def _begin_again(self) -> _Writer:
        try:
            return self._begin()
        except KafkaException as error:
            raise failure(f"{self._name} can't begin transactions", error.args[0]) from error

    def _begin(self) -> _Writer:
        more = {"transactional.id": self._name, "transaction.timeout.ms": self._settings.session_timeout_ms}
        writer = _Writer(self._settings, **more)
        try:
            init = partial(writer.producer.init_transactions, self._timeout)
            within(PATIENCE * self._timeout, lambda: self._insist(init))
        except KafkaException:
            writer.leave()
            raise
        return writer

    def close(self) -> None:
        """Let the producer go: whatever it holds belongs to no committed transaction."""
        if self._writer is not None:
            self._writer.leave()


class AtLeastOnce:
    """Makes outputs durable, then commits offsets. A crash between the two writes the outputs again, and loses none."""

    def __init__(self, settings: Settings, service: str, source: KafkaSource) -> None:
        del service
        self._settings, self._source = settings, source
        self._timeout = settings.session_timeout_ms / 1000
        self._writer = self._begin()

    def settle(self) -> None:
        """Nothing stays open."""

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        error = self._deliver(outgoing)
        if error is not None:
            self._writer.leave()
            self._writer = self._begin()
            raise failure("outputs not all written, offsets not committed", error)
        if offsets:
            self._commit(offsets)

    def _commit(self, offsets: Offsets) -> None:
        try:
            within(PATIENCE * self._timeout, lambda: self._source.commit(offsets))
        except KafkaException as error:
            raise failure("offsets not committed", error.args[0]) from error

    def _deliver(self, outgoing: Sequence[Outgoing]) -> KafkaError | None:
        """Write and wait until all is durable; return what went wrong."""
        writer = self._writer
        try:
            writer.write(outgoing)
            left = writer.producer.flush(2 * self._timeout)  # what the broker does not take in time fails before that
        except KafkaException as error:
            return writer.reason(error.args[0])
        return writer.reason(KafkaError(KafkaError._MSG_TIMED_OUT)) if left or writer.failed else None  # noqa: SLF001

    def _begin(self) -> _Writer:
        more = {"enable.idempotence": True, "message.timeout.ms": self._settings.session_timeout_ms}
        return _Writer(self._settings, **more)

    def close(self) -> None:
        """Nothing waits: a commit returns when its outputs are durable."""
