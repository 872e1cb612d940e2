"""One step of training, and who takes it: device, workers, precision, optimiser and learning rate."""

import math
from dataclasses import dataclass
from typing import Any

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
        devices = [torch.device(placement.device)] if on_gpu else None
        model = DistributedDataParallel(model, device_ids=devices, forward_sync_buffers=False)  # no step changes any
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
    """Return this worker's rows of each batch (batches, rows), none of which is another worker's too.

    A worker for which no row is left gets one whose loss counts for nothing, so that it takes the step with the others.
    """
    own = batches[:, placement.worker :: placement.workers]
    return list((own if own.shape[1] else batches[:, :1]).unbind())


def portion(rows: int, placement: Placement) -> float:
    """Return what to multiply a worker's mean loss by, so that the workers' mean is the mean of a batch of `rows`.

    It is the worker's number of rows over the workers' mean number: 0 where it has none.
    """
    return len(range(placement.worker, rows, placement.workers)) * placement.workers / rows


def shared(what: Any, placement: Placement) -> Any:  # noqa: ANN401 - whatever can be pickled, as it is between processes
    """Return what worker 0 gave; all workers call it."""
    box = [what]
    if placement.workers > 1:
        torch.distributed.broadcast_object_list(box, 0)
    return box[0]


def agreed(train_loss: float, validation_loss: float, placement: Placement) -> tuple[float, float]:
    """Return the mean of the workers' training losses, and worker 0's validation loss, so that all stop together."""
    if placement.workers == 1:
        return train_loss, validation_loss
    mine = [train_loss / placement.workers, validation_loss if placement.worker == 0 else 0.0]
    said = torch.tensor(mine, dtype=torch.float64, device=placement.device)
    torch.distributed.all_reduce(said)
    return said[0].item(), said[1].item()


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
