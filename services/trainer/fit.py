"""The process that trains for the service: `python -m services.trainer.fit`.

It loads PyTorch, waits until a line on its standard input says who asks, trains one version, and ends. Wherever it is,
it ends at once when that input closes: whoever started it is gone. Exit status: 0 it has trained, or nobody asked in
time; 1 these examples can't be trained on, and the log says why; 75 not now, another time.
"""

import logging
import os
import select
import signal
import sys
import threading

from services.runtime.errors import Retry
from services.runtime.process import run_service
from services.runtime.stream import load_stream
from services.trainer.fitting import Fitting
from services.trainer.machine import best_device, use_half_the_cores, warm_up
from services.trainer.settings import LATER, SERVICE, TrainerSettings
from services.trainer.store import ExampleStore
from services.trainer.tracking import Tracking

PATIENCE_S = 60.0  # how long it stays ready, with 400 MB of PyTorch in memory
_INPUT = 0

log = logging.getLogger(__name__)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to the service too, which then closes our input
    settings = TrainerSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    use_half_the_cores()
    warm_up()
    store = ExampleStore(settings.table, stream, settings.keep_days)
    track = Tracking(stream, settings.data, settings.mlflow).catch_up
    fitting = Fitting(stream, store, settings.data, best_device(), track)
    if by := _asked():
        threading.Thread(target=_end_with_the_service, daemon=True).start()
        _train(fitting, by)


def _train(fitting: Fitting, by: str) -> None:
    try:
        fitting.resume(by)
    except Retry as error:
        log.warning("no training now, it is tried again: %s", error)
        sys.exit(LATER)


def _asked() -> str:
    """Wait for who asks; return nothing if nobody does in time, or nobody is left to."""
    ready, _, _ = select.select([_INPUT], [], [], PATIENCE_S)
    return os.read(_INPUT, 1000).decode().strip() if ready else ""


def _end_with_the_service() -> None:
    while os.read(_INPUT, 1000):
        pass
    os._exit(LATER)


if __name__ == "__main__":
    run_service(f"{SERVICE}.fit", main)
