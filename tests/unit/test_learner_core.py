"""The learner: it predicts before it learns, its versions are functions of the examples alone, and when they go out."""

import errno
import math
import os
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from river import compose, linear_model, optim, preprocessing

from services.learner.core import LearnerCore
from services.learner.model import build_model
from services.learner.publishing import Publishing
from services.runtime.artifacts import Artifacts
from services.runtime.errors import ConfigError, Retry, Stop
from services.runtime.frames import matrix, times
from services.runtime.grammar import Duration, LabelRule, OnlineRule, Pipeline, StreamRule, Value
from services.runtime.models import Published
from services.runtime.records import Record
from services.runtime.river_score import score
from services.runtime.schemas import SCORE, examples_frame, scored_frame
from services.runtime.signing import make_keys
from services.runtime.stream import Stream
from services.runtime.waiting import Wait

COLUMNS = ("x", "y", "z")
MODEL: list[Any] = [
    "preprocessing.StandardScaler",
    {"linear_model.LogisticRegression": {"optimizer": {"optim.AdaGrad": {"lr": 0.2}}}},
]
PIPELINE = Pipeline(
    StreamRule("binary", "key", "at", "id"),
    {name: Value(of=name) for name in COLUMNS},
    LabelRule("late", "at", Duration("1h")),
    OnlineRule(MODEL, Duration("5s")),
)
STREAM = Stream("made", {"properties": {}}, {"properties": {}}, PIPELINE, COLUMNS, "made:0")
FRAME = examples_frame(STREAM)
EXAMPLES = 300


def by_hand() -> Any:
    """Return the same model, put together without us."""
    return compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(optim.AdaGrad(lr=0.2)))


def drawn() -> tuple[NDArray[np.float32], list[bool]]:
    """Return examples that have something to learn."""
    rng = np.random.default_rng(1)
    vectors = (rng.standard_normal((EXAMPLES, 3)) * [1, 50, 1e-3] + [0, 400, 0]).astype(np.float32)
    return vectors, ((vectors[:, 1] - 400) / 50 + rng.standard_normal(EXAMPLES) / 2 > 0).tolist()


VECTORS, LABELS = drawn()


def record(rows: slice, number: int = 0) -> Record:
    """Return a record of `examples` that holds these."""
    vectors, labels = VECTORS[rows], LABELS[rows]
    n, epoch = len(vectors), times(np.zeros(len(vectors), np.int64))
    columns = [
        pa.array([f"e{place}" for place in range(n)]),
        pa.array(["k"] * n),
        epoch,
        pa.array(range(n), pa.int64()),
        matrix(vectors),
        pa.array([0.5] * n),
        pa.array([{"version": 0, "score": 0.5, "weight": 1.0}] * n, SCORE),
        pa.array([0] * n, pa.int32()),
        pa.array([float(label) for label in labels]),
        epoch,
        pa.array(["label"] * n),
    ]
    return Record("made.examples", 0, number, None, FRAME.encode(columns), headers=FRAME.headers)


def named(vector: NDArray[np.float32]) -> dict[str, float]:
    return dict(zip(COLUMNS, vector.tolist(), strict=True))


def scores(artifact: bytes) -> list[float]:
    """Return what an artifact says of every example."""
    model = pickle.loads(artifact)  # noqa: S301 - made by this test
    return [score(model, named(vector)) for vector in VECTORS]


def whole() -> LearnerCore:
    core = LearnerCore(STREAM)
    core.fold([record(slice(None))])
    return core


# The fold


def test_it_predicts_before_it_learns() -> None:
    """The log loss is that of a model driven by hand, bit for bit; learning first would have made it smaller."""
    model, cheat = by_hand(), by_hand()
    loss = cheated = 0.0
    for vector, label in zip(map(named, VECTORS), LABELS, strict=True):
        p = model.predict_proba_one(vector)[True]
        loss -= math.log(p if label else 1 - p)
        model.learn_one(vector, label)
        cheat.learn_one(vector, label)
        q = cheat.predict_proba_one(vector)[True]
        cheated -= math.log(q if label else 1 - q)
    core = whole()
    assert core.log_loss == loss / EXAMPLES
    assert cheated < 0.95 * loss, "these examples can't tell the two apart"
    assert scores(core.artifact()) == [model.predict_proba_one(named(vector))[True] for vector in VECTORS]


def test_a_version_is_the_number_of_examples_that_it_learned() -> None:
    """It counts examples, not records; before the first there is no loss and the model says 1/2."""
    core = LearnerCore(STREAM)
    assert (core.learned, core.log_loss) == (0, None)
    assert scores(core.artifact()) == [0.5] * EXAMPLES
    assert core.fold([record(slice(7)), record(slice(7, 10), 1)]) == []
    assert core.learned == 10
    core.fold([record(slice(10, 10), 2)])
    assert core.learned == 10


@pytest.mark.parametrize("ends", [[1], [150], [299], [7, 8, 9, 200], list(range(1, EXAMPLES))])
@pytest.mark.parametrize("together", [True, False])
def test_cutting_anywhere_gives_the_same_version(ends: list[int], *, together: bool) -> None:
    """However the examples are cut into records and records into batches: the same artifact and the same loss."""
    starts = [0, *ends]
    log = [record(slice(a, b), n) for n, (a, b) in enumerate(zip(starts, [*ends, EXAMPLES], strict=True))]
    core, expected = LearnerCore(STREAM), whole()
    for batch in [log] if together else [[one] for one in log]:
        core.fold(batch)
    assert (core.learned, core.log_loss) == (expected.learned, expected.log_loss)
    assert core.artifact() == expected.artifact()


@pytest.mark.parametrize("at", [0, 1, 150, EXAMPLES])
def test_a_core_that_takes_over_goes_on_bit_for_bit(at: int) -> None:
    """A restart from a snapshot, at any version, gives the same scores and the same loss at the end."""
    core, heir, expected = LearnerCore(STREAM), LearnerCore(STREAM), whole()
    core.fold([record(slice(at))])
    heir.restore(core.snapshot())
    assert (heir.learned, heir.log_loss) == (core.learned, core.log_loss)
    assert scores(heir.artifact()) == scores(core.artifact())
    heir.fold([record(slice(at, None), 1)])
    assert (heir.learned, heir.log_loss) == (expected.learned, expected.log_loss)
    assert scores(heir.artifact()) == scores(expected.artifact())
    assert heir.artifact() == expected.artifact()
    assert heir.snapshot() == expected.snapshot()


@pytest.mark.parametrize(
    "model",
    [
        [],
        ["preprocessing.StandardScaler"],
        ["linear_model.LinearRegression"],
        [{"linear_model.LogisticRegression": {"l1": 1.0, "l2": 1.0}}],
    ],
)
def test_a_model_that_can_not_serve_is_refused(model: list[Any]) -> None:
    """What gives no probabilities, or what River refuses, is refused before the first example."""
    with pytest.raises(ConfigError, match=r"^online.model"):
        build_model(model)


def test_a_version_is_frozen_when_it_is_taken() -> None:
    """What is learned later does not reach into an artifact or a snapshot."""
    core = LearnerCore(STREAM)
    core.fold([record(slice(100))])
    artifact, state = core.artifact(), core.snapshot()
    was = scores(artifact)
    core.fold([record(slice(100, None), 1)])
    heir = LearnerCore(STREAM)
    heir.restore(state)
    assert scores(artifact) == scores(heir.artifact()) == was != scores(core.artifact())


def test_a_certain_mistake_costs_no_more_than_the_smallest_probability() -> None:
    """A model that is wrong with certainty loses -log(1e-15), not infinity."""
    pipeline = msgspec.structs.replace(PIPELINE, online=OnlineRule(["naive_bayes.GaussianNB"]))
    core = LearnerCore(msgspec.structs.replace(STREAM, pipeline=pipeline))
    true, false = LABELS.index(True), LABELS.index(False)
    core.fold([record(slice(true, true + 1)), record(slice(false, false + 1), 1)])
    assert core.log_loss == pytest.approx((-math.log(0.5) - math.log(1e-15)) / 2, rel=1e-3)


def test_examples_of_another_kind_stop_the_service() -> None:
    """A batch that was written for another schema is not learned from: Stop, and it names the place."""
    record_ = record(slice(3), 17)
    other = Record(record_.topic, 0, 17, None, record_.value, headers=scored_frame(STREAM).headers)
    with pytest.raises(Stop, match=r"made\.examples\[0\]@17"):
        LearnerCore(STREAM).fold([other])


# What `[online] model` may name


def test_a_pipeline_is_its_steps_with_their_parameters() -> None:
    """Each step is the class of River's that it names, with its parameters, and objects as parameters."""
    scaler, regression = build_model(MODEL).steps.values()
    assert type(scaler) is preprocessing.StandardScaler
    assert type(regression) is linear_model.LogisticRegression
    assert type(regression.optimizer) is optim.AdaGrad
    assert regression.optimizer.learning_rate == 0.2
    [plain] = build_model([{"linear_model.LogisticRegression": {"l2": 0.5, "intercept_lr": 0.1}}]).steps.values()
    assert (plain.l2, type(plain.optimizer)) == (0.5, optim.SGD)


REFUSED: dict[str, tuple[Any, str]] = {
    "an unknown class": ("linear_model.LogisticRegresion", r"River has no 'linear_model.LogisticRegresion'"),
    "an unknown module": ("linear.LogisticRegression", r"River has no 'linear.LogisticRegression'"),
    "no module": ("LogisticRegression", r"River has no 'LogisticRegression'"),
    "nothing": ("", r"River has no ''"),
    "a bad parameter": ({"linear_model.LogisticRegression": {"rate": 1}}, r"linear_model.LogisticRegression: .*'rate'"),
    "a bad parameter inside": (
        {"linear_model.LogisticRegression": {"optimizer": {"optim.AdaGrad": {"speed": 1}}}},
        r"optim.AdaGrad: .*'speed'",
    ),
    "an unknown class inside": (
        {"linear_model.LogisticRegression": {"optimizer": {"optim.Magic": {}}}},
        r"River has no 'optim.Magic'",
    ),
    "a base class": ("base.Classifier", r"base.Classifier: .*abstract"),
    "an attribute of a class": ("compose.Select.whitelist", r"River has no 'compose.Select.whitelist'"),
    "a module": ("linear_model.base", r"'linear_model.base' is not a model"),
    "a module that River imports": ("linear_model.importlib", r"'linear_model.importlib'"),
    "a module that a module of River's imports": ("datasets.base.os", r"'datasets.base.os' is not a model"),
    "a class of something outside": ({"stream.iter_csv.DictReader": {"f": []}}, r"'stream.iter_csv.DictReader' is not"),
    "a class that is no part of a model": ("utils.VectorDict", r"'utils.VectorDict' is not a model"),
    "a function": ("datasets.base.get_data_home", r"'datasets.base.get_data_home'"),
    "a function of River's": ("evaluate.progressive_val_score", r"'evaluate.progressive_val_score' is not a model"),
    "something outside": ("os.system", r"River has no 'os.system'"),
    "something outside, by dots": ("..os.system", r"River has no '..os.system'"),
    "two classes in a step": (
        {"preprocessing.StandardScaler": {}, "linear_model.Perceptron": {}},
        r"\['linear_model.Perceptron', 'preprocessing.StandardScaler'\]",
    ),
}


@pytest.mark.parametrize(("step", "message"), REFUSED.values(), ids=REFUSED)
def test_a_step_that_can_not_be_made_is_named(step: Any, message: str) -> None:
    """ConfigError, in `online.model`, says which name or parameter is wrong; only classes of River are ever called."""
    with pytest.raises(ConfigError, match=rf"^online\.model: .*{message}"):
        build_model(["preprocessing.StandardScaler", step])


# Publishing


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Stage:
    """The stage under test with its clock and its artifacts."""

    def __init__(self, data: Path) -> None:
        self.clock, self.artifacts = Clock(), Artifacts(data, "made")
        self.wait = Wait(self.clock)
        self.stage = Publishing(STREAM, self.artifacts, self.clock, self.wait)

    def published(self) -> list[Published]:
        """Return what is due, each held against where it goes and what it stands for."""
        found = []
        for out in self.stage.extra():
            record = msgspec.json.decode(out.value, type=Published)
            assert (out.topic, out.key, out.partition) == ("made.models", b"online", 0)
            assert record.version == record.learned
            self.artifacts.read("online", record.version)
            found.append(record)
        return found

    def versions(self) -> list[int]:
        return [record.version for record in self.published()]

    def learn(self, rows: slice) -> None:
        assert self.stage.fold({0: [record(rows)]}) == []


def test_the_first_version_goes_out_at_once(tmp_path: Path) -> None:
    """Version 0, of no examples, is published as soon as the partition is there, and can be read by its number."""
    stage = Stage(tmp_path)
    assert stage.versions() == []
    stage.stage.open(0, None)
    [first] = stage.published()
    assert first == Published("online", 0, "made:0", 0, None)
    assert scores(stage.artifacts.read("online", 0)) == [0.5] * EXAMPLES
    out = msgspec.json.decode(msgspec.json.encode(first))
    assert (out["event"], out["model"], out["version"]) == ("published", "online", 0)


def test_a_version_goes_out_when_it_is_due_and_new(tmp_path: Path) -> None:
    """Not before `snapshot_every` has passed since the last, and not if nothing was learned since."""
    stage = Stage(tmp_path)
    stage.stage.open(0, None)
    assert stage.versions() == [0]
    stage.learn(slice(10))
    stage.clock.sleep(4.9)
    assert stage.versions() == []
    stage.learn(slice(10, 30))
    stage.clock.sleep(0.2)
    [second] = stage.published()
    core = stage.stage.cores[0]
    assert second == Published("online", 30, "made:0", 30, core.log_loss)
    assert stage.artifacts.read("online", 30) == core.artifact()
    stage.clock.sleep(100)
    assert stage.versions() == []
    stage.learn(slice(30, 31))
    assert stage.versions() == []
    stage.clock.sleep(5)
    assert stage.versions() == [31]
    assert stage.versions() == []


def test_a_partition_that_comes_again_says_where_it_is(tmp_path: Path) -> None:
    """After a restart, or a transaction that failed, the version that then holds is published at once."""
    stage = Stage(tmp_path)
    stage.stage.open(0, None)
    assert stage.versions() == [0]
    stage.learn(slice(20))
    state = stage.stage.snapshot(0)
    assert state is not None
    stage.learn(slice(20, 40))
    stage.clock.sleep(5)
    assert stage.versions() == [40]
    stage.stage.open(0, state)
    assert stage.versions() == [20]
    stage.stage.open(0, state)
    assert stage.versions() == [20], "it may be that the transaction that published it failed"
    stage.stage.close(0)
    stage.clock.sleep(5)
    assert stage.versions() == []


def test_what_can_not_be_stored_is_not_published(tmp_path: Path) -> None:
    """Without a place for the artifact it learns on and says what it waits for; then the newest version goes out."""
    stage = Stage(tmp_path)
    folder = tmp_path / "artifacts" / "made"
    make_keys(tmp_path / "keys")
    folder.parent.mkdir()
    folder.write_bytes(b"where a folder should be")
    stage.stage.open(0, None)
    assert stage.versions() == []
    assert "model/made/online/0 can't be stored" in str(stage.wait.why)
    stage.learn(slice(10))
    stage.clock.sleep(5)
    assert stage.versions() == []
    assert "model/made/online/10 can't be stored" in str(stage.wait.why)
    assert stage.wait.since == stage.clock.time - 5
    folder.unlink()
    assert stage.versions() == []
    stage.clock.sleep(5)
    assert stage.versions() == [10]
    assert stage.wait.why is None


def test_an_artifact_that_did_not_fit_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of it before the disk was full is taken away again."""
    stage = Stage(tmp_path)
    write = Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        write(path, content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    make_keys(tmp_path / "keys")
    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(Retry, match=f"model/made/online/3 can't be stored in {tmp_path}.*: No space left on device"):
        stage.artifacts.write("online", 3, b"payload")
    assert list((tmp_path / "artifacts" / "made" / "online").iterdir()) == []


def test_a_wrong_model_is_refused_before_a_partition_is_taken(tmp_path: Path) -> None:
    """The stage can't be made with a model that can't be."""
    pipeline = msgspec.structs.replace(PIPELINE, online=OnlineRule(["linear_model.Nothing"]))
    stream = msgspec.structs.replace(STREAM, pipeline=pipeline)
    with pytest.raises(ConfigError, match=re.escape("linear_model.Nothing")):
        Publishing(stream, Artifacts(tmp_path, "made"), Clock(), Wait(Clock()))


def test_a_model_says_one_half_before_it_saw_a_label() -> None:
    """The one definition of a score: 1/2 of nothing, 0 where true was never seen, else the probability of true."""

    class Said:
        def __init__(self, said: dict[bool, float]) -> None:
            self._said = said

        def predict_proba_one(self, x: dict[str, float]) -> dict[bool, float]:
            assert x == {"x": 1.0}
            return self._said

    answers: Sequence[tuple[dict[bool, float], float]] = [
        ({}, 0.5),
        ({False: 1.0}, 0.0),
        ({True: 1.0}, 1.0),
        ({False: 0.75, True: 0.25}, 0.25),
    ]
    for said, expected in answers:
        assert score(Said(said), {"x": 1.0}) == expected
