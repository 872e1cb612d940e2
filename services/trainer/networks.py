"""The batch networks: a residual MLP over feature vectors, and the same behind a GRU over an entity's last vectors.

A network takes raw feature vectors and says a probability: scaling, embeddings and temperature are parts of it, so
that there is nothing to apply beside it. Its input has `steps` vectors a row side by side, oldest first; a vector
that is not there, as the entity has no such past, is NaN. Whatever finite numbers come in, a finite score comes out.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

FARTHEST = 1e6  # spreads from the centre; beyond it all numbers are the same
STEEPEST = 1e30  # the inverse of the smallest spread
SPREAD_OF_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution
QUANTILE_ROWS = 1_000_000


@dataclass(frozen=True)
class Layout:
    """What each column of a vector is: a number, or one of a group of which at most one is 1."""

    numbers: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        return len(self.numbers) + sum(map(len, self.groups))


@dataclass(frozen=True)
class Shape:
    """`kind` is "mlp", which reads one vector, or "gru", which reads `steps`; `depth` is the number of blocks."""

    kind: Literal["mlp", "gru"]
    width: int
    depth: int
    dropout: float
    steps: int

    @property
    def vectors(self) -> int:
        """How many vectors make one row of the input."""
        return self.steps if self.kind == "gru" else 1


class Encoder(nn.Module):
    """Scales and squashes the numbers, embeds the groups. An embedding is a linear map of the one-hot columns.

    A number becomes sign(z) log(1 + |z|), where z is its distance from the median in robust standard deviations: a
    feature with a heavy tail keeps its order out there and does not drown the rest.
    """

    columns: Tensor
    centre: Tensor
    inverse: Tensor
    members: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("columns", torch.tensor(layout.numbers, dtype=torch.int64))
        self.register_buffer("centre", torch.zeros(len(layout.numbers)))
        self.register_buffer("inverse", torch.ones(len(layout.numbers)))
        self.embeddings = nn.ModuleList(nn.Linear(len(group), _size(group), bias=False) for group in layout.groups)
        self.width = len(layout.numbers) + sum(map(_size, layout.groups))
        members = [column for group in layout.groups for column in group]
        self.register_buffer("members", torch.tensor(members, dtype=torch.int64))

    def fit(self, vectors: Floats) -> None:
        """Take centre and spread of the numbers from these vectors (rows, columns), and from no others."""
        numbers = vectors[:: -(-len(vectors) // QUANTILE_ROWS), list(self.layout.numbers)].astype(np.float64)
        low, centre, high = np.quantile(numbers, [0.25, 0.5, 0.75], axis=0)
        spread = (high - low) / SPREAD_OF_QUARTILES
        spread = np.where(spread > 0, spread, numbers.std(axis=0))
        inverse = 1 / np.maximum(np.where(spread > 0, spread, 1.0), 1 / STEEPEST)
        self.centre.copy_(torch.from_numpy(centre))
        self.inverse.copy_(torch.from_numpy(inverse))

    def forward(self, vectors: Tensor) -> Tensor:
        """Encode (…, columns) as (…, width)."""
        parts = [self._numbers(vectors)] if self.layout.numbers else []
        one_hots = vectors.index_select(-1, self.members).clamp(0.0, 1.0)
        groups = torch.split(one_hots, [len(group) for group in self.layout.groups], dim=-1)
        parts += [embedding(group) for embedding, group in zip(self.embeddings, groups, strict=True)]
        return torch.cat(parts, dim=-1)

    def _numbers(self, vectors: Tensor) -> Tensor:
        z = ((vectors.index_select(-1, self.columns) - self.centre) * self.inverse).clamp(-FARTHEST, FARTHEST)
        return torch.sign(z) * torch.log(1 + torch.abs(z))


def _size(group: tuple[int, ...]) -> int:
    """Return the width of an embedding, by the rule of thumb of fastai (Howard and Gugger, 2020)."""
    return max(1, round(1.6 * math.pow(len(group), 0.56)))


class Block(nn.Module):
    """x + W2 dropout(relu(W1 norm(x))): the residual block of Gorishniy et al. (2021), with a norm that knows no batch.

    A row's score then depends on no other row.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.narrow = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.narrow(self.dropout(torch.relu(self.widen(self.norm(x)))))
        return x + inner  # type: ignore[no-any-return]


class Network(nn.Module):
    """Raw vectors to a raw logit; `logits` and `scores` are what it means.

    `shift` takes back what class weights added to the logit: trained with positives counting w times, a network says
    w times the odds (Elkan, 2001). `temperature` divides it (Guo et al., 2017).
    """

    shift: Tensor
    temperature: Tensor

    def __init__(self, layout: Layout, shape: Shape) -> None:
        super().__init__()
        self.layout, self.shape = layout, shape
        self.encoder = Encoder(layout)
        seen = self.encoder.width
        self.memory = nn.GRU(seen + 1, shape.width) if shape.kind == "gru" else None
        self.stem = nn.Linear(seen + (shape.width if self.memory else 0), shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, shape.dropout) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, 1)
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the raw logits (rows) of (rows, vectors x columns)."""
        seen = self.encoder(rows) if self.memory is None else self._remember(rows, self.memory)
        x = self.stem(seen)
        for block in self.blocks:
            x = block(x)
        raw: Tensor = self.head(torch.relu(self.norm(x)))
        return raw.squeeze(-1)

    def _remember(self, rows: Tensor, memory: nn.GRU) -> Tensor:
        """Return the newest vector's code beside what the GRU says of them all; what is not there is zeros."""
        vectors = rows.reshape(-1, self.shape.steps, self.layout.width)
        there = ~torch.isnan(vectors[..., :1])
        codes = self.encoder(torch.where(there, vectors, 0.0))
        marked = torch.cat([codes, torch.ones_like(codes[..., :1])], dim=-1) * there
        _, last = memory(marked.transpose(0, 1))
        return torch.cat([codes[:, -1], last[-1].to(codes.dtype)], dim=-1)

    def logits(self, rows: Tensor) -> Tensor:
        """Return the logits before temperature."""
        raw: Tensor = self(rows)
        return raw.float() - self.shift

    def scores(self, rows: Tensor) -> Tensor:
        """Return the probabilities of true (rows)."""
        return torch.sigmoid(self.logits(rows) / self.temperature)


def scores(network: Network, rows: Floats) -> Floats:
    """Return the probabilities that the network gives, as it is used: no dropout, no gradients."""
    network.eval()
    with torch.no_grad():
        found: Floats = network.scores(torch.tensor(rows)).numpy()
    return found


def history(entities: Ints, steps: int) -> Ints:
    """Return for each row which rows are its entity's last `steps` (rows, steps), oldest first, itself the last.

    Rows are in order of time. Where there is no such past it says `len(entities)`, a row past the end.
    """
    rows = len(entities)
    order = np.argsort(entities, kind="stable")
    sorted_entities = entities[order]
    found = np.full((rows, steps), rows, np.int64)
    for back in range(min(steps, rows)):
        same = sorted_entities[: rows - back] == sorted_entities[back:]
        found[order[back:][same], steps - 1 - back] = order[: rows - back][same]
    return found


def side_by_side(vectors: Floats, places: Ints) -> Floats:
    """Return a "gru" network's input (rows, steps x columns): the vectors at these places, NaN past the end."""
    absent = np.full((1, vectors.shape[1]), np.nan, np.float32)
    return np.concatenate([vectors, absent])[places].reshape(len(places), -1)
