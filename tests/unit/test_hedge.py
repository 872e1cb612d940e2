"""The mix: never worse than the best model, or the best sequence of models, by more than its bound."""

import math
from collections.abc import Sequence
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.inference.mix import Beside, Mix, Scores
from services.rollout.hedge import SMALLEST, Hedge

MODELS = "abc"
PROBABILITY = st.sampled_from([0.0, 1.0, 0.5, 0.01, 0.99]) | st.floats(0, 1)
ROWS = st.lists(st.tuples(st.lists(PROBABILITY, min_size=3, max_size=3), st.booleans()), min_size=1, max_size=40)
PARAMETERS = st.tuples(
    st.sampled_from([0.0, 1e-4, 0.01, 0.2, 1 / 3, 0.9]),
    st.sampled_from([1.0, 2.0, 50.0, 5000.0, math.inf]),
    st.sampled_from([1.0, 0.5, 0.02]),
)
Parameters = tuple[float, float, float]
Rows = Sequence[tuple[list[float], bool]]


def losses(rows: Rows, hedge: Hedge) -> tuple[list[float], list[list[float]]]:
    """Return what the mix loses at each example, with the weights before it, and what each model loses."""
    served = []
    for probabilities, label in rows:
        given = np.clip(probabilities, SMALLEST, 1 - SMALLEST).tolist()
        answer = sum(weight * one for weight, one in zip(hedge.weights.values(), given, strict=True))
        served.append(-math.log(answer if label else 1 - answer))
        hedge.fold([probabilities], [label])
    own = [[-math.log(min(max(p if y else 1 - p, SMALLEST), 1 - SMALLEST)) for p in row] for row, y in rows]
    return served, own


def courses(models: int, length: int, changes: int) -> list[list[int]]:
    """Return every sequence of models with so many changes."""
    found = []
    for cuts in combinations(range(1, length), changes):
        ends = [*cuts, length]
        for chosen in product(range(models), repeat=changes + 1):
            if all(a != b for a, b in pairwise(chosen)):
                spans = zip(chosen, [0, *cuts], ends, strict=True)
                found.append([model for model, start, end in spans for _ in range(start, end)])
    return found


def best(own: list[list[float]], changes: int) -> float:
    return min(
        sum(row[model] for row, model in zip(own, course, strict=True))
        for course in courses(len(own[0]), len(own), changes)
    )


@given(ROWS, PARAMETERS)
@example([([1.0, 0.0, 0.5], True)] * 20 + [([1.0, 0.0, 0.5], False)] * 20, (0.0, math.inf, 1.0))
@example([([1.0, 0.0, 0.5], True)] * 20 + [([1.0, 0.0, 0.5], False)] * 20, (0.01, 50.0, 0.5))
def test_the_mix_is_never_worse_than_the_best_model_by_more_than_its_bound(
    rows: Rows, parameters: tuple[float, float]
) -> None:
    """Whatever models say and whatever comes true."""
    hedge = Hedge(MODELS, *parameters)
    served, own = losses(rows, hedge)
    assert sum(served) <= best(own, 0) + hedge.bound(len(rows)) + 1e-9


@given(st.integers(1, 2), ROWS.filter(lambda rows: 4 <= len(rows) <= 9), PARAMETERS)
@example(1, [([1.0, 0.0, 0.5], True)] * 8 + [([1.0, 0.0, 0.5], False)] * 8, (0.01, math.inf, 1.0))
@example(1, [([1.0, 0.0, 0.0], True)] * 8 + [([1.0, 0.0, 0.0], False)] * 8, (1e-4, 50.0, 1.0))
def test_nor_than_the_best_sequence_of_models(changes: int, rows: Rows, parameters: Parameters) -> None:
    """With a floor the mix follows changes, at the price of log(1 / floor) for each (fixed share)."""
    hedge = Hedge(MODELS, *parameters)
    served, own = losses(rows, hedge)
    assert sum(served) <= best(own, changes) + hedge.bound(len(rows), changes) + 1e-9


def test_the_plain_bound_is_tight() -> None:
    """Where one model is right at once and for ever, the mix loses almost ln N more, and no more."""
    hedge = Hedge(MODELS, 0, math.inf)
    served, own = losses([([1.0, 0.0, 0.0], True)] * 50, hedge)
    assert hedge.bound(50) == pytest.approx(math.log(3))
    assert sum(served) - best(own, 0) == pytest.approx(math.log(3), abs=1e-3)


def test_the_bound_of_the_parameters() -> None:
    """It is ln N; then ln N / window and the floor for each example that stays, and log(1 / floor) for each change."""
    assert Hedge("ab", 0, 2000).bound(100_001) == pytest.approx(math.log(2) * (1 + 100_000 / 2000))
    assert Hedge("ab", 0.001, math.inf).bound(1001) == pytest.approx(math.log(2) - 1000 * math.log(0.999))
    assert Hedge("abc", 0.01, math.inf).bound(1001) == pytest.approx(math.log(3) - 1000 * math.log(0.98))
    change = Hedge("ab", 0.001, math.inf).bound(1001, 1) - Hedge("ab", 0.001, math.inf).bound(1000)
    assert change == pytest.approx(math.log(1000))
    assert Hedge("a", 0.1, 10).bound(1000) == 0
    assert Hedge("ab", 0.001, 2000, 0.02).bound(1000) == pytest.approx(50 * Hedge("ab", 0.001, 2000).bound(1000))


def test_two_models_by_hand() -> None:
    """A weight is multiplied by what its model gave to what came true."""
    hedge = Hedge("ab", 0, math.inf)
    hedge.fold([[0.8, 0.4]], [1])
    assert hedge.weights == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    hedge.fold([[0.8, 0.4]], [0])
    assert hedge.weights == pytest.approx({"a": 0.4, "b": 0.6})


def test_a_rate_by_hand() -> None:
    """It is multiplied by the rate-th power of that."""
    hedge = Hedge("ab", 0, math.inf, 0.5)
    hedge.fold([[0.64, 0.16]], [1])
    assert hedge.weights == pytest.approx({"a": 2 / 3, "b": 1 / 3})


def test_a_low_rate_bears_delay() -> None:
    """Two models about as good, whose luck turns every 300 examples, and labels 300 late: 1 is worse than either."""
    draw = np.random.default_rng(0)
    labels = draw.random(6000) < 0.5
    good, poor = (np.where(labels, p, 1 - p) for p in (0.8, 0.6))
    turn = (np.arange(6000) // 300) % 2 == 0
    models = np.column_stack([np.where(turn, good, poor), np.where(turn, poor, good)])
    lost = {}
    for rate in (1.0, 0.02):
        hedge, weights = Hedge("ab", 0.001, 2000, rate), []
        for row, label in zip(models, labels, strict=True):
            weights.append(hedge.weights["a"])
            hedge.fold([row], [label])
        old = np.array([0.5] * 300 + weights[:-300])
        served = old * models[:, 0] + (1 - old) * models[:, 1]
        lost[rate] = -np.log(np.where(labels, served, 1 - served)).mean()
    single = -np.log(np.where(labels, models[:, 0], 1 - models[:, 0])).mean()
    assert lost[1.0] > single + 0.05
    assert lost[0.02] < single


def test_floor_and_window_by_hand() -> None:
    """After the losses the old weights fade (a power, with a window), then each gets the floor of the whole."""
    faded, floored = Hedge("ab", 0, 4), Hedge("ab", 0.1, math.inf)
    for hedge in (faded, floored):
        hedge.fold([[0.8, 0.4]], [1])
    assert faded.weights["a"] / faded.weights["b"] == pytest.approx(2**0.75)
    assert floored.weights == pytest.approx({"a": 0.1 + 0.8 * 2 / 3, "b": 0.1 + 0.8 / 3})


@given(ROWS, PARAMETERS)
def test_weights_are_shares_above_the_floor(rows: Rows, parameters: Parameters) -> None:
    """They are 1 in all, and none is below the floor, or below 1/N where the floor is more than that."""
    hedge = Hedge(MODELS, *parameters)
    hedge.fold([row for row, _ in rows], [label for _, label in rows])
    assert sum(hedge.weights.values()) == pytest.approx(1)
    assert min(hedge.weights.values()) >= min(parameters[0], 1 / 3) - 1e-15
    assert min(hedge.weights.values()) > 0


def test_a_window_forgets() -> None:
    """After a change the mix comes round within a few windows; without a window or floor it doesn't."""
    before, after = [([0.9, 0.1], True)] * 2000, [([0.9, 0.1], False)] * 200
    weights = {}
    for window in (50, math.inf):
        hedge = Hedge("ab", 0, window)
        losses(before + after, hedge)
        weights[window] = hedge.weights["b"]
    assert weights[50] > 0.99
    assert weights[math.inf] < 0.01


@given(ROWS, PARAMETERS)
def test_what_inference_serves_keeps_the_bound(rows: Rows, parameters: Parameters) -> None:
    """The online model and a version beside it, mixed as they are served: never worse than either by more than that."""
    hedge, served = Hedge(["online", "batch"], *parameters), 0.0
    pairs = [(np.clip(row[:2], SMALLEST, 1 - SMALLEST), label) for row, label in rows]
    for (online, batch), label in pairs:
        beside = Beside(1, "champion", 0.5, np.array([batch]), np.array([hedge.weights["batch"]]))
        answer = Mix(Scores(1, np.array([online])), [beside]).served[0]
        served -= math.log(answer if label else 1 - answer)
        hedge.fold([[online, batch]], [label])
    own = [[-math.log(p if label else 1 - p) for p in pair] for pair, label in pairs]
    assert served <= best(own, 0) + hedge.bound(len(rows)) + 1e-6


@pytest.mark.parametrize(("probabilities", "labels"), [([[0.5]], [1]), ([[0.5, 0.5, 0.5]], [1])])
def test_a_column_for_each_model(probabilities: Any, labels: Any) -> None:
    """Answers of more or fewer models than are live are refused."""
    with pytest.raises(ValueError, match=r"zip\(\)"):
        Hedge("ab", 0, math.inf).fold(probabilities, labels)
