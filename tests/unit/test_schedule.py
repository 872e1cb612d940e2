"""When a training is due: by event time and by number, never by the clock."""

import pytest

from services.runtime.grammar import BatchRule, Duration
from services.trainer.schedule import is_due

DAY = 86_400_000_000
RULE = BatchRule(train_every=Duration("7d"), train_after=100)


@pytest.mark.parametrize(
    ("rows", "newest", "last", "due"),
    [
        (0, None, None, False),
        (99, 50 * DAY, None, False),
        (100, 0, None, True),  # the first waits for no time to pass
        (100, 50 * DAY, 50 * DAY, False),
        (9999, 57 * DAY - 1, 50 * DAY, False),
        (100, 57 * DAY, 50 * DAY, True),
        (99, 57 * DAY, 50 * DAY, False),
        (100, 40 * DAY, 50 * DAY, False),  # the table began anew
    ],
)
def test_a_training_is_due_when_there_is_enough_and_enough_is_new(
    rows: int, newest: int | None, last: int | None, *, due: bool
) -> None:
    """`train_after` rows in all, and `train_every` of event time since the newest event that was trained on."""
    assert is_due(RULE, rows, newest, last) is due


@pytest.mark.parametrize("rule", [None, BatchRule()])
def test_a_stream_that_says_nothing_trains_nothing_by_itself(rule: BatchRule | None) -> None:
    """Without [batch], or without `train_every` in it."""
    assert not is_due(rule, 10**9, 10**9 * DAY, None)
