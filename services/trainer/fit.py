"""The process that trains for the service: `python -m services.trainer.fit`.

It loads PyTorch, waits until a line on its standard input says who asks (`Order`), trains one version, and ends.
Wherever it is, it ends at once when that input closes: whoever started it is gone. Exit status: 0 it has trained, or
nobody asked in time; 1 these examples can't be trained on, and the log says why; 75 not now, another time.
"""

import logging
import os
import signal
import sys
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from services.runtime.errors import Retry
from services.runtime.process import run_service
from services.runtime.stream import load_stream
from services.trainer.apprentice import Order
from services.trainer.settings import LATER, SERVICE, TrainerSettings

if TYPE_CHECKING:
    from services.trainer.fitting import Fitting

PATIENCE_S = 60.0  # how long it stays ready, with 400 MB of PyTorch in memory
_INPUT = 0

log = logging.getLogger(__name__)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to the service too, which then closes our input
    asked: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    fitting = _ready()
    try:
        order = msgspec.json.decode(asked.get(timeout=PATIENCE_S), type=Order)
    except Empty:
        return
    try:
        fitting.resume(order.by, order.since)
    except Retry as error:
        log.warning("no training now, it is tried again: %s", error)
        sys.exit(LATER)


def _listen(asked: SimpleQueue[bytes]) -> None:
    """Hand on who asks; end the process when nobody can any more."""
    while line := os.read(_INPUT, 1000):
        asked.put(line)
    os._exit(LATER)


def _ready() -> "Fitting":
    """Load what takes seconds, after it was made sure that this process ends with the service."""
    from services.trainer.fitting import Fitting  # noqa: PLC0415
    from services.trainer.machine import best_device, use_half_the_cores, warm_up  # noqa: PLC0415
    from services.trainer.store import ExampleStore  # noqa: PLC0415
    from services.trainer.tracking import Tracking  # noqa: PLC0415

    settings = TrainerSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    use_half_the_cores()
    warm_up()
    store = ExampleStore(settings.table, stream, settings.keep_days)
    track = Tracking(stream, settings.data, settings.mlflow).catch_up
    return Fitting(stream, store, settings.data, best_device(), track)


if __name__ == "__main__":
    run_service(f"{SERVICE}.fit", main)
