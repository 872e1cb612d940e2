"""What is learned from: examples in order of time, cut into parts by it, and on the device once and for all."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.trainer.networks import Floats, Ints, Layout, Shape, history


@dataclass(frozen=True)
class Examples:
    """Rows in order of event time: vectors (rows, columns), labels 0 or 1, and whose each row is, for "gru"."""

    vectors: Floats
    labels: Floats
    entities: Ints | None = None


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


def check(examples: Examples, layout: Layout, *, needs_entities: bool) -> None:
    """Raise ValueError for examples that no network of this layout can learn from."""
    vectors, labels, entities = examples.vectors, examples.labels, examples.entities
    columns = sorted([*layout.numbers, *(column for group in layout.groups for column in group)])
    if vectors.ndim != 2 or columns != list(range(vectors.shape[1])):  # noqa: PLR2004
        raise ValueError(f"the layout has columns {columns}, the vectors are of shape {vectors.shape}")
    if needs_entities and entities is None:
        raise ValueError('a "gru" needs to know whose each row is')
    if {len(vectors), len(labels)} | ({len(entities)} if entities is not None else set()) != {len(vectors)}:
        raise ValueError("vectors, labels and entities are not of one length")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector holds a number that is not finite")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("a label is neither 0 nor 1")


class Data:
    """The examples on the device, there once and for all. A row's input is gathered when it is asked for."""

    def __init__(self, examples: Examples, shape: Shape, device: torch.device) -> None:
        self._vectors = torch.tensor(examples.vectors, dtype=torch.float32, device=device)
        self.labels = torch.tensor(examples.labels, dtype=torch.float32, device=device)
        self._places: Tensor | None = None
        if shape.kind == "gru" and examples.entities is not None:
            absent = torch.full_like(self._vectors[:1], math.nan)
            self._vectors = torch.cat([self._vectors, absent])
            self._places = torch.tensor(history(examples.entities, shape.steps), device=device)

    def rows(self, chosen: Tensor) -> Tensor:
        """Return the network's input for these rows."""
        if self._places is None:
            return self._vectors.index_select(0, chosen)
        places = self._places.index_select(0, chosen)
        return self._vectors.index_select(0, places.flatten()).view(len(chosen), -1)
