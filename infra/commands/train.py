"""`thalweg train`: the batch network, fitted to the labelled examples that a run has gathered."""

import argparse
import getpass
import socket
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.commands.connection import micros
from infra.commands.train_workers import spread
from infra.local.stack import REPOSITORY
from services.runtime.artifacts import Artifacts
from services.runtime.models import BATCH
from services.runtime.stream import load_stream

if TYPE_CHECKING:
    from services.trainer.cards import Card
    from services.trainer.core import Epoch
    from services.trainer.rows import TrainingSet

ABOUT = """\
Reads a version of the table of examples that the service `trainer` keeps, the newest one unless --version pins another,
fits the network of `[batch]` in pipeline.toml to it, checks its ONNX graph against it over 10,000 rows, and signs the
graph as the next version of the model `batch`. Beside it stands its card: what it learned from, how, what it is worth,
and who asked. It needs no broker: the service `trainer` registers what it finds. Interrupted, it goes on from the last
epoch when it is called again for the same --version; a second training of the stream at the same time is refused.
With --since, a change's time, what came before, after, or all of it is learned from: what serves the newest best.
Several processes (--processes, or torchrun) share each batch, so they take the steps that one would."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("train", help="fit the batch network to the examples gathered so far", epilog=ABOUT)
    parser.add_argument("--stream", default="flights", metavar="S", help="a folder under schemas/ (flights)")
    parser.add_argument("--version", type=int, metavar="N", help="of the table of examples (the newest)")
    since = "train for a change at this event time, on the window that serves what came after it best"
    parser.add_argument("--since", type=_time, metavar="TIME", help=f"{since}; RFC 3339 with a zone")
    parser.add_argument("--device", default="", help='where to compute: "cpu" or "cuda" (cuda where there is one)')
    parser.add_argument("--store", default="", metavar="URL", help="where the table is (in the run's data)")
    parser.add_argument("--mlflow", default="", metavar="URL", help="the tracking server (a file in the run's data)")
    parser.add_argument("--run-dir", type=Path, default=REPOSITORY / ".run", help="where runs keep data and logs")
    parser.add_argument("--schemas", type=Path, default=REPOSITORY / "schemas", help="the folder of stream folders")
    parser.add_argument("--processes", type=int, metavar="N", help="that train together (one a GPU; 1 on a CPU)")
    parser.set_defaults(run=partial(spread, train=_run))


def _run(given: argparse.Namespace) -> int:
    from services.trainer.fitting import Fitting  # noqa: PLC0415 - PyTorch: seconds that no other command shall wait for
    from services.trainer.machine import best_device  # noqa: PLC0415
    from services.trainer.store import ExampleStore  # noqa: PLC0415
    from services.trainer.tracking import Tracking  # noqa: PLC0415

    stream = load_stream(given.schemas, given.stream)
    data = given.run_dir / stream.name / "data"
    store = ExampleStore(given.store or str(data / "store"), stream)
    device = given.device or best_device()
    began = time.monotonic()

    def begin(of: "TrainingSet") -> None:
        print(f"{len(of)} examples, version {of.version} of {store.place}; training on {device}", flush=True)

    track = Tracking(stream, data, given.mlflow)
    since = None if given.since is None else micros(given.since)
    card = Fitting(stream, store, data, device, track.catch_up).run(_who(), given.version, begin, _tell, since)
    _conclude(card, Artifacts(data, stream.name).card(BATCH, card.version), time.monotonic() - began)
    return 0


def _time(text: str) -> str:
    """Check a time, and leave it as it is: other processes of this training get it again."""
    micros(text)
    return text


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _conclude(card: "Card", place: Path, took: float) -> None:
    print(
        f"{place.parent.parent.name} {BATCH}@{card.version}: log loss {card.loss:.4f} on the newest examples, the"
        f" prior's {card.prior_loss:.4f}; best of {card.epochs} epochs: {card.best_epoch}; {took:.0f} s; card: {place}"
    )
    if card.windows:
        lost = ", ".join(f"{window} {loss:.4f}" for window, loss in card.windows.items())
        print(f"window: {card.window}; lost on the newest examples after the change, by window: {lost}")
    if card.servable:
        print("the service `trainer` registers it, now if it runs, else when it starts")
    else:
        print(f"it will not be registered: {card.obstacle}")


def _tell(epoch: "Epoch", of: int) -> None:
    """Say how an epoch ended."""
    best = " (best)" if epoch.best == epoch.number else ""
    print(
        f"epoch {epoch.number} of {of} at most: train {epoch.train_loss:.4f},"
        f" validation {epoch.validation_loss:.4f}{best}",
        file=sys.stderr,
        flush=True,
    )
