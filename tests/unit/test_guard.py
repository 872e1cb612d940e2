"""When a version of the batch model has to go: it answers no probabilities, too late too often, or always the same."""

import numpy as np
import pytest

from services.inference.guard import BATCHES, MOST_LATE, ROWS, Guard

APART = np.linspace(0.1, 0.9, 2 * ROWS)


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf, -1e-9, 1 + 1e-9])
def test_no_probability_is_enough_once(strange: float) -> None:
    """One such answer among many, in the batch in which it comes; the reason says how many there were."""
    values = APART.copy()
    values[17] = strange
    why = Guard(0.5).answered([values[:10], values[10:]], [APART])
    assert why is not None
    assert f"for 1 of {2 * ROWS} rows" in why


def test_probabilities_are_kept() -> None:
    """The ends count as probabilities."""
    assert Guard(0.5).answered([np.array([0.0, 1.0])], [np.array([0.5, 0.5])]) is None


def test_late_now_and_then_is_forgiven() -> None:
    """Up to four of twenty batches; the fifth is one too many, and old ones are forgotten."""
    guard = Guard(0.5)
    for _ in range(3):
        assert [guard.late() for _ in range(MOST_LATE - 1)] == [None] * (MOST_LATE - 1)
        for _ in range(BATCHES - MOST_LATE + 1):
            assert guard.answered([APART[:2]], [APART[:2]]) is None
    for _ in range(MOST_LATE - 1):
        guard.late()
    assert guard.late() == "5 of the last 20 batches were not answered within 0.5 s"


def test_scores_that_collapse() -> None:
    """As many rows of one score, in however many batches, while the online model tells them apart."""
    whole, guard = Guard(0.5), Guard(0.5)
    same = np.full(ROWS, 0.25)
    assert whole.answered([same], [APART[:ROWS]]) == f"its scores have collapsed: the last {ROWS} are all 0.25"
    said = [guard.answered([same[n : n + 50]], [APART[n : n + 50]]) for n in range(0, ROWS, 50)]
    assert [why is not None for why in said] == [False, False, False, True]


def test_what_is_the_same_to_all_is_no_collapse() -> None:
    """Rows that the online model can't tell apart either may be equal; so may be fewer rows."""
    same = np.full(ROWS, 0.25)
    assert Guard(0.5).answered([same], [same]) is None
    assert Guard(0.5).answered([same[1:]], [APART[1:ROWS]]) is None
    nearly = same.copy()
    nearly[3] += 1e-5
    assert Guard(0.5).answered([nearly], [APART[:ROWS]]) is None
