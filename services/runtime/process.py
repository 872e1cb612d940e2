"""What every service does around its stage: log, wire the loop to Kafka, stop on SIGTERM, end with a reason.

A clean stop exits with 0; one of our errors exits with 1 after a line that says what to do. Any other error is logged
as well, with its traceback: what Python itself would print goes past the masking of secrets.
"""

import logging
import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from services.runtime import logs
from services.runtime.clock import SystemClock
from services.runtime.errors import ThalwegError
from services.runtime.health import CONNECT, FOLD, Health, Step
from services.runtime.kafka import KafkaSource
from services.runtime.loop import Loop
from services.runtime.probes import Probes
from services.runtime.settings import Settings
from services.runtime.sinks import open_sink
from services.runtime.snapshots import Snapshots
from services.runtime.stage import Stage
from services.runtime.statistics import statistics
from services.runtime.stream import Stream
from services.runtime.tracing import Tracing, open_tracing
from services.runtime.vitals import tell
from services.runtime.work import AfterCommit, Work

log = logging.getLogger(__name__)


def run_service(name: str, main: Callable[[], None]) -> NoReturn:
    """Run a service's main under its name; never returns.

    What is durable is durable by then, so the process ends at once: Python's own way out, which frees everything
    first, is a quarter of the time that readers wait at a restart.
    """
    try:
        logs.begin(name, os.environ)
        main()
    except ThalwegError as error:
        logging.getLogger(name).critical("%s", error)
        _end(1)
    except Exception:
        logging.getLogger(name).critical("ended by an error that nobody foresaw; report it", exc_info=True)
        _end(1)
    _end(0)


def _end(status: int) -> NoReturn:
    logging.shutdown()
    os._exit(status)  # its public name


def watch(name: str, settings: Settings, fold: Step = FOLD) -> Health:
    """Return the health of this service, and answer probes about it from now on, if the settings say where."""
    health = Health(name, SystemClock(), fold)
    health.metrics.of_process()
    tell(health, name, settings)
    if settings.health_port:
        Probes(settings.health_host, settings.health_port, health.report, health.metrics).start()
    return health


def serve(
    name: str,
    settings: Settings,
    stream: Stream,
    inputs: Sequence[str],
    stage: Stage,
    fingerprint: str,
    health: Health,
    gather_s: float = 0.0,
    tracing: Tracing | None = None,
    after: AfterCommit | None = None,
) -> None:
    """Drive a stage over its input topics until SIGTERM or SIGINT; `fingerprint` names what its snapshots depend on.

    `after` is called with each batch that is committed.
    """
    snapshots = Snapshots(settings.data, stream.name, name, fingerprint, settings.snapshots)
    health.enter(CONNECT)
    source = KafkaSource(settings, name, **statistics(health, settings.broker))
    sink = open_sink(stream.pipeline.stream.guarantee, settings, name, source)
    loop = Loop(
        [stream.topic(kind) for kind in inputs],
        stage,
        source,
        sink,
        snapshots,
        batch=settings.batch,
        poll_s=settings.poll_s,
        gather_s=gather_s,
        snapshot_every_s=settings.snapshot_every_s,
        health=health,
        work=Work(health.metrics, after),
        tracing=tracing or open_tracing(name, settings, stream),
    )
    _stop_on_signals(loop)
    log.info("started, process %d", os.getpid())
    try:
        loop.run()
    finally:
        loop.close()


def _stop_on_signals(loop: Loop) -> None:
    def stop(number: int, _: FrameType | None) -> None:
        log.info("%s: finishing the batch at hand", signal.Signals(number).name)
        loop.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
