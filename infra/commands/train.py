"""`thalweg train`: the batch network, fitted to the labelled examples that a run has gathered."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from infra.local.stack import REPOSITORY
from services.runtime.artifacts import Artifacts
from services.runtime.stream import Stream, load_stream

if TYPE_CHECKING:
    from services.trainer.core import Epoch
    from services.trainer.training import Card

MODEL = "batch"
ABOUT = """\
Reads a version of the table of examples that the service `trainer` keeps, the newest one unless --version pins another,
fits the network of `[batch]` in pipeline.toml to it, checks its ONNX graph against it over 10,000 rows, and signs the
graph as batch@VERSION. Beside it stands its card: what it learned from, how, and what it is worth. Interrupted, it goes
on from the last epoch when it is called again; a second training of the stream at the same time is refused."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("train", help="fit the batch network to the examples gathered so far", epilog=ABOUT)
    parser.add_argument("--stream", default="flights", metavar="S", help="a folder under schemas/ (flights)")
    parser.add_argument("--version", type=int, metavar="N", help="of the table of examples (the newest)")
    parser.add_argument("--device", default="", help='where to compute: "cpu" or "cuda" (cuda where there is one)')
    parser.add_argument("--store", default="", metavar="URL", help="where the table is (in the run's data)")
    parser.add_argument("--run-dir", type=Path, default=REPOSITORY / ".run", help="where runs keep data and logs")
    parser.add_argument("--schemas", type=Path, default=REPOSITORY / "schemas", help="the folder of stream folders")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    import torch  # noqa: PLC0415 - seconds and a gigabyte that no other command shall wait for

    from services.trainer import training  # noqa: PLC0415
    from services.trainer.store import ExampleStore  # noqa: PLC0415

    stream = load_stream(given.schemas, given.stream)
    data = given.run_dir / stream.name / "data"
    store = ExampleStore(given.store or str(data / "store"), stream)
    examples = store.training_set(given.version)
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{len(examples)} examples, version {examples.version} of {store.place}; training on {device}", flush=True)
    began = time.monotonic()
    graph, card = training.run(stream, examples, data / "training", device, _Progress())
    artifacts = Artifacts(data, stream.name)
    artifacts.write(MODEL, card.version, graph)
    _conclude(stream, card, artifacts.card(MODEL, card.version), len(graph), time.monotonic() - began)
    return 0


def _conclude(stream: Stream, card: "Card", place: Path, size: int, took: float) -> None:
    place.write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    print(
        f"{stream.name} {MODEL}@{card.version}: log loss {card.loss:.4f} on the newest examples, the prior's"
        f" {card.prior_loss:.4f}; best of {card.epochs} epochs: {card.best_epoch}; {size / 1e3:.0f} kB, {took:.0f} s;"
        f" card: {place}"
    )


class _Progress:
    """Says how each epoch ended."""

    def __call__(self, epoch: "Epoch", of: int) -> None:
        best = " (best)" if epoch.best == epoch.number else ""
        print(
            f"epoch {epoch.number} of {of} at most: train {epoch.train_loss:.4f},"
            f" validation {epoch.validation_loss:.4f}{best}",
            file=sys.stderr,
            flush=True,
        )
