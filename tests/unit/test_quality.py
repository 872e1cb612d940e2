"""The figures of quality against their definitions, by brute force."""

import math
from itertools import product

import numpy as np
import pytest

from infra.local.quality import SMALLEST, Quality, losses, quality, roc_auc


def area(p: list[float], y: list[bool]) -> float:
    """Compare every true one with every false one: above it counts 1, level with it 1/2."""
    pairs = list(product([a for a, t in zip(p, y, strict=True) if t], [b for b, t in zip(p, y, strict=True) if not t]))
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def loss(p: float, *, y: bool) -> float:
    return -math.log(max(p if y else 1 - p, SMALLEST))


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_against_the_definitions(levels: int) -> None:
    """Area, loss and accuracy are their definitions, with few ties and with many."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 60))
        p = (rng.integers(0, levels + 1, n) / levels).tolist()
        y = [True, False, *(rng.random(n - 2) < rng.random()).tolist()]
        found = quality(p, y)
        assert found.n == n
        assert found.roc_auc == pytest.approx(area(p, y), rel=1e-12)
        assert found.log_loss == pytest.approx(sum(loss(a, y=t) for a, t in zip(p, y, strict=True)) / n, rel=1e-12)
        assert found.accuracy == pytest.approx(sum((a > 0.5) == t for a, t in zip(p, y, strict=True)) / n, rel=1e-12)


def test_by_hand() -> None:
    """Four predictions whose figures can be counted: of the four pairs three are in order."""
    found = quality([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
    assert found.roc_auc == 0.75
    assert found.accuracy == 0.5
    assert found.log_loss == pytest.approx(-(math.log(0.9) + math.log(0.4) + math.log(0.4) + math.log(0.9)) / 4)


def test_the_area_of_order_alone() -> None:
    """Perfect order is 1, its reverse 0, no order 1/2, and only the order of the scores counts."""
    y = np.array([True, True, False, False, False])
    p = np.array([0.9, 0.8, 0.3, 0.2, 0.1])
    assert roc_auc(p, y) == 1
    assert roc_auc(p, ~y) == roc_auc(-p, y) == 0
    assert roc_auc(np.full(5, 0.3), y) == 0.5
    assert roc_auc(p**9 / 1e6, y) == 1


def test_one_class_only() -> None:
    """Where one class was never seen there is no area, but there is a loss and an accuracy."""
    for truth in (True, False):
        found = quality([0.75, 0.25], [truth, truth])
        assert found.roc_auc is None
        assert found.log_loss == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
        assert found.accuracy == 0.5


def test_nothing_has_no_quality() -> None:
    """Of no predictions nothing can be said."""
    assert quality([], []) == Quality(0, None, None, None)


def test_the_threshold() -> None:
    """0.5 itself is no prediction of true."""
    assert quality([0.5, 0.5, 0.5000001], [True, False, True]).accuracy == pytest.approx(2 / 3)


def test_a_certain_mistake_costs_much_but_not_without_end() -> None:
    """Probabilities of 0 and 1 cost nothing where they are right and -log(1e-15) where they are wrong."""
    p, y = np.array([1.0, 0.0, 0.0, 1.0]), np.array([True, False, True, False])
    assert losses(p, y).tolist() == pytest.approx([0, 0, 34.538776394910684, 34.538776394910684])
    assert losses(np.array([0.25]), np.array([False])).tolist() == [-math.log(0.75)]
