"""The process around the application: its topics, its start and its end."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import httpx

from services.drift import changelogs, views
from services.drift.app import Drift
from services.drift.core import DriftCore
from services.drift.delivery import Delivery
from services.drift.judging import Judge
from services.drift.settings import DriftSettings
from services.drift.tables import changelogs as names
from services.runtime.errors import Stop, ThalwegError
from services.runtime.health import CONNECT, ENDED, RESTORE, STOP, Health
from services.runtime.history import KafkaHistory
from services.runtime.stream import Stream

log = logging.getLogger(__name__)
END_S = 3.0  # what is durable is durable by then: more than a farewell to the broker is not waited for
LOOK_S = 0.2
CHATTY = ("faust", "mode", "aiokafka", "aiohttp", "httpx")


def serve(
    name: str, settings: DriftSettings, stream: Stream, inputs: Sequence[str], judge: Judge, health: Health
) -> None:
    """Run the application over its inputs until SIGTERM or SIGINT."""
    _hush(logging.WARNING)
    (settings.data / name).mkdir(parents=True, exist_ok=True)  # where Faust may keep tables; ours are in memory
    DriftCore(stream).warm_up()
    health.enter(CONNECT)
    with closing(KafkaHistory(settings)) as history:
        partitions = {kind: len(history.positions(stream.topic(kind))) for kind in inputs}
    changelogs.create(settings, names(stream, partitions))
    log.info("%s started, process %d", name, os.getpid())
    asyncio.run(_run(settings, stream, partitions, judge, health))


def _hush(level: int) -> None:
    """Have the libraries' loggers, some of which have a level of their own, say only what is this grave."""
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in CHATTY:
            logging.getLogger(name).setLevel(level)


async def _run(
    settings: DriftSettings, stream: Stream, partitions: dict[str, int], judge: Judge, health: Health
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with httpx.AsyncClient(trust_env=False) as client:
        drift = Drift(settings, stream, partitions, judge, Delivery(client, settings), health)
        views.add(drift)
        health.enter(RESTORE)
        try:
            await _first(stop, drift)
        finally:
            health.enter(STOP)
            _hush(logging.CRITICAL)  # what is in the middle of something is cut off, and Faust says so at length
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(drift.app.stop(), END_S)
            health.enter(ENDED)


async def _first(stop: asyncio.Event, drift: Drift) -> None:
    """Return at a signal; raise what ends the application before."""
    app = asyncio.ensure_future(_until_it_ends(drift))
    told = asyncio.ensure_future(stop.wait())
    ends: list[asyncio.Future[Any]] = [app, told, drift.failure]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        log.info("told to stop")
    elif drift.failure.done():
        raise _ours(drift.failure.result())
    else:
        raise _ours(app.exception() or drift.app.crash_reason)


async def _until_it_ends(drift: Drift) -> None:
    await drift.app.start()
    while not drift.app.should_stop:  # noqa: ASYNC110 - Faust's own waits don't end at a crash
        await asyncio.sleep(LOOK_S)


def _ours(error: BaseException | None) -> ThalwegError:
    if isinstance(error, ThalwegError):
        return error
    log.error("the application has failed", exc_info=error)
    return Stop(f"the application has failed, start it again: {error!r}")
