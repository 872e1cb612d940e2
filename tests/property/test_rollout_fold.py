"""The law of the rollout's statistics: cuts of a batch, and restarts from a snapshot, leave no trace in any bit."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.rollout.evidence import BOUND, Evidence, EvidenceState, Watch, WatchState
from services.rollout.hedge import Hedge
from services.rollout.slices import Slices, SlicesState

DIFFERENCE = st.floats(-BOUND, BOUND) | st.floats(-0.01, 0.01) | st.sampled_from([0.0, 2.0, -2.0])
PROBABILITY = st.floats(0, 1) | st.sampled_from([0.0, 1.0])
BETTER, WORSE = st.floats(1, BOUND), st.floats(-BOUND, -1)
REST = (st.sampled_from("ABCDEF"), st.sampled_from("xy"), PROBABILITY, PROBABILITY, st.booleans())
ROWS = st.one_of([st.lists(st.tuples(kind, *REST), max_size=80) for kind in (DIFFERENCE, BETTER, WORSE)])
CUTS = st.sets(st.integers(1, 79)).map(sorted)
Rows: TypeAlias = Sequence[tuple[float, str, str, float, float, bool]]


def differences(rows: Rows) -> list[float]:
    return [row[0] for row in rows]


def fold_evidence(evidence: Evidence, rows: Rows) -> None:
    evidence.fold(differences(rows))


def fold_watch(watch: Watch, rows: Rows) -> None:
    watch.fold(differences(rows))


def fold_slices(slices: Slices, rows: Rows) -> None:
    slices.fold(differences(rows), {"carrier": [row[1] for row in rows], "origin": [row[2] for row in rows]})


class KeptHedge(Hedge):
    """Its state is its weights."""

    def state(self) -> dict[str, float]:
        return self.weights

    def load(self, weights: dict[str, float]) -> None:
        self.weights = weights


def fold_hedge(hedge: Hedge, rows: Rows) -> None:
    if rows:
        hedge.fold([row[3:5] for row in rows], [row[5] for row in rows])


KINDS = [
    (lambda: Evidence(0.5), fold_evidence, EvidenceState),
    (lambda: Watch(5), fold_watch, WatchState),
    (lambda: Slices(["carrier", "origin"], 0.99, 3), fold_slices, SlicesState),
    (lambda: KeptHedge("ab", 0.01, 20), fold_hedge, dict[str, float]),
]


@pytest.mark.parametrize(("make", "fold", "kind"), KINDS, ids=["evidence", "watch", "slices", "hedge"])
@given(rows=ROWS, cuts=CUTS, codec=st.sampled_from([msgspec.msgpack, msgspec.json]))
@example(rows=[(2.0, "A", "x", 0.9, 0.1, True)] * 40, cuts=[3, 30], codec=msgspec.msgpack)
@example(rows=[(-2.0, "A", "x", 0.9, 0.1, True)] * 40, cuts=[3, 30], codec=msgspec.json)
@settings(max_examples=60)
def test_cuts_and_restarts_leave_no_trace(
    make: Callable[[], Any], fold: Callable[[Any, Rows], None], kind: Any, rows: Rows, cuts: list[int], codec: Any
) -> None:
    """One fold of all, and folds of any pieces with a snapshot and a new object between them, end in the same bytes."""
    whole, piece = make(), make()
    fold(whole, rows)
    for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        fold(piece, rows[start:end])
        saved = codec.encode(piece.state())
        piece = make()
        piece.load(codec.decode(saved, type=kind))
        assert codec.encode(piece.state()) == saved
    assert codec.encode(piece.state()) == codec.encode(whole.state())
    if kind is SlicesState:
        assert piece.worse() == whole.worse()
