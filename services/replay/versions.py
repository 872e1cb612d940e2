"""The recorded versions of the models, to score with again: their signed artifacts.

A version of the online model whose artifact is gone is made again, by the fold of the first N examples; one of the
batch model is not, as a training is no fold.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from services.learner.core import LearnerCore
from services.runtime import graphs
from services.runtime.artifacts import Artifacts
from services.runtime.errors import Stop
from services.runtime.models import BATCH, ONLINE
from services.runtime.onnx_session import InferenceSession, open_session
from services.runtime.records import Record
from services.runtime.river_score import Classifier, score
from services.runtime.schemas import examples_frame, labelled
from services.runtime.stream import Stream
from services.runtime.unpickling import load

KEPT = 8  # versions in memory


class Versions:
    """Scores with any version. `examples` reads the topic from its beginning; `data` may lack any artifact."""

    def __init__(self, stream: Stream, artifacts: Artifacts, examples: Callable[[], Iterator[list[Record]]]) -> None:
        self._artifacts = artifacts
        self._learning = _Learning(stream, examples)
        self._kept: OrderedDict[int, Classifier] = OrderedDict()
        self._networks: dict[int, InferenceSession] = {}
        self._impossible: dict[int, str] = {}
        self.used: set[str] = set()
        self.refolded: dict[int, str] = {}  # version: why its artifact was not used

    def score(self, name: str, vector: dict[str, float]) -> float:
        """Score with `online@N` or `batch@N`; Stop if there is no such version and it can't be made."""
        model, version = version_name(name)
        self.used.add(name)
        if model == BATCH:
            return self._network_score(version, vector)
        return score(self.model(version), vector)

    def _network_score(self, version: int, vector: dict[str, float]) -> float:
        if version not in self._networks:
            graph = self._artifacts.read(BATCH, version)
            graphs.check(graph)
            self._networks[version] = open_session(graph)
        row = np.array([[*vector.values()]], np.float32)
        (found,) = self._networks[version].run(["SCORE"], {"FEATURES": row})
        return float(found[0])

    def model(self, version: int) -> Classifier:
        if version not in self._kept:
            self._kept[version] = self._load(version)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[version]

    def _load(self, version: int) -> Classifier:
        try:
            model: Classifier = load(self._artifacts.read(ONLINE, version))
        except Stop as error:
            model = load(self._make(version))
            self.refolded[version] = str(error)
        return model

    def _make(self, version: int) -> bytes:
        """Fold examples up to the version; what was impossible once is not tried again."""
        if version in self._impossible:
            raise Stop(self._impossible[version])
        try:
            return self._learning.upto(version)
        except Stop as error:
            self._impossible[version] = str(error)
            self._learning.begin()
            raise


def version_name(name: str) -> tuple[str, int]:
    """Return the model and the N of `online@N` or `batch@N`; Stop for another model."""
    model, _, number = name.partition("@")
    if model not in (ONLINE, BATCH) or not number.isdecimal():
        raise Stop(
            f"{name!r} can't be scored with: expected {ONLINE}@N, N being how many examples it learned, or {BATCH}@N"
        )
    return model, int(number)


def version_number(name: str) -> int:
    """Return the N of `online@N`; Stop for another model."""
    model, number = version_name(name)
    if model != ONLINE:
        raise Stop(f"{name!r} is no version of the online model: expected {ONLINE}@N")
    return number


class _Learning:
    """The learner's fold, stopped after any number of examples; it goes on from there, or begins again."""

    def __init__(self, stream: Stream, examples: Callable[[], Iterator[list[Record]]]) -> None:
        self._stream, self._examples = stream, examples
        self._frame = examples_frame(stream)
        self.begin()

    def begin(self) -> None:
        self._core = LearnerCore(self._stream)
        self._batches = (labelled(self._frame.decode(record)) for records in self._examples() for record in records)
        self._rest: pa.RecordBatch | None = None

    def upto(self, version: int) -> bytes:
        """Return the artifact of a version."""
        if self._core.learned > version:
            self.begin()
        while self._core.learned < version:
            self._learn(version)
        return self._core.artifact()

    def _learn(self, version: int) -> None:
        batch = self._rest if self._rest is not None else next(self._batches, None)
        if batch is None:
            raise Stop(
                f"{ONLINE}@{version} has no artifact and can't be made again: `{self._stream.topic('examples')}` holds"
                f" {self._core.learned} examples. Score on the machine that has the run's data folder (--run-dir)"
            )
        wanted = version - self._core.learned
        self._core.fold(self._records(batch.slice(0, wanted)))
        self._rest = batch.slice(wanted) if batch.num_rows > wanted else None

    def _records(self, batch: pa.RecordBatch) -> Sequence[Record]:
        value = self._frame.encode(batch.columns)
        return [Record(self._stream.topic("examples"), 0, 0, None, value, 0, self._frame.headers)]
