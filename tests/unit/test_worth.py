"""What scores were worth, by value of a feature and by what was said."""

import math

import numpy as np
import pytest

from services.trainer.charts import MARGIN, SIZE, reliability_chart
from services.trainer.worth import Bin, Part, by_value, reliability

COLUMNS = ("x", "hot=a", "hot=b", "hot=c", "warm=a")
VECTORS = np.array([[1, 1, 0, 0, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1]], np.float32)
LOGITS, LABELS = np.array([0.0, math.log(3), -math.log(3)]), np.array([1.0, 1.0, 1.0])


def test_a_slice_is_the_rows_with_one_value() -> None:
    """Of the features that are asked for alone, and of values that came up; a number is no feature of values."""
    found = by_value(["hot", "x"], COLUMNS, VECTORS, LOGITS, LABELS)
    assert list(found) == ["hot=a", "hot=b"]
    assert found["hot=a"] == Part(2, 1.0, pytest.approx((math.log(2) + math.log(4 / 3)) / 2))
    assert found["hot=b"] == Part(1, 1.0, pytest.approx(math.log(4)))
    assert by_value([], COLUMNS, VECTORS, LOGITS, LABELS) == {}


def test_bins_say_what_was_said_and_what_was_so() -> None:
    """By tenths; each row is in one, a score of exactly 1 too."""
    logits = np.array([-100.0, 100.0, 0.1, 0.2, -100.0])
    found = reliability(logits, np.array([0.0, 1.0, 0.0, 1.0, 1.0]))
    assert [(part.rows, part.found) for part in found] == [(2, 0.5), (2, 0.5), (1, 1.0)]
    assert [part.said for part in found] == [0.0, pytest.approx(0.537, abs=1e-3), 1.0]


def test_the_chart_has_a_dot_for_each_bin() -> None:
    """At its place, and within the frame."""
    drawn = reliability_chart([Bin(5, 0.0, 0.0), Bin(5, 1.0, 1.0)])
    low, high = float(MARGIN), float(SIZE - MARGIN)
    assert f'<circle cx="{low}" cy="{high}"' in drawn
    assert f'<circle cx="{high}" cy="{low}"' in drawn
    assert drawn.count("<circle") == 2
