"""The durable door to the log: an idempotent producer whose answer is awaited."""

import asyncio
import threading
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from services.runtime.clients import client
from services.runtime.errors import Retry
from services.runtime.kafka import send
from services.runtime.records import Outgoing
from services.runtime.settings import Settings

DELIVERY_TIMEOUT_MS = 30_000
ASK_S = 1.0  # how long the broker may take to say where its topics are
SLOW_S = 3.0  # how long it may take to take a request's records


class _Delivery:
    """Counts the records of one request down to zero; lives on librdkafka's thread once it is sent."""

    def __init__(self, records: int) -> None:
        self._left = records
        self._error: KafkaError | None = None
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[KafkaError | None] = self._loop.create_future()

    def __call__(self, error: KafkaError | None, _: Message) -> None:
        self._left -= 1
        self._error = self._error or error
        if self._left == 0:
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.done.done():  # the request may have been given up
            self.done.set_result(self._error)


class DurableProducer:
    """Writes batches and waits until the broker has them. `queue` bounds the records that are on their way."""

    def __init__(self, settings: Settings, queue: int) -> None:
        more = {
            "enable.idempotence": True,
            "partitioner": "murmur2_random",  # as Kafka's own clients: one key, one partition, whoever sends
            "linger.ms": 2,
            "message.timeout.ms": DELIVERY_TIMEOUT_MS,
            "queue.buffering.max.messages": 2 * queue,
        }
        self._producer = Producer(client(settings, **more))
        self.queue = queue
        self._began: dict[_Delivery, float] = {}  # what is on its way, in order of age
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="producer", daemon=True)
        self._poller.start()

    async def write(self, records: Sequence[Outgoing]) -> None:
        """Return when all are durable. Raise Retry at once if the queue is full, or when the broker stays away."""
        if not records:
            return
        if len(self._producer) + len(records) > self.queue:
            raise Retry(f"{len(self._producer)} records are on their way already; nothing of this request was taken")
        delivery = _Delivery(len(records))
        self._began[delivery] = time.monotonic()
        try:
            for record in records:
                send(self._producer, record, on_delivery=delivery)
            error = await delivery.done
        finally:
            del self._began[delivery]
        if error is not None:
            raise Retry(f"the broker did not take everything: {error}; send it again (the same ids)")

    def queued(self) -> int:
        """Return how many records are on their way."""
        return len(self._producer)

    async def obstacle(self, topics: Sequence[str]) -> str | None:
        """Return what keeps the broker from taking records for these topics; None if nothing does."""
        oldest = next(iter(self._began.values()), None)
        if oldest is not None and (taken := time.monotonic() - oldest) > SLOW_S:
            return f"the broker, to take records that were sent {taken:.0f} s ago"
        return await asyncio.to_thread(self._ask, topics)

    def _ask(self, topics: Sequence[str]) -> str | None:
        for name in topics:
            try:
                topic = self._producer.list_topics(name, timeout=ASK_S).topics[name]
            except KafkaException as error:
                return f"the broker, to say where {name} is: {error.args[0].str()}"
            if topic.error is not None:
                return f"the topic {name}: {topic.error.str()}"
            if alone := sorted(number for number, found in topic.partitions.items() if found.leader < 0):
                return f"a leader of {name}, partitions {alone}"
        return None

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.1)

    def close(self) -> None:
        self._producer.flush(DELIVERY_TIMEOUT_MS / 1000)
        self._closing.set()
        self._poller.join()
