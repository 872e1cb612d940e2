"""A training run: a pinned version of the table becomes a checked graph, and a card that says what it is worth.

The same version, recipe and device give the same graph. A run that was interrupted goes on from its last epoch.
"""

import fcntl
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import Retry, Stop
from services.runtime.stream import Stream
from services.trainer.calibration import log_loss
from services.trainer.cards import Card
from services.trainer.checkpoints import Checkpoint, Checkpoints
from services.trainer.core import TORCH, Epoch, Recipe, Trained, train
from services.trainer.examples import Examples, split
from services.trainer.export import export
from services.trainer.machine import commit
from services.trainer.networks import Floats, history, side_by_side
from services.trainer.recipe import layout, recipe
from services.trainer.rows import TrainingSet
from services.trainer.workers import placed_on
from services.trainer.worth import by_value, reliability


@dataclass(frozen=True)
class Fit:
    """A network; the share of positives that it was trained on; and the latest rows, which it was calibrated on."""

    trained: Trained
    share: float
    latest: TrainingSet
    logits: NDArray[np.float64]  # what it says of the latest rows


def run(
    stream: Stream, examples: TrainingSet, kept: Checkpoints, device: str, on_epoch: Callable[[Epoch, int], None]
) -> tuple[bytes, Card]:
    """Train on these examples; return the graph, compared with its network, and its card.

    The card has neither a number nor who asked yet. `kept` keeps the checkpoint of a run that did not end, until it
    is discarded. Raise Stop for examples that can't be learned from, Retry where the checkpoint can't be written.
    """
    return finish(stream, examples, fit(stream, examples, kept.of(), device, on_epoch), device)


def fit(
    stream: Stream, examples: TrainingSet, checkpoint: Checkpoint, device: str, on_epoch: Callable[[Epoch, int], None]
) -> Fit:
    """Train on these examples, and calibrate on the latest of them; goes on from the checkpoint, and keeps it."""
    wanted = recipe(stream)
    given = Examples(examples.features, examples.labels, examples.key_codes)

    def ended(epoch: Epoch) -> None:
        checkpoint.write(epoch.checkpoint())
        on_epoch(epoch, wanted.epochs)

    trained = resumed(stream, given, wanted, device, checkpoint, ended)
    parts = split(len(examples), wanted.validation, wanted.calibration)
    share = float(examples.labels[parts.train].mean())
    return Fit(trained, share, examples.only(parts.calibration), trained.calibration_logits)


def finish(stream: Stream, examples: TrainingSet, fit: Fit, device: str) -> tuple[bytes, Card]:
    """Return the graph, compared with its network, and the card, which says what it is worth on the latest rows."""
    graph = export(fit.trained.network, inputs(examples, recipe(stream))[-10_000:])
    return graph, _card(stream, examples, fit, device)


def resumed(
    stream: Stream,
    examples: Examples,
    wanted: Recipe,
    device: str,
    checkpoint: Checkpoint,
    on_epoch: Callable[[Epoch], None],
) -> Trained:
    """Go on from the checkpoint, if it is of this training; else begin."""
    placed, parts = placed_on(device), layout(stream)
    if (found := checkpoint.read()) is not None:
        try:
            return train(examples, parts, wanted, placed, checkpoint=found, on_epoch=on_epoch)
        except ValueError as error:  # of other examples, or of another recipe; what else is wrong is said below
            checkpoint.refuse(str(error))
    try:
        return train(examples, parts, wanted, placed, on_epoch=on_epoch)
    except ValueError as error:
        raise Stop(f"{stream.name} can't be trained on yet: {error}") from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time train in a folder; Retry for another. The lock ends with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Retry(f"another training is at work in {folder}; wait for it, or stop it") from error
        yield


def inputs(examples: TrainingSet, wanted: Recipe) -> Floats:
    """Return the rows as the network takes them."""
    if wanted.kind == "mlp":
        return examples.features
    return side_by_side(examples.features, history(examples.key_codes, wanted.steps))


def _card(stream: Stream, examples: TrainingSet, fit: Fit, device: str) -> Card:
    trained, logits, labels = fit.trained, fit.logits, fit.latest.labels.astype(float)
    vectors, positives, wanted = fit.latest.features, float(labels.mean()), recipe(stream)
    return Card(
        version=0,
        by="",
        table_version=examples.version,
        newest=int(examples.event_times[-1]),
        feature_set=stream.feature_set,
        rows=len(examples),
        positives=float(examples.labels.mean()),
        columns=len(stream.columns),
        recipe=vars(wanted),
        epochs=len(trained.losses),
        best_epoch=trained.best,
        temperature=float(trained.network.temperature),
        loss=log_loss(logits, labels),
        prior_loss=-positives * math.log(fit.share) - (1 - positives) * math.log1p(-fit.share),
        device=device,
        workers=placed_on(device).workers,
        torch=TORCH,
        servable=wanted.kind == "mlp",
        losses=list(trained.losses),
        slices=by_value(stream.pipeline.rollout.slices, stream.columns, vectors, logits, labels),
        reliability=reliability(logits, labels),
        code=commit(),
    )
