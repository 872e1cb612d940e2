"""The fold law of the examples' reducer: its summaries are a function of the rows, however they came."""

from collections.abc import Collection
from itertools import pairwise

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.example_summaries import MOST, ROWS, ExampleReducer
from services.runtime.summaries import ExampleSummary
from tests.judged import STREAM, drawn

COUNT = 700
EXAMPLES = drawn(1, COUNT)
CUTS = st.lists(st.integers(1, COUNT - 1), max_size=30).map(lambda cuts: [0, *sorted(set(cuts)), COUNT])


def reduced(cuts: list[int], restarts: Collection[int] = ()) -> list[ExampleSummary]:
    """Return the summaries of the rows in messages that end there; after some of them the reducer is begun anew."""
    reducer, found = ExampleReducer(STREAM, 0), []
    for number, (first, last) in enumerate(pairwise(cuts)):
        found += reducer.fold(EXAMPLES.record(slice(first, last), number))
        if number in restarts:
            state, reducer = reducer.snapshot(), ExampleReducer(STREAM, 0)
            reducer.restore(state)
            assert reducer.snapshot() == state
    return [msgspec.msgpack.decode(one, type=ExampleSummary) for one in found]


def plain(summaries: list[ExampleSummary]) -> list[bytes]:
    """Return the summaries without the offsets, which are the messages' own."""
    return [
        msgspec.msgpack.encode(
            msgspec.structs.replace(one, source=msgspec.structs.replace(one.source, first=0, last=0))
        )
        for one in summaries
    ]


WHOLE = reduced([0, COUNT])


@given(CUTS)
@settings(max_examples=60, deadline=None)
def test_cuts_of_messages_leave_no_trace(cuts: list[int]) -> None:
    """Summaries have the same bytes however their rows were cut into messages."""
    assert plain(reduced(cuts)) == plain(WHOLE)


@given(CUTS, st.sets(st.integers(0, 30)))
@settings(max_examples=60, deadline=None)
def test_a_restart_leaves_no_trace(cuts: list[int], restarts: set[int]) -> None:
    """A reducer that was restored from a snapshot, after any message, goes on as if it never stopped."""
    assert reduced(cuts, restarts) == reduced(cuts)


def test_a_message_counts_once() -> None:
    """A message that comes again after a crash, or an older one, adds nothing."""
    reducer, record = ExampleReducer(STREAM, 0), EXAMPLES.record(slice(0, 260), 5)
    assert len(reducer.fold(record)) == 2
    state = reducer.snapshot()
    assert reducer.fold(record) == reducer.fold(EXAMPLES.record(slice(0, 260), 4)) == []
    assert reducer.snapshot() == state


def test_summaries_have_so_many_labelled_rows() -> None:
    """Each has ROWS first labels, or MOST rows where labels don't come, and they stand one behind the other."""
    assert [one.rows for one in WHOLE] == [ROWS] * len(WHOLE)
    assert [one.source.number for one in WHOLE] == list(range(len(WHOLE)))
    silent = EXAMPLES._replace(outcomes=["timeout"] * COUNT)
    (first, *_) = found = ExampleReducer(STREAM, 0).fold(silent.record(slice(None), 0))
    assert len(found) == COUNT // MOST
    told = msgspec.msgpack.decode(first, type=ExampleSummary)
    assert (told.rows, told.outcomes, told.models) == (0, (0, MOST, 0, 0), [])


def test_sums_are_those_of_the_rows() -> None:
    """What a summary says is what the rows say, counted by hand: losses, and a slice's; a correction is no label."""
    known = [place for place, one in enumerate(EXAMPLES.outcomes) if one in ("label", "late")][:ROWS]
    p, y, carriers = EXAMPLES.served[known], EXAMPLES.labels[known], EXAMPLES.carriers[known]
    losses = -np.log(np.clip(np.where(y == 1, p, 1 - p), 0.01, 0.99))
    served = next(one for one in WHOLE[0].models if one.model == "served")
    sums, slices = np.frombuffer(served.sums), np.frombuffer(served.slices).reshape(-1, 3)
    np.testing.assert_allclose(sums[:2], [losses.sum(), (losses**2).sum()])
    np.testing.assert_allclose(sums[2], ((p - y) ** 2 - p * (1 - p)).sum())
    assert slices[:, 0].tolist() == np.bincount(carriers, minlength=4).tolist() + [0] * (len(slices) - 4)
    np.testing.assert_allclose(slices[1, 1], losses[carriers == 1].sum())
    until = EXAMPLES.outcomes[: known[-1] + 1]
    assert WHOLE[0].outcomes == tuple(map(until.count, ("label", "timeout", "late", "corrected")))
    assert sum(one.outcomes[3] for one in WHOLE) > 0
    batch = next(one for one in WHOLE[0].models if one.model == "batch@7")
    assert batch.rows == np.isfinite(EXAMPLES.batch[known]).sum() < ROWS
