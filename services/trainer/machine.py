"""The machine that is trained on: its device, its cores, and what PyTorch costs when it is first used."""

import os
import shutil
import subprocess
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from services.trainer.stepping import optimiser


def commit() -> str:
    """Return the commit that this code is of, marked where it was changed since; nothing where git can't tell."""
    if (git := shutil.which("git")) is None:
        return ""
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def use_half_the_cores() -> None:
    """Leave the other half to whoever serves meanwhile."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))


def warm_up() -> None:
    """Take a step for nothing: PyTorch loads much of itself, a second's worth, when it first makes an optimiser."""
    network = nn.Linear(1, 1)
    loss = functional.binary_cross_entropy_with_logits(network(torch.ones(1, 1)), torch.ones(1, 1))
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser(network, 1e-3, 0.0).step()
