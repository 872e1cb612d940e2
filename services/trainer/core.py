"""Examples become a network: trained on the oldest, stopped by later ones, calibrated on the latest.

It needs torch and numpy alone, and so does all of this package that it imports: it runs on a bare GPU machine. Wrong
input is a ValueError. Data go to the device once; a batch is a slice of a permutation made there. Several workers
(`workers.py`) share each batch, whose gradient is the same however many they are.

Determinism: the same examples, recipe and number of workers on the same device, with the same torch and number of
threads, give the same weights, bit for bit, resumed from a checkpoint or not. Seeds are of the recipe and the epoch,
dropout's of the worker too: without dropout another number of workers gives the same losses but for rounding. A resumed
training may have another number. torch's global generators are left as they were. cuDNN promises this for a GRU with
CUBLAS_WORKSPACE_CONFIG set alone.
"""

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.random import fork_rng

from services.trainer.calibration import log_loss, temperature
from services.trainer.examples import Data, Examples, check, split
from services.trainer.networks import Floats, Layout, Network, Shape
from services.trainer.stepping import (
    Placement,
    agreed,
    optimiser,
    portion,
    rate,
    set_rate,
    shared,
    shares,
    step_loss,
    wrap,
)

HERE = Placement()
TORCH = str(torch.__version__)
SLICE = 65_536  # rows scored at once


@dataclass(frozen=True)
class Recipe:
    """How to train: the fields of `[batch]` in `pipeline.toml`, where they are explained."""

    kind: Literal["mlp", "gru"]
    width: int
    depth: int
    steps: int
    dropout: float
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    validation: float
    calibration: float
    class_weights: Literal["none", "balanced"]
    seed: int

    @property
    def shape(self) -> Shape:
        return Shape(self.kind, self.width, self.depth, self.dropout, self.steps)


@dataclass(frozen=True)
class Epoch:
    """An epoch's end. `checkpoint()` is what to resume from; the best epoch so far has the lowest validation loss."""

    number: int
    train_loss: float  # what was minimised: dropout and class weights are in it
    validation_loss: float
    best: int
    checkpoint: Callable[[], bytes]


@dataclass(frozen=True)
class Trained:
    """The best epoch's network, calibrated, on the CPU. Losses are log losses in nats, (train, validation) an epoch."""

    network: Network
    losses: tuple[tuple[float, float], ...]
    best: int
    calibration_loss: tuple[float, float]  # without and with temperature
    calibration_logits: NDArray[np.float64]  # with temperature, of the rows of that part


def train(
    examples: Examples,
    layout: Layout,
    recipe: Recipe,
    placement: Placement = HERE,
    *,
    checkpoint: bytes | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_step: Callable[[int, int], None] = lambda _done, _of: None,
) -> Trained:
    """Train until validation stops improving for `patience` epochs, or for all of them, and calibrate the best.

    With a checkpoint, go on after its epoch. `on_step` hears of steps done and in all. Raise ValueError for examples
    that can't be learned from, for a checkpoint of other examples or another recipe, and where training diverged.
    Of several workers the first calls it, and sends to the others, which `follow`, what to train on.
    """
    check(examples, layout, needs_entities=recipe.kind == "gru")
    if placement.worker == 0:
        shared((examples, layout, recipe, checkpoint), placement)
    device = torch.device(placement.device)
    with fork_rng([device] if device.type == "cuda" else []):
        run = Run(examples, layout, recipe, placement)
        if checkpoint is not None:
            run.load(checkpoint)
        while run.goes_on():
            run.epoch(on_step)
            on_epoch(Epoch(len(run.losses), *run.losses[-1], run.best, run.checkpoint))
        return run.finish()


class Run:
    """One training: the network and its optimiser, epoch by epoch."""

    def __init__(self, examples: Examples, layout: Layout, recipe: Recipe, placement: Placement) -> None:
        self._recipe, self._placement = recipe, placement
        self._device = torch.device(placement.device)
        self._parts = split(len(examples.labels), recipe.validation, recipe.calibration)
        self._mark = _mark(examples, layout, recipe)
        self._data = Data(examples, recipe.shape, self._device)
        self._rows = self._parts.train.stop
        self._batch = min(recipe.batch_size, self._rows)  # of all workers together
        self.steps = self._rows // self._batch  # of an epoch; the rest of a permutation waits for the next one
        self._weight = self._positive_weight(examples.labels[self._parts.train])
        self.network = self._build(examples.vectors[self._parts.train], layout)
        self._model = wrap(self.network, placement)
        self._optimiser = optimiser(self.network, recipe.learning_rate, recipe.weight_decay)
        self.losses: list[tuple[float, float]] = []
        self.best = 0  # the epoch, from 1
        self._weights: dict[str, Tensor] = {}  # of the best epoch

    def _build(self, vectors: Floats, layout: Layout) -> Network:
        """Make the network; its first weights come from the CPU's generator, so every device starts alike."""
        torch.manual_seed(self._recipe.seed)
        network = Network(layout, self._recipe.shape)
        network.encoder.fit(vectors)
        network.shift.fill_(math.log(self._weight))
        return network.to(self._device)

    def _positive_weight(self, labels: Floats) -> float:
        """Return what a positive counts: where classes are balanced, as many times as there are negatives to it."""
        positives = float(labels.sum())
        if not 0 < positives < len(labels):
            raise ValueError(f"the {len(labels)} examples to train on are all of one class")
        return (len(labels) - positives) / positives if self._recipe.class_weights == "balanced" else 1.0

    def goes_on(self) -> bool:
        done = len(self.losses)
        return done < self._recipe.epochs and done - self.best < self._recipe.patience

    # An epoch

    def epoch(self, on_step: Callable[[int, int], None]) -> None:
        number = len(self.losses)
        done, of = number * self.steps, self._recipe.epochs * self.steps
        torch.manual_seed(self._seed(number, self._placement.worker + 1))  # of dropout
        total = torch.zeros((), device=self._device)
        self.network.train()
        for step, chosen in enumerate(self._batches(number), done):
            set_rate(self._optimiser, rate(step, of, self._recipe.learning_rate))
            total += self._step(chosen)
            on_step(step + 1, of)
        self._end(total.item() / self.steps)

    def _seed(self, epoch: int, of: int) -> int:
        return (self._recipe.seed * 1_000_003 + epoch) * 1_000_003 + of

    def _batches(self, epoch: int) -> list[Tensor]:
        """Shuffle the rows of the first part; every worker draws the same order."""
        generator = torch.Generator(self._device).manual_seed(self._seed(epoch, 0))
        order = torch.randperm(self._rows, generator=generator, device=self._device)
        return shares(order[: self.steps * self._batch].view(self.steps, self._batch), self._placement)

    def _step(self, chosen: Tensor) -> Tensor:
        loss = step_loss(self._model, self._data, chosen, self._weight) * portion(self._batch, self._placement)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    def _end(self, train_loss: float) -> None:
        """Score the second part; remember the weights if they are the best so far."""
        train_loss, loss = agreed(train_loss, log_loss(*self._logits(self._parts.validation)), self._placement)
        best = min((loss for _, loss in self.losses if math.isfinite(loss)), default=math.inf)
        self.losses.append((train_loss, loss))
        if loss < best:
            self.best = len(self.losses)
            self._weights = {name: weight.clone() for name, weight in self.network.state_dict().items()}

    def _logits(self, part: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return logits before temperature, and labels, of a part; in float32 on any device."""
        self.network.eval()
        with torch.no_grad():
            chosen = torch.arange(part.start, part.stop, device=self._device)
            logits = [self.network.logits(self._data.rows(some)) for some in torch.split(chosen, SLICE)]
        labels = self._data.labels[part]
        return torch.cat(logits).double().cpu().numpy(), labels.double().cpu().numpy()

    # Before and after

    def checkpoint(self) -> bytes:
        """Return what to go on from. Nothing in it runs code when it is loaded."""
        state = {
            "mark": self._mark,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "losses": self.losses,
            "best": self.best,
            "weights": self._weights,
        }
        torch.save(state, into := io.BytesIO())
        return into.getvalue()

    def load(self, checkpoint: bytes) -> None:
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(checkpoint), map_location=self._device, weights_only=True)
        except Exception as error:  # of a zip file, a pickle or a tensor
            raise ValueError(f"it is no checkpoint: {error}".partition("\n")[0]) from error
        if not isinstance(state, dict) or state.get("mark") != self._mark:
            raise ValueError("the checkpoint is of other examples or of another recipe")
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.losses, self.best, self._weights = state["losses"], state["best"], state["weights"]

    def finish(self) -> Trained:
        if not self.best:
            raise ValueError(f"training diverged: the losses were {self.losses}")
        self.network.load_state_dict(self._weights)
        logits, labels = self._logits(self._parts.calibration)
        found = temperature(logits, labels)
        self.network.temperature.fill_(found)
        losses = log_loss(logits, labels), log_loss(logits / found, labels)
        return Trained(self.network.cpu().eval(), tuple(self.losses), self.best, losses, logits / found)


def _mark(examples: Examples, layout: Layout, recipe: Recipe) -> str:
    """Return the fingerprint of what a training depends on."""
    mark = hashlib.sha256(repr((layout, recipe, examples.vectors.shape)).encode())
    for array in (examples.vectors, examples.labels, examples.entities):
        mark.update(b"" if array is None else np.ascontiguousarray(array).data)
    return mark.hexdigest()
