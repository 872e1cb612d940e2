"""A training run: a pinned version of the table becomes a checked graph, and a card that says what it is worth.

The same version, recipe and device give the same graph. A run that was interrupted goes on from its last epoch.
"""

import fcntl
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from services.runtime.errors import Stop
from services.runtime.stream import Stream
from services.trainer.core import TORCH, Epoch, Recipe, Trained, train
from services.trainer.examples import Examples, split
from services.trainer.export import export
from services.trainer.networks import Floats, history, side_by_side
from services.trainer.recipe import layout, recipe
from services.trainer.rows import TrainingSet
from services.trainer.stepping import Placement


class Card(msgspec.Struct, frozen=True):
    """What a version of the batch model is, and is worth. Losses are log losses in nats.

    `loss` is of the latest rows, on which only the temperature was fitted; `prior_loss` is what the share of positives
    in the oldest part would lose on them. `version` is the table's, that the run pinned.
    """

    version: int
    feature_set: str
    rows: int
    positives: float
    recipe: Mapping[str, Any]
    epochs: int
    best_epoch: int
    temperature: float
    loss: float
    prior_loss: float
    device: str
    torch: str


def run(
    stream: Stream, examples: TrainingSet, folder: Path, device: str, on_epoch: Callable[[Epoch, int], None]
) -> tuple[bytes, Card]:
    """Train on these examples; return the graph, compared with its network, and its card.

    `folder` keeps the checkpoint of a run that did not end. Raise Stop for examples that can't be learned from, and
    where another run is at work in the folder.
    """
    wanted = recipe(stream)
    given = Examples(examples.features, examples.labels, examples.key_codes)
    with alone(folder):
        checkpoint = folder / "checkpoint"

        def ended(epoch: Epoch) -> None:
            write(checkpoint, epoch.checkpoint())
            on_epoch(epoch, wanted.epochs)

        trained = resumed(stream, given, wanted, device, checkpoint, ended)
        graph = export(trained.network, _rows(given, wanted))
        checkpoint.unlink()
    return graph, _card(stream, examples, wanted, trained, device)


def resumed(
    stream: Stream,
    examples: Examples,
    wanted: Recipe,
    device: str,
    checkpoint: Path,
    on_epoch: Callable[[Epoch], None],
) -> Trained:
    """Go on from the checkpoint, if it is of this training; else begin."""
    placed, parts = Placement(device), layout(stream)
    if checkpoint.exists():
        with suppress(ValueError):  # of other examples, or of another recipe; what else is wrong is said below
            return train(examples, parts, wanted, placed, checkpoint=checkpoint.read_bytes(), on_epoch=on_epoch)
    try:
        return train(examples, parts, wanted, placed, on_epoch=on_epoch)
    except ValueError as error:
        raise Stop(f"{stream.name} can't be trained on yet: {error}") from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time train in a folder; Stop for another. The lock ends with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Stop(f"another training is at work in {folder}; wait for it, or stop it") from error
        yield


def write(path: Path, content: bytes) -> None:
    """Write a file whole, or leave the old one."""
    draft = path.with_name(f".{path.name}")
    draft.write_bytes(content)
    draft.rename(path)


def _rows(examples: Examples, wanted: Recipe) -> Floats:
    """Return rows as the network takes them, the newest, to compare its graph with it over them."""
    newest = examples.vectors[-10_000:]
    if wanted.kind == "mlp" or examples.entities is None:
        return newest
    return side_by_side(examples.vectors, history(examples.entities, wanted.steps)[-len(newest) :])


def _card(stream: Stream, examples: TrainingSet, wanted: Recipe, trained: Trained, device: str) -> Card:
    parts = split(len(examples), wanted.validation, wanted.calibration)
    share = float(examples.labels[parts.train].mean())
    latest = float(examples.labels[parts.calibration].mean())
    return Card(
        version=examples.version,
        feature_set=stream.feature_set,
        rows=len(examples),
        positives=float(examples.labels.mean()),
        recipe=vars(wanted),
        epochs=len(trained.losses),
        best_epoch=trained.best,
        temperature=float(trained.network.temperature),
        loss=trained.calibration_loss[1],
        prior_loss=-latest * math.log(share) - (1 - latest) * math.log1p(-share),
        device=device,
        torch=TORCH,
    )
