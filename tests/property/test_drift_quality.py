"""The fold law of the monitors of what examples tell: a snapshot anywhere leaves no trace."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.example_summaries import ExampleReducer
from services.drift.quality import Quality
from services.drift.signals import Signal
from services.runtime.summaries import ExampleSummary
from tests.judged import STREAM, drawn

COUNT = 11_000
EXAMPLES = drawn(1, COUNT, flipped=slice(9000, 10_000))
SUMMARIES = [
    msgspec.msgpack.decode(one, type=ExampleSummary)
    for one in ExampleReducer(STREAM, 0).fold(EXAMPLES.record(slice(None), 0))
]


def folded(restarts: set[int]) -> tuple[list[Signal], bytes]:
    """Return what is said of all summaries, and the last state; before some of them the monitors are begun anew."""
    quality, signals = Quality(STREAM, 1.0), []
    for number, summary in enumerate(SUMMARIES):
        if number in restarts:
            state, quality = quality.snapshot(), Quality(STREAM, 1.0)
            quality.restore(state)
            assert quality.snapshot() == state
        signals += quality.fold(summary)
        signals += quality.fold_scores(summary.source, EXAMPLES.served[100 * number : 100 * number + 100])
    return signals, quality.snapshot()


WHOLE = folded(set())


@given(st.sets(st.integers(0, len(SUMMARIES) - 1), max_size=12))
@settings(max_examples=30, deadline=None)
def test_a_restart_leaves_no_trace(restarts: set[int]) -> None:
    """Monitors that were restored from a snapshot say the same, and end in the same bytes."""
    assert folded(restarts) == WHOLE


def test_there_is_something_to_say() -> None:
    """The law is checked over alarms that are raised and that end."""
    assert {(one.on, one.calm) for one in WHOLE[0]} >= {(True, False), (False, True)}
