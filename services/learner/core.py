"""Examples become a better model. Pure: a version is a function of the examples before it, and of nothing else."""

import pickle
from collections.abc import Sequence

from services.learner.model import build_model
from services.learner.renewal import Renewal
from services.runtime.errors import Stop, Unusable
from services.runtime.frames import rows
from services.runtime.quality import log_loss
from services.runtime.records import Outgoing, Record
from services.runtime.river_score import score
from services.runtime.schemas import examples_frame, labelled
from services.runtime.stream import Stream
from services.runtime.unpickling import load


class LearnerCore:
    """Folds `examples`, each predicted before it is learned. `learned`, their number, is the model's version.

    A correction is learned as well, on top of what it corrects: River's classifiers can't unlearn. It is counted in
    `unretractable`, and not in the loss, as the model has seen that row. Where the world turns the model is begun anew
    (`renewal.py`).
    """

    def __init__(self, stream: Stream) -> None:
        self._columns = stream.columns
        self._frame = examples_frame(stream)
        self._rule = stream.pipeline.online
        self._model = build_model(self._rule.model)
        self._renewal = Renewal(lambda: build_model(self._rule.model))
        self.learned = self.unretractable = 0
        self._loss = 0.0

    @property
    def log_loss(self) -> float | None:
        """The mean log loss of predicting each row before learning it, in nats; None before the first."""
        first = self.learned - self.unretractable
        return self._loss / first if first else None

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        for record in records:
            batch = labelled(self._frame.decode(record))
            vectors = rows(batch.column("features")).tolist()
            labels, retracts = batch.column("label").to_pylist(), batch.column("retracts").to_pylist()
            for vector, label, retracted in zip(vectors, labels, retracts, strict=True):
                self._learn(dict(zip(self._columns, vector, strict=True)), label > 0, retracted)
        return []

    def _learn(self, vector: dict[str, float], label: bool, retracted: float | None) -> None:  # noqa: FBT001 - the label
        loss = log_loss(score(self._model, vector), label) if retracted is None else None
        self._model.learn_one(vector, label)
        self.learned += 1
        if loss is None:
            self.unretractable += 1
            return
        self._loss += loss
        if self._rule.renew:
            self._model = self._renewal.after(self._model, vector, label, loss)

    @property
    def renewed(self) -> int:
        """How often the model was begun anew."""
        return self._renewal.count

    def artifact(self) -> bytes:
        """Return the model as it is now, pickled; it leaves this process sealed."""
        return _canonical(self._model)

    def snapshot(self) -> bytes:
        return _canonical((self._model, self.learned, self.unretractable, self._loss, self._renewal.state()))

    def restore(self, state: bytes) -> None:
        """Load a state that came out of a sealed snapshot; raise Unusable for one that is no state of a learner."""
        try:
            self._model, self.learned, self.unretractable, self._loss, renewal = load(state)
            self._renewal.load(renewal, self._columns)
        except (Stop, TypeError, ValueError) as error:
            raise Unusable(f"is no state of a learner: {error}") from error


def _canonical(state: object) -> bytes:
    """Pickle it to bytes that don't tell whether it was ever restored: what is shared by chance is parted first."""
    return pickle.dumps(load(pickle.dumps(state, protocol=5)), protocol=5)
