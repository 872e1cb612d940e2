"""A training run: a pinned version of the table becomes a checked graph, and a card that says what it is worth.

The same version, recipe and device give the same graph. A run that was interrupted goes on from its last epoch.
"""

import fcntl
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from services.runtime.errors import Retry, Stop
from services.runtime.stream import Stream
from services.trainer.cards import Card
from services.trainer.core import TORCH, Epoch, Recipe, Trained, train
from services.trainer.examples import Examples, split
from services.trainer.export import export
from services.trainer.machine import commit
from services.trainer.networks import Floats, history, side_by_side
from services.trainer.recipe import layout, recipe
from services.trainer.rows import TrainingSet
from services.trainer.workers import placed_on
from services.trainer.worth import by_value, reliability

CHECKPOINT = "checkpoint"


def run(
    stream: Stream, examples: TrainingSet, folder: Path, device: str, on_epoch: Callable[[Epoch, int], None]
) -> tuple[bytes, Card]:
    """Train on these examples; return the graph, compared with its network, and its card.

    The card has neither a number nor who asked yet. `folder` keeps the checkpoint of a run that did not end, until it
    is discarded. Raise Stop for examples that can't be learned from, Retry where the checkpoint can't be written.
    """
    wanted = recipe(stream)
    given = Examples(examples.features, examples.labels, examples.key_codes)
    checkpoint = folder / CHECKPOINT

    def ended(epoch: Epoch) -> None:
        write(checkpoint, epoch.checkpoint())
        on_epoch(epoch, wanted.epochs)

    trained = resumed(stream, given, wanted, device, checkpoint, ended)
    graph = export(trained.network, _rows(given, wanted))
    return graph, _card(stream, examples, wanted, trained, device)


def discard(folder: Path) -> None:
    """Forget the checkpoint of a run whose outcome is stored."""
    (folder / CHECKPOINT).unlink(missing_ok=True)


def resumed(
    stream: Stream,
    examples: Examples,
    wanted: Recipe,
    device: str,
    checkpoint: Path,
    on_epoch: Callable[[Epoch], None],
) -> Trained:
    """Go on from the checkpoint, if it is of this training; else begin."""
    placed, parts = placed_on(device), layout(stream)
    if checkpoint.exists():
        with suppress(ValueError):  # of other examples, or of another recipe; what else is wrong is said below
            return train(examples, parts, wanted, placed, checkpoint=checkpoint.read_bytes(), on_epoch=on_epoch)
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


def write(path: Path, content: bytes) -> None:
    """Write a file whole, or leave the old one and raise Retry."""
    draft = path.with_name(f".{path.name}")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.rename(path)
    except OSError as error:
        raise Retry(f"{path} can't be written: {error.strerror}") from error


def _rows(examples: Examples, wanted: Recipe) -> Floats:
    """Return rows as the network takes them, the newest, to compare its graph with it over them."""
    newest = examples.vectors[-10_000:]
    if wanted.kind == "mlp" or examples.entities is None:
        return newest
    return side_by_side(examples.vectors, history(examples.entities, wanted.steps)[-len(newest) :])


def _card(stream: Stream, examples: TrainingSet, wanted: Recipe, trained: Trained, device: str) -> Card:
    parts = split(len(examples), wanted.validation, wanted.calibration)
    share = float(examples.labels[parts.train].mean())
    logits, labels = trained.calibration_logits, examples.labels[parts.calibration].astype(float)
    vectors, latest = examples.features[parts.calibration], float(labels.mean())
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
        loss=trained.calibration_loss[1],
        prior_loss=-latest * math.log(share) - (1 - latest) * math.log1p(-share),
        device=device,
        workers=placed_on(device).workers,
        torch=TORCH,
        servable=wanted.kind == "mlp",
        losses=list(trained.losses),
        slices=by_value(stream.pipeline.rollout.slices, stream.columns, vectors, logits, labels),
        reliability=reliability(logits, labels),
        code=commit(),
    )
