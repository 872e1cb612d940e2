"""Networks for the vectors of flights, untrained."""

from pathlib import Path

import numpy as np
import torch

from services.runtime.stream import load_stream
from services.trainer.networks import Network, Shape
from services.trainer.recipe import layout

STREAM = load_stream(Path(__file__).parents[1] / "schemas", "flights")


def network(seed: int) -> Network:
    """Return one with weights drawn at random."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        made = Network(layout(STREAM), Shape("mlp", 16, 1, 0.0, 1))
        made.encoder.fit(np.random.default_rng(seed).standard_normal((200, len(STREAM.columns))).astype(np.float32))
        for weight in made.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
    return made.eval()
