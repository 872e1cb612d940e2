"""Examples become a network: trained on the oldest, stopped by later ones, calibrated on the latest.

It needs torch and numpy alone, so that this package's `core.py`, `networks.py` and `calibration.py` run on a bare GPU
machine. Wrong input is a ValueError. Data go to the device once; a batch is a slice of a permutation made there.

Determinism: the same examples, recipe and number of workers on the same device, with the same torch and number of
threads, give the same weights, bit for bit, resumed from a checkpoint or not. Seeds are of the recipe and the epoch;
torch's global generators are left as they were. cuDNN promises this for a GRU with CUBLAS_WORKSPACE_CONFIG set alone.
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
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.random import fork_rng

from services.trainer.calibration import log_loss, temperature
from services.trainer.networks import Floats, Ints, Layout, Network, Shape, history

WARM_UP = 0.05  # of all steps, in which the learning rate rises
LAST_RATE = 0.01  # of the learning rate, at the end
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
class Examples:
    """Rows in order of event time: vectors (rows, columns), labels 0 or 1, and whose each row is, for "gru"."""

    vectors: Floats
    labels: Floats
    entities: Ints | None = None


@dataclass(frozen=True)
class Placement:
    """The device, and which of how many workers this is. The caller has made torch's process group if workers > 1."""

    device: str = "cpu"
    worker: int = 0
    workers: int = 1


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


@dataclass(frozen=True)
class Parts:
    """Which rows are for what; each part is later than the one before."""

    train: slice
    validation: slice
    calibration: slice


def split(rows: int, validation: float, calibration: float) -> Parts:
    """Cut by time; raise ValueError where a part would be empty."""
    last, middle = int(rows * calibration), int(rows * validation)
    first = rows - middle - last
    if min(first, middle, last) < 1:
        raise ValueError(f"{rows} examples are too few to train, validate and calibrate on")
    return Parts(slice(0, first), slice(first, first + middle), slice(first + middle, rows))


def train(
    examples: Examples,
    layout: Layout,
    recipe: Recipe,
    placement: Placement = Placement(),
    *,
    checkpoint: bytes | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_step: Callable[[int, int], None] = lambda _done, _of: None,
) -> Trained:
    """Train until validation stops improving for `patience` epochs, or for all of them, and calibrate the best.

    With a checkpoint, go on after its epoch. `on_step` hears of steps done and in all. Raise ValueError for examples
    that can't be learned from, for a checkpoint of other examples or another recipe, and where training diverged.
    """
    _check(examples, layout, recipe)
    device = torch.device(placement.device)
    with fork_rng([device] if device.type == "cuda" else []):
        run = Run(examples, layout, recipe, placement)
        if checkpoint is not None:
            run.load(checkpoint)
        while run.goes_on():
            run.epoch(on_step)
            on_epoch(Epoch(len(run.losses), *run.losses[-1], run.best, run.checkpoint))
        return run.finish()


def _check(examples: Examples, layout: Layout, recipe: Recipe) -> None:
    vectors, labels, entities = examples.vectors, examples.labels, examples.entities
    columns = sorted([*layout.numbers, *(column for group in layout.groups for column in group)])
    if vectors.ndim != 2 or columns != list(range(vectors.shape[1])):  # noqa: PLR2004
        raise ValueError(f"the layout has columns {columns}, the vectors are of shape {vectors.shape}")
    if recipe.kind == "gru" and entities is None:
        raise ValueError('a "gru" needs to know whose each row is')
    if {len(vectors), len(labels)} | ({len(entities)} if entities is not None else set()) != {len(vectors)}:
        raise ValueError("vectors, labels and entities are not of one length")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector holds a number that is not finite")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("a label is neither 0 nor 1")


class Data:
    """The examples on the device, there once and for all. A row's input is gathered when it is asked for."""

    def __init__(self, examples: Examples, recipe: Recipe, device: torch.device) -> None:
        self._vectors = torch.from_numpy(examples.vectors).to(device)
        self.labels = torch.from_numpy(examples.labels.astype(np.float32)).to(device)
        self._places: Tensor | None = None
        if recipe.kind == "gru" and examples.entities is not None:
            absent = torch.full_like(self._vectors[:1], math.nan)
            self._vectors = torch.cat([self._vectors, absent])
            self._places = torch.from_numpy(history(examples.entities, recipe.steps)).to(device)

    def rows(self, chosen: Tensor) -> Tensor:
        """Return the network's input for these rows."""
        if self._places is None:
            return self._vectors.index_select(0, chosen)
        places = self._places.index_select(0, chosen)
        return self._vectors.index_select(0, places.flatten()).view(len(chosen), -1)


class Run:
    """One training: the network and its optimiser, epoch by epoch."""

    def __init__(self, examples: Examples, layout: Layout, recipe: Recipe, placement: Placement) -> None:
        self._recipe, self._placement = recipe, placement
        self._device = torch.device(placement.device)
        self._parts = split(len(examples.labels), recipe.validation, recipe.calibration)
        self._mark = _mark(examples, layout, recipe)
        self._data = Data(examples, recipe, self._device)
        self._rows = self._parts.train.stop
        size = min(recipe.batch_size, self._rows)
        self._batch = max(size // placement.workers, 1) * placement.workers
        self.steps = self._rows // self._batch  # of an epoch; the rest of a permutation waits for the next one
        self._weight = _positive_weight(examples.labels[self._parts.train], recipe)
        self.network = self._build(examples.vectors[self._parts.train], layout)
        self._model = wrap(self.network, placement)
        self._optimiser = optimiser(self.network, recipe)
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
            _set_rate(self._optimiser, rate(step, of, self._recipe.learning_rate))
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
        loss = step_loss(self._model, self._data, chosen, self._weight)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    def _end(self, train_loss: float) -> None:
        """Score the second part; remember the weights if they are the best so far."""
        loss = self._agree(log_loss(*self._logits(self._parts.validation)))
        best = min((loss for _, loss in self.losses if math.isfinite(loss)), default=math.inf)
        self.losses.append((train_loss, loss))
        if loss < best:
            self.best = len(self.losses)
            self._weights = {name: weight.clone() for name, weight in self.network.state_dict().items()}

    def _agree(self, loss: float) -> float:
        """Have all workers take the first one's word, so that they stop together."""
        if self._placement.workers == 1:
            return loss
        said = torch.tensor(loss, dtype=torch.float64, device=self._device)
        torch.distributed.broadcast(said, 0)
        return said.item()

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
        state: dict[str, Any] = torch.load(io.BytesIO(checkpoint), map_location=self._device, weights_only=True)
        if state["mark"] != self._mark:
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
        return Trained(self.network.cpu().eval(), tuple(self.losses), self.best, losses)


def _mark(examples: Examples, layout: Layout, recipe: Recipe) -> str:
    """Return the fingerprint of what a training depends on."""
    mark = hashlib.sha256(repr((layout, recipe, examples.vectors.shape)).encode())
    for array in (examples.vectors, examples.labels, examples.entities):
        mark.update(b"" if array is None else np.ascontiguousarray(array).data)
    return mark.hexdigest()


def _positive_weight(labels: Floats, recipe: Recipe) -> float:
    """Return what a positive counts: where classes are balanced, as many times as there are negatives to it."""
    positives = float(labels.sum())
    if not 0 < positives < len(labels):
        raise ValueError(f"the {len(labels)} examples to train on are all of one class")
    return (len(labels) - positives) / positives if recipe.class_weights == "balanced" else 1.0


# What the bare loop of `loadtests/train.py` shares


def wrap(network: Network, placement: Placement) -> nn.Module:
    """Return what is called in training: compiled on a GPU, averaging gradients over workers.

    A GRU is cuDNN's kernel already, which a compiler only gets in the way of.
    """
    on_gpu = placement.device.startswith("cuda")
    model: nn.Module = network
    if placement.workers > 1:
        model = DistributedDataParallel(model, device_ids=[torch.device(placement.device)] if on_gpu else None)
    return torch.compile(model) if on_gpu and network.memory is None else model  # type: ignore[return-value]


def optimiser(network: Network, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter, 2019); biases and norms don't decay."""
    matrices = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def step_loss(model: nn.Module, data: Data, chosen: Tensor, weight: float) -> Tensor:
    """Return the mean loss of a batch, in bfloat16 where the device is a GPU."""
    with torch.autocast(chosen.device.type, torch.bfloat16, enabled=chosen.is_cuda):
        raw = model(data.rows(chosen))
    labels = data.labels.index_select(0, chosen)
    weights = None if weight == 1 else torch.full((), weight, device=chosen.device)
    return functional.binary_cross_entropy_with_logits(raw.float(), labels, pos_weight=weights)


def shares(batches: Tensor, placement: Placement) -> list[Tensor]:
    """Return this worker's rows of each batch (batches, rows); no row is another worker's too, and all have as many."""
    return list(batches[:, placement.worker :: placement.workers].unbind())


def rate(step: int, of: int, highest: float) -> float:
    """Return the learning rate of a step: up in a line, then down in half a cosine (Loshchilov and Hutter, 2017)."""
    rising = max(1, round(of * WARM_UP))
    if step < rising:
        return highest * (step + 1) / rising
    done = (step - rising) / max(1, of - rising)
    return highest * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2)


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
