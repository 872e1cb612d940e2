"""Quality that can be taken back: the numbers of the report's own formula, and no trace of what was retracted."""

import math
import random

import pytest

from infra.local import quality as report
from services.runtime.quality import Quality, together

DRAW = random.Random(3)  # noqa: S311 - the same scores each time
SCORES = [0.0, 0.5, 1.0, 1e-300, *(DRAW.random() for _ in range(500))]
LABELS = [float(DRAW.random() < score) for score in SCORES]


def counted(pairs: list[tuple[float, float]]) -> Quality:
    quality = Quality()
    for score, label in pairs:
        quality.count(score, label)
    return quality


def test_it_is_what_the_report_would_say() -> None:
    """Log loss and accuracy as the report computes them, from floats, with its threshold."""
    quality = counted(list(zip(SCORES, LABELS, strict=True)))
    expected = report.quality(SCORES, [label > 0 for label in LABELS])
    assert (quality.n, quality.accuracy) == (expected.n, expected.accuracy)
    assert quality.log_loss == pytest.approx(expected.log_loss, rel=1e-11)


def test_what_is_retracted_leaves_no_trace() -> None:
    """In any order, with any other labels between: the state is that of what was left."""
    pairs = list(zip(SCORES, LABELS, strict=True))
    others = [(score, float(DRAW.random() < 0.5)) for score in SCORES]
    acts = [*((pair, 1) for pair in [*pairs, *others]), *((pair, -1) for pair in others)]
    DRAW.shuffle(acts)
    quality = Quality()
    for pair, sign in acts:
        (quality.count if sign > 0 else quality.retract)(*pair)
    assert quality.state() == counted(pairs).state()


def test_parts_make_a_whole() -> None:
    """Partitions count for themselves; together they are as one that counted all. Without labels nothing is said."""
    pairs = list(zip(SCORES, LABELS, strict=True))
    assert together([counted(pairs[:99]), Quality(), counted(pairs[99:])]).state() == counted(pairs).state()
    assert (together([]).n, together([]).log_loss, together([]).accuracy) == (0, None, None)


def test_a_certain_mistake_costs_no_more_than_the_smallest_probability() -> None:
    """-log(1e-15), not infinity."""
    assert counted([(0.0, 1.0)]).log_loss == counted([(1.0, 0.0)]).log_loss == pytest.approx(-math.log(1e-15), rel=1e-3)
