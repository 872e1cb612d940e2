"""How Faust reads and writes the log here: committed records only, from where the state is, and in no duplicate.

Faust 0.15.3 commits a source's offset and sends a table's changelog without an order between the two, seeks to what was
committed, and fetches already before it has sought. So where to read on is asked of the state that was recovered, and
partitions wait until they were sought: a fold never sees a record that does not follow on its state.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, cast

import faust
from aiokafka.errors import UnknownError
from faust.transport.drivers import aiokafka
from faust.types import TP
from faust.types.transports import ConsumerT, ProducerT

from services.runtime.credentials import MECHANISM, login, trusting
from services.runtime.settings import Settings

log = logging.getLogger(__name__)


def credentials(settings: Settings) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """Return how the clients of aiokafka show who they are, and whom they trust; None where the broker is open."""
    who, trusted = login(settings), trusting(settings)
    if who is None:
        return None if trusted is None else faust.SSLCredentials(trusted)
    more = {"username": who.user, "password": who.password.reveal(), "mechanism": MECHANISM}
    return faust.SASLCredentials(ssl_context=trusted, **more)


class Share(Protocol):
    """Whoever keeps the states of the partitions that this process has."""

    def revoked(self) -> None: ...

    def assigned(self, partitions: set[TP]) -> None: ...

    def resume_at(self, partition: TP) -> int | None:
        """Return from which offset on to read; None: the state says nothing of this topic."""


class Thread(aiokafka.AIOKafkaConsumerThread):
    """Faust leaves transactions' isolation, and how long a fetch may wait, to nobody."""

    def _create_worker_consumer(self, transport: Any) -> Any:  # noqa: ANN401 - aiokafka's consumer
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - read when it starts; Faust passes its own
        consumer._fetch_max_wait_ms = cast(Transport, transport).fetch_wait_ms  # noqa: SLF001
        return consumer


class Consumer(aiokafka.Consumer):
    """Reads on from where the state is. Partitions of sources wait until recovery is over and they were sought."""

    def __init__(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - Faust's arguments
        super().__init__(*args, **more)
        self._recovered = False
        self._unsought: set[TP] = set()  # what Faust would read already

    @property
    def _share(self) -> Share:
        return cast(Transport, self.transport).share

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._recovered = False
        self._share.revoked()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._recovered = False
        self._unsought.clear()
        self._share.assigned(assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    def recovered(self) -> None:
        """Note that tables are what they were: what is sought from now on is sought by them."""
        self._recovered = True

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        sources = {tp for tp in tps if self._share.resume_at(tp) is not None}
        self._unsought |= sources
        super().resume_partitions(set(tps) - sources)

    async def perform_seek(self) -> None:
        await super().perform_seek()
        if self._recovered:
            sought, self._unsought = self._unsought, set()
            super().resume_partitions(sought)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        found = dict(await super().seek_to_committed())
        places = {tp: self._share.resume_at(tp) for tp in self.assignment()}
        ours = {tp: offset for tp, offset in places.items() if offset is not None}
        await self.seek_wait(ours)
        return found | ours


class Producer(aiokafka.Producer):
    """Writes without duplicates where an answer was lost; the embedded broker gives aiokafka no number for that."""

    _idempotent = True

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"enable_idempotence": self._idempotent}

    async def on_start(self) -> None:
        try:
            await super().on_start()
        except UnknownError:
            log.info("the broker numbers no producers: what it takes without saying so may be there twice")
            await self._ensure_producer().stop()
            self._idempotent = False
            await super().on_start()


class Transport(aiokafka.Transport):
    """Made for one app: `share` has its states."""

    Consumer: ClassVar[type[ConsumerT]] = Consumer
    Producer: ClassVar[type[ProducerT]] = Producer

    def __init__(self, *args: Any, share: Share, fetch_wait_ms: int, **more: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **more)
        self.share, self.fetch_wait_ms = share, fetch_wait_ms
