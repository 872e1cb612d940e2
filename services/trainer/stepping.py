"""One step of training, and who takes it: device, workers, precision, optimiser and learning rate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from services.trainer.examples import Data
from services.trainer.networks import Network

WARM_UP = 0.05  # of all steps, in which the learning rate rises
LAST_RATE = 0.01  # of the learning rate, at the end


@dataclass(frozen=True)
class Placement:
    """The device, and which of how many workers this is. The caller has made torch's process group if workers > 1."""

    device: str = "cpu"
    worker: int = 0
    workers: int = 1


def wrap(network: Network, placement: Placement) -> nn.Module:
    """Return what is called in training: compiled on a GPU, averaging gradients over workers.

    A GRU is cuDNN's kernel already, which a compiler only gets in the way of.
    """
    on_gpu = placement.device.startswith("cuda")
    model: nn.Module = network
    if placement.workers > 1:
        model = DistributedDataParallel(model, device_ids=[torch.device(placement.device)] if on_gpu else None)
    return torch.compile(model) if on_gpu and network.memory is None else model  # type: ignore[return-value]


def optimiser(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter, 2019); biases and norms don't decay."""
    matrices = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


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


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
