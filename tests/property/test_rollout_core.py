"""The laws of rollout's fold: cuts and restarts leave no trace, in any byte, and decide nothing twice."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.rollout.core import RolloutCore
from services.rollout.judging import Decision
from tests.duels import CARRIERS, Row, record, stream

HASTY = {"alpha": 0.9, "apart": 30, "shadow_examples": 2, "canary_examples": 2, "patience": 12, "window": 20}
STREAM = stream(**HASTY)
SCORE = st.none() | st.floats(0, 1) | st.sampled_from([0.001, 0.999])
ENTRY = st.fixed_dictionaries(
    {
        "version": st.integers(1, 3),
        "score": SCORE,
        "weight": st.just(0.0),
        "state": st.sampled_from(["shadow", "canary", "champion"]),
        "beside": st.just(0.5),
    }
)
ENTRIES = st.lists(ENTRY, max_size=3, unique_by=lambda entry: entry["version"])
CARRIER, LABEL, TIMES = st.sampled_from(CARRIERS), st.sampled_from([0.0, 1.0]), st.integers(1, 8)
ROW = st.builds(Row, st.integers(0, 1), st.integers(0, 40), CARRIER, LABEL, SCORE, ENTRIES)
ROWS = st.lists(st.tuples(ROW, TIMES), max_size=8).map(
    lambda drawn: [row for row, times in drawn for _ in range(times)]
)
MESSAGES = st.lists(st.tuples(ROWS, st.none() | st.just(0.0)), min_size=1, max_size=12)


def entry(version: int, state: str, score: float) -> dict[str, Any]:
    return {"version": version, "score": score, "weight": 0.0, "state": state, "beside": 0.5}


def course() -> list[tuple[list[Row], None]]:
    """Return a life: version 2 comes up against version 1, takes its place, and turns bad."""
    steps = [("shadow", "champion", 0.9), ("canary", "champion", 0.9), ("champion", "shadow", 0.9)]
    steps += [("champion", "shadow", 0.05)] * 2
    return [
        ([Row(0, 10 * at + n, "A", 1.0, 0.5, [entry(1, old, 0.5), entry(2, new, score)]) for n in range(8)], None)
        for at, (new, old, score) in enumerate(steps)
    ]


@given(messages=MESSAGES, cuts=st.sets(st.integers(1, 11)).map(sorted))
@example(messages=course(), cuts=[1, 2, 3, 4, 5])
@settings(max_examples=80, deadline=None)
def test_cuts_and_restarts_leave_no_trace(messages: Any, cuts: list[int]) -> None:
    """One fold, and folds of pieces with a snapshot and a new core between them: the same decisions, the same bytes."""
    records = [record(STREAM, rows, number, retracts) for number, (rows, retracts) in enumerate(messages)]
    whole, piece, pieces = RolloutCore(STREAM), RolloutCore(STREAM), list[Decision]()
    decisions = whole.fold(records)
    for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        pieces += piece.fold(records[start:end])
        saved, piece = piece.snapshot(), RolloutCore(STREAM)
        piece.restore(saved)
        assert piece.snapshot() == saved
    assert pieces == decisions
    assert piece.snapshot() == whole.snapshot()
    assert piece.weights() == whole.weights()


def test_the_course_has_decisions() -> None:
    """The example above is no empty one: each kind of decision is in it."""
    records = [record(STREAM, rows, number) for number, (rows, _) in enumerate(course())]
    found = [(decision.version, decision.before, decision.state) for decision in RolloutCore(STREAM).fold(records)]
    assert found == [(2, "shadow", "canary"), (2, "canary", "champion"), (2, "champion", "retired")]


@given(messages=MESSAGES)
@settings(max_examples=80, deadline=None)
def test_a_fate_is_decided_once_while_it_lasts(messages: Any) -> None:
    """Whatever examples say, a version goes the same way twice only after its state changed, or patience ended."""
    core, last = RolloutCore(STREAM), dict[int, tuple[str, str, int]]()
    for number, (rows, retracts) in enumerate(messages):
        before = {n: version.state for n, version in core._versions.items()}
        decisions = core.fold([record(STREAM, rows, number, retracts)])
        for n, version in core._versions.items():
            if before.get(n) != version.state:
                last.pop(n, None)
        for decision in decisions:
            if (said := last.get(decision.version)) and said[:2] == (decision.before, decision.state):
                assert core.examples - said[2] > HASTY["patience"]
            last[decision.version] = decision.before, decision.state, core.examples
        last = {n: said for n, said in last.items() if n in core._versions}


@given(messages=MESSAGES)
@settings(max_examples=80, deadline=None)
def test_memory_is_bounded(messages: Any) -> None:
    """Nothing is kept of a version that no example told of within `patience`."""
    core = RolloutCore(STREAM)
    seen = dict[int, int]()
    for number, (rows, _) in enumerate(messages):
        core.fold([record(STREAM, rows, number)])
        seen |= {said["version"]: core.examples for row in rows for said in row.batch}
        assert core._versions.keys() <= {n for n, at in seen.items() if core.examples - at <= HASTY["patience"]}
        assert sum(version.state == "champion" for version in core._versions.values()) <= 1
