"""The learner: it predicts before it learns, and its versions are functions of the examples alone."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from river import linear_model, optim, preprocessing

from services.learner.core import LearnerCore
from services.learner.model import build_model
from services.runtime.clip import Clip
from services.runtime.errors import ConfigError, Stop
from services.runtime.grammar import OnlineRule
from services.runtime.records import Record
from services.runtime.river_score import score
from services.runtime.schemas import scored_frame
from tests.lessons import (
    EXAMPLES,
    LABELS,
    MODEL,
    PIPELINE,
    STREAM,
    VECTORS,
    by_hand,
    named,
    record,
    scores,
    unknown,
    whole,
)

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


def test_a_correction_is_learned_and_counted_and_costs_no_loss() -> None:
    """The model moves as by any example; the loss is that of the rows, each predicted before it was ever learned."""
    core, model = whole(), by_hand()
    loss = core.log_loss
    core.fold([record(slice(10), 1, corrects=True)])
    assert (core.learned, core.unretractable, core.log_loss) == (EXAMPLES + 10, 10, loss)
    for vector, label in zip(map(named, VECTORS), LABELS, strict=True):
        model.learn_one(vector, label)
    for vector, label in zip(map(named, VECTORS[:10]), LABELS[:10], strict=True):
        model.learn_one(vector, not label)
    assert scores(core.artifact()) == [model.predict_proba_one(named(vector))[True] for vector in VECTORS]
    heir = LearnerCore(STREAM)
    heir.restore(core.snapshot())
    assert (heir.learned, heir.unretractable, heir.log_loss) == (core.learned, 10, loss)


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


def test_clip_bounds_what_a_scaler_makes() -> None:
    """Beyond three deviations, or as many as are said, a number counts as that many; others are as they were."""
    scaled = {"low": -1e9, "at": 3.0, "between": 0.25, "high": 17.0}
    assert Clip().transform_one(scaled) == {"low": -3.0, "at": 3.0, "between": 0.25, "high": 3.0}
    assert Clip(0.125).transform_one({"x": 1.0, "y": -1.0}) == {"x": 0.125, "y": -0.125}


def test_a_column_that_begins_to_vary_does_not_make_a_young_model_sure() -> None:
    """A hundred examples of one day, then the next day: without the clip the model would be sure of it."""
    surest = {}
    for name, steps in (("clipped", ["thalweg.Clip"]), ("not", [])):
        model = build_model(["preprocessing.StandardScaler", *steps, "linear_model.LogisticRegression"])
        for n in range(100):
            model.learn_one({"day": 0.25 + n * 1e-4, "x": float(n % 7)}, n % 5 == 0)
        surest[name] = max(abs(score(model, {"day": 0.9, "x": float(x)}) - 0.5) for x in range(7))
    assert surest["clipped"] < 0.4
    assert surest["not"] > 0.49


def test_nothing_is_learned_of_what_is_unknown() -> None:
    """A row without a label teaches nothing, counts nothing, and does not move the version's number."""
    some, none = LearnerCore(STREAM), LearnerCore(STREAM)
    some.fold([unknown(record(slice(0, 40)))])
    none.fold([record(slice(n, n + 1)) for n in range(1, 40, 2)])
    assert some.learned == none.learned == 20
    assert some.snapshot() == none.snapshot()
