"""The recorded versions of the online model: their signed artifacts, or else the fold of the first N examples again."""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from services.learner.core import LearnerCore
from services.runtime.artifacts import Artifacts
from services.runtime.errors import Stop
from services.runtime.models import ONLINE
from services.runtime.records import Record
from services.runtime.river_score import Classifier, score
from services.runtime.schemas import examples_frame
from services.runtime.stream import Stream

KEPT = 8  # versions in memory


class Versions:
    """Scores with any version. `examples` reads the topic from its beginning; `data` may lack any artifact."""

    def __init__(self, stream: Stream, artifacts: Artifacts, examples: Callable[[], Iterator[list[Record]]]) -> None:
        self._artifacts = artifacts
        self._learning = _Learning(stream, examples)
        self._kept: OrderedDict[int, Classifier] = OrderedDict()
        self._impossible: dict[int, str] = {}
        self.used: set[int] = set()
        self.refolded: dict[int, str] = {}  # version: why its artifact was not used

    def score(self, name: str, vector: dict[str, float]) -> float:
        """Score with `online@N`; Stop if there is no such version, nor examples enough to make it."""
        return score(self.model(version_number(name)), vector)

    def model(self, version: int) -> Classifier:
        if version not in self._kept:
            self._kept[version] = self._load(version)
            self.used.add(version)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[version]

    def _load(self, version: int) -> Classifier:
        try:
            payload = self._artifacts.read(ONLINE, version)
        except Stop as error:
            payload = self._make(version)
            self.refolded[version] = str(error)
        model: Classifier = pickle.loads(payload)  # noqa: S301 - its signature was checked, or it was made here
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


def version_number(name: str) -> int:
    """Return the N of `online@N`; Stop for another model."""
    model, _, number = name.partition("@")
    if model != ONLINE or not number.isdecimal():
        raise Stop(f"{name!r} can't be scored with: expected {ONLINE}@N, N being how many examples it learned")
    return int(number)


class _Learning:
    """The learner's fold, stopped after any number of examples; it goes on from there, or begins again."""

    def __init__(self, stream: Stream, examples: Callable[[], Iterator[list[Record]]]) -> None:
        self._stream, self._examples = stream, examples
        self._frame = examples_frame(stream)
        self.begin()

    def begin(self) -> None:
        self._core = LearnerCore(self._stream)
        self._batches = (self._frame.decode(record) for records in self._examples() for record in records)
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
