"""Several processes train one network, as `torchrun` starts them: worker 0 leads, and the others follow it.

    with joined("cuda") as placement:
        if placement.worker:
            follow(placement)
        else:
            train(examples, layout, recipe, placement)
    end(0)

So worker 0 alone reads examples, keeps checkpoints, tells of progress and has the network: what it trains on it sends.
It needs torch and numpy alone, as the core does.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NoReturn

import torch
from torch import distributed

from services.trainer.core import train
from services.trainer.stepping import Placement, shared

PATIENCE = timedelta(minutes=30)  # for another worker, which may be reading examples or writing a graph
SEVERED = ("closed by peer", "reset by peer", "Broken pipe", "timed out waiting")  # what gloo says of a lost worker


class WorkerLost(ConnectionError):  # noqa: N818 - an event, in the past tense
    """Another process of this training is gone, and so is the training, up to its last checkpoint."""


def started() -> bool:
    """Say whether `torchrun` has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device: str) -> Iterator[Placement]:
    """Join the workers that `torchrun` has started, if it has, each on a GPU of its own if the device is "cuda".

    When worker 0 leaves, the others have nothing more to follow. Raise WorkerLost where one ends before.
    """
    if not started():
        yield Placement(device)
        return
    on_gpu = device == "cuda"
    placement = Placement(
        f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else device,
        int(os.environ["RANK"]),
        int(os.environ["WORLD_SIZE"]),
    )
    if on_gpu:
        torch.cuda.set_device(placement.device)
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
        yield placement
        if placement.worker == 0:
            shared(None, placement)
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or any(said in str(error) for said in SEVERED):
            raise WorkerLost(f"worker {placement.worker} ended, as another worker is gone") from error
        raise
    distributed.destroy_process_group()


def end(status: int) -> NoReturn:
    """End this process without Python's own end, in which a process that was joined aborts now and then (SIGABRT)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # its public name


def placed_on(device: str) -> Placement:
    """Return the place of this process among the workers that it has joined; alone if it has joined none."""
    if not distributed.is_initialized():
        return Placement(device)
    return Placement(device, distributed.get_rank(), distributed.get_world_size())


def follow(placement: Placement) -> None:
    """Train along with worker 0, on whatever it trains, until it leaves."""
    while (work := shared(None, placement)) is not None:
        examples, layout, recipe, checkpoint = work
        with suppress(ValueError):  # worker 0 has it as well, and tells
            train(examples, layout, recipe, placement, checkpoint=checkpoint)
