"""The Faust application: `scored` and `examples` to `summaries`, `summaries` to `alerts`, alerts to whoever wants them.

One record of Faust is one Arrow batch, or one summary of a hundred rows. What a record makes is durable in its topic
before the state that has it is put into its table, and a table's state has its position, from which sources are read on
(`transport.py`). So after a crash summaries and alerts are made again and not lost; summaries that were there before
count once, and alerts that were there before are not written.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any, cast

import faust
from faust.types import TP

from services.drift.delivery import Delivery
from services.drift.judging import Judge
from services.drift.meters import Meters
from services.drift.settings import SERVICE, DriftSettings
from services.drift.summing import Summing
from services.drift.tables import Tables
from services.drift.transport import Consumer, Transport, credentials
from services.runtime.health import READ, Health
from services.runtime.records import Outgoing, Record
from services.runtime.stream import LARGEST_MESSAGE, Stream
from services.runtime.work import Work

log = logging.getLogger(__name__)
TICK_S = 0.5
BUFFER = 64  # records that wait for an agent


def make(settings: DriftSettings) -> faust.App:
    """Make the app as Faust wants it to be; nothing of it is made on import."""
    session_s = settings.session_timeout_ms / 1000
    return faust.App(
        f"{settings.stream}.{SERVICE}",
        broker=";".join(f"kafka://{address}" for address in settings.broker.split(",")),
        broker_credentials=credentials(settings),
        autodiscover=False,
        datadir=settings.data / SERVICE,
        store="memory://",
        topic_allow_declare=False,  # topics are made by the launcher, changelogs by `changelogs.py`
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=LARGEST_MESSAGE,
        producer_max_request_size=LARGEST_MESSAGE,
        producer_acks=-1,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 6,
        broker_commit_interval=1.0,
        stream_wait_empty=False,
        stream_buffer_maxsize=BUFFER,
        stream_recovery_delay=0.0,
        web_enabled=bool(settings.port),
        web_bind=settings.host,
        web_host=settings.host,
        web_port=settings.port or None,
    )


class Drift:
    """One app, its folds and what is beside them. `failure` is set to what has to end it."""

    def __init__(
        self,
        settings: DriftSettings,
        stream: Stream,
        partitions: Mapping[str, int],
        judge: Judge,
        delivery: Delivery,
        health: Health,
    ) -> None:
        self.stream, self.judge, self.delivery, self.health = stream, judge, delivery, health
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.app = make(settings)
        urls = self.app.conf.broker_consumer
        self.app.transport = Transport(urls, self.app, share=self, fetch_wait_ms=settings.fetch_wait_ms)
        self.tables = Tables(self.app, stream, settings, partitions, health.clock)
        self.summing = Summing(stream, self.tables)
        self.behind_s: dict[str, float] = {}  # how old a record was when it was folded, the newest one
        self.work = Work(health.metrics)
        self._meters = Meters(
            health.metrics, lambda: list(judge.newest.values()), lambda: self.tables.running("summaries")
        )
        self._kinds = {stream.topic(kind): kind for kind in partitions}
        self._folding = {kind: asyncio.Lock() for kind in partitions}
        for topic, kind in self._kinds.items():
            self.app.agent(self.tables.raw(topic), name=f"{SERVICE}.{kind}")(self._agent(kind))
        self.tables.on_recovered(self._recovered)
        self.app.timer(TICK_S)(self._tick)
        self.app.timer(TICK_S)(self._deliver)

    # What Faust calls

    def _agent(self, kind: str) -> Callable[[Any], Awaitable[None]]:
        fold = self._judge if kind == "summaries" else self._sum

        async def agent(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
            async for event in stream.events():
                async with self._folding[kind]:
                    if event.message.generation_id == self.app.consumer_generation_id:
                        await self._fold(kind, fold, event.message)
                    # else it was read before the partitions were given out anew, and comes again

        agent.__name__ = agent.__qualname__ = kind
        return agent

    async def _fold(self, kind: str, fold: Callable[[str, Record], Awaitable[None]], message: Any) -> None:  # noqa: ANN401
        record = read(message)
        try:
            await fold(kind, record)
        except Exception as error:  # noqa: BLE001 - Faust would pass over the record and go on
            self.fail(error)
            await asyncio.Event().wait()
        self.behind_s[kind] = time.time() - message.timestamp
        self.health.unread.read(record.position, record.timestamp)
        self.health.folded += 1

    async def _sum(self, kind: str, record: Record) -> None:
        with self.work.process:
            made = self.summing.fold(kind, record)
        await self._write(made)
        await self.tables.folded(kind, record)
        self.work.committed([record], made)

    async def _judge(self, kind: str, record: Record) -> None:
        core = self.tables.open(kind, record.partition)
        if not self.judge.ready:
            await self.judge.catch_up(self.delivery, self.tables.told(record.partition))
        with self.work.process:
            said = core.fold(record.value)
        fresh = await self.judge.fresh(said)
        made = [self.judge.record(alert) for alert in fresh]
        for alert, out in zip(fresh, made, strict=True):
            (offset,) = await self._write([out])
            self.judge.wrote(alert)
            self.delivery.add(offset, alert)
        await self.tables.folded(kind, record, self.delivery.told)
        self._meters.judged(fresh)
        self.work.committed([record], made)

    async def _write(self, records: Sequence[Outgoing]) -> list[int]:
        """Return the offsets of records once they are durable."""
        began = perf_counter()
        sent = [await self.tables.raw(out.topic).send(key=out.key, value=out.value, partition=0) for out in records]
        offsets = [(await one).offset for one in sent]
        if records:
            self.work.commit.took(perf_counter() - began)
        return offsets

    async def _tick(self) -> None:
        self.health.enter(READ)
        self.health.unread.unread(self.tables.unread())
        self.health.lag = self.health.unread.records()
        await self.judge.obey()

    async def _deliver(self) -> None:
        await self.delivery.due(self.judge.standing())

    def fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_result(error)

    # What the transport calls

    def revoked(self) -> None:
        self.health.own(None, {})

    def assigned(self, partitions: set[TP]) -> None:
        self.work.rebalanced()
        ours = sorted(tp.partition for tp in partitions if self._kinds.get(tp.topic) == "scored")
        self.health.own(tuple(ours), dict.fromkeys(ours, 0))

    def resume_at(self, partition: TP) -> int | None:
        kind = self._kinds.get(partition.topic)
        return None if kind is None else self.tables.resume_at(kind, partition.partition)

    async def _recovered(self) -> None:
        """Go on from what is saved: what is in memory may be of partitions that others have had since.

        A fold that had begun is ended first: it would note its record in a state that does not have it.
        """
        async with AsyncExitStack() as quiet:
            for folding in self._folding.values():
                await quiet.enter_async_context(folding)
            self.tables.forget()
            self.judge.forget()
        log.info("goes on from %s", self.tables.places())
        cast(Consumer, self.app.consumer).recovered()
        self.health.own(self.health.partitions, {})


def read(message: Any) -> Record:  # noqa: ANN401 - Faust's message
    """Return the record of a message."""
    headers, when = list(message.headers or []), round(message.timestamp * 1000)
    return Record(message.topic, message.partition, message.offset, message.key, message.value or b"", when, headers)
