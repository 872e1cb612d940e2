"""Two models on the same labelled rows of `examples`: what each lost, and how sure it is which of them is better."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.rollout.comparison import Comparison
from services.rollout.evidence import log_losses
from services.rollout.reading import Message, Reader
from services.runtime.models import BATCH
from services.runtime.records import Record
from services.runtime.schemas import examples_frame
from services.runtime.stream import Stream

Losses = NDArray[np.float64]


class Part(msgspec.Struct, frozen=True):
    """What was lost over so many examples, in nats an example: by the first model, the second, the online one, served.

    Probabilities count as no nearer to 0 or 1 than 0.01, as where rollout decides.
    """

    examples: int
    first: float
    second: float
    online: float
    served: float


class Duel:
    """The fold of `examples` for two models; None is the online one. A row counts that both answered.

    `comparison` is of the first against the second, and what it shows holds at any time that one looks.
    """

    def __init__(self, stream: Stream, first: int | None, second: int | None) -> None:
        self._frame, self._reader = examples_frame(stream), Reader(stream)
        self._first, self._second = first, second
        self.comparison = Comparison(stream.pipeline.rollout, second)
        self._losses = np.zeros(4)
        self._slices: dict[tuple[str, str], tuple[int, Losses]] = {}

    def fold(self, records: Iterable[Record]) -> None:
        for record in records:
            message = self._reader.read(self._frame.decode(record))
            scores = [_scores(message, self._first), _scores(message, self._second), message.online, message.served]
            both = ~np.isnan(np.column_stack(scores)).any(axis=1)
            losses = np.column_stack([log_losses(values, message.labels)[both] for values in scores])
            values = {name: np.array(found, object)[both].tolist() for name, found in message.values.items()}
            self._count(losses, values, _canary(message, self._first)[both])

    def _count(self, losses: Losses, values: Mapping[str, Sequence[str]], canary: NDArray[np.bool_]) -> None:
        self._losses += losses.sum(axis=0)
        self.comparison.fold(losses[:, 1] - losses[:, 0], values, canary)
        for field, found in values.items():
            for value in sorted(set(found)):
                mine = losses[np.array(found) == value]
                count, sums = self._slices.get((field, value), (0, np.zeros(4)))
                self._slices[field, value] = count + len(mine), sums + mine.sum(axis=0)

    def whole(self) -> Part:
        return _part(self.comparison.better.examples, self._losses)

    def slices(self) -> dict[tuple[str, str], Part]:
        """Return the same for each value of each feature in `[rollout] slices`."""
        return {where: _part(*found) for where, found in sorted(self._slices.items())}


def model_name(model: int | None) -> str:
    return "online" if model is None else f"{BATCH}@{model}"


def _part(examples: int, sums: Losses) -> Part:
    return Part(examples, *(sums / max(examples, 1)).tolist())


def _scores(message: Message, model: int | None) -> Losses:
    if model is None:
        return message.online
    said = message.said.get(model)
    return np.full(len(message.labels), np.nan) if said is None else said.scores


def _canary(message: Message, model: int | None) -> NDArray[np.bool_]:
    said = None if model is None else message.said.get(model)
    return np.zeros(len(message.labels), np.bool_) if said is None else said.canary
