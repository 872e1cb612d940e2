"""Examples become a better model. Pure: a version is a function of the examples before it, and of nothing else."""

import math
import pickle
from collections.abc import Sequence

from services.learner.model import build_model
from services.runtime.frames import rows
from services.runtime.records import Outgoing, Record
from services.runtime.river_score import score
from services.runtime.schemas import examples_frame
from services.runtime.stream import Stream

SMALLEST = 1e-15  # a probability of 0 would make one mistake cost without end


class LearnerCore:
    """Folds `examples`, each predicted before it is learned. `learned`, their number, is the model's version."""

    def __init__(self, stream: Stream) -> None:
        self._columns = stream.columns
        self._frame = examples_frame(stream)
        self._model = build_model(stream.pipeline.online.model)
        self.learned = 0
        self._loss = 0.0

    @property
    def log_loss(self) -> float | None:
        """The mean log loss of predicting each example before learning it, in nats; None before the first."""
        return self._loss / self.learned if self.learned else None

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        for record in records:
            batch = self._frame.decode(record)
            vectors = rows(batch.column("features")).tolist()
            for vector, label in zip(vectors, batch.column("label").to_pylist(), strict=True):
                self._learn(dict(zip(self._columns, vector, strict=True)), label=label > 0)
        return []

    def _learn(self, vector: dict[str, float], *, label: bool) -> None:
        probability = score(self._model, vector)
        self._loss -= math.log(max(probability if label else 1 - probability, SMALLEST))
        self._model.learn_one(vector, label)
        self.learned += 1

    def artifact(self) -> bytes:
        """Return the model as it is now, pickled; it leaves this process sealed."""
        return _canonical(self._model)

    def snapshot(self) -> bytes:
        return _canonical((self._model, self.learned, self._loss))

    def restore(self, state: bytes) -> None:
        """Load a state that came out of a sealed snapshot; nothing else may be passed here."""
        self._model, self.learned, self._loss = pickle.loads(state)  # noqa: S301 - its signature was checked


def _canonical(state: object) -> bytes:
    """Pickle it to bytes that don't tell whether it was ever restored: what is shared by chance is parted first."""
    return pickle.dumps(pickle.loads(pickle.dumps(state, protocol=5)), protocol=5)  # noqa: S301 - our own bytes
