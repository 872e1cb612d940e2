"""The laws of drift: cuts of messages, restarts and repeats leave no trace in summaries, alerts or snapshots."""

from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.stack import REPOSITORY
from services.drift.core import DriftCore, ScoredReducer
from services.drift.reducing import ROWS
from services.runtime.alerts import Alert
from services.runtime.stream import Stream, load_stream
from tests.scored import Scored

BLOCKS = 170  # a reference, time to learn how it swings, a change, and the old world again


@cache
def stream() -> Stream:
    return load_stream(REPOSITORY / "schemas", "electricity")


@cache
def summaries() -> list[bytes]:
    """Two partitions' summaries in one log: a number moves and comes back, while there are fewer events."""
    found = []
    for partition in (0, 1):
        rng = np.random.default_rng(partition)
        size = BLOCKS // 2 * ROWS
        vectors = rng.normal(1, 0.2, (size, len(stream().columns)))
        vectors[size * 6 // 10 : size * 8 // 10, 1] += 0.5
        rows = np.arange(size)
        at = 60_000_000 * np.where(rows > size * 7 // 10, 3 * rows - size * 14 // 10, rows)
        reducer, scored = ScoredReducer(stream(), partition), Scored(stream(), partition)
        for start in range(0, size, 500):
            part = slice(start, start + 500)
            served = rng.uniform(size=len(at[part]))
            record = scored.message(vectors[part], served, at[part].tolist(), champion=3 if start > size // 2 else None)
            found.append([(partition, summary) for summary in reducer.fold(record)])
    log = [
        entry for entries in zip(found[: len(found) // 2], found[len(found) // 2 :], strict=True) for entry in entries
    ]
    return [summary for entries in log for _, summary in entries]


@cache
def whole() -> tuple[list[Alert], bytes]:
    core = DriftCore(stream())
    return [alert for summary in summaries() for alert in core.fold(summary)], core.snapshot()


def test_there_are_alerts_to_lose() -> None:
    """The log of these tests raises alerts, updates and resolves them: the change is found, and its end."""
    alerts, _ = whole()
    assert {"raised", "resolved"} <= {alert.event for alert in alerts}
    assert {"features", "volume"} <= {alert.kind for alert in alerts}
    assert any(alert.features[0].name == "nsw_demand" for alert in alerts if alert.kind == "features")


@given(cuts=st.sets(st.integers(1, BLOCKS - 2), max_size=6).map(sorted), repeats=st.integers(0, 20))
@settings(max_examples=12, deadline=None)
def test_restarts_and_repeats_leave_no_trace(cuts: list[int], repeats: int) -> None:
    """Cores that begin from each other's snapshots, and see summaries again, say the same and end in the same bytes."""
    log = summaries()
    alerts, core = [], DriftCore(stream())
    for start, end in pairwise([0, *cuts, len(log)]):
        saved = core.snapshot()
        core = DriftCore(stream())
        core.restore(saved)
        assert core.snapshot() == saved
        for summary in log[max(start - repeats, 0) : end]:
            alerts += core.fold(summary)
    assert (alerts, core.snapshot()) == whole()


def test_alerts_are_each_once() -> None:
    """An alert record is identified by its id and number; the numbers of an id count from 0, raised first."""
    alerts, _ = whole()
    for name in {alert.id for alert in alerts}:
        mine = [alert for alert in alerts if alert.id == name]
        assert [alert.number for alert in mine] == list(range(len(mine)))
        assert [alert.event for alert in mine[:1]] == ["raised"]
        assert all(alert.event == "updated" for alert in mine[1:-1])


ROWS_OF = st.lists(st.integers(1, 3 * ROWS // 2), min_size=1, max_size=6)


@given(sizes=ROWS_OF, others=ROWS_OF, seed=st.integers(0, 99), holes=st.booleans())
@settings(max_examples=25, deadline=None)
def test_cuts_of_messages_and_restarts_of_a_reducer_leave_no_trace(
    sizes: list[int], others: list[int], seed: int, *, holes: bool
) -> None:
    """The rows decide what is summed up, not the messages: but for offsets, and with a new reducer at every message."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(min(sum(sizes), sum(others)), len(stream().columns))).astype(np.float32)
    if holes:
        vectors[rng.random(vectors.shape) < 0.2] = np.nan
    found = [reduced(vectors, cut) for cut in (sizes, others)]
    assert [told[2:] for told in found[0]] == [told[2:] for told in found[1]]
    assert len(found[0]) == len(vectors) // ROWS


def reduced(vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]], sizes: list[int]) -> list[list[object]]:
    """Return the decoded summaries without their sources, each message folded by a new reducer, and seen twice."""
    scored, reducer, found, start = Scored(stream()), ScoredReducer(stream(), 0), [], 0
    for size in sizes:
        part = vectors[start : start + size]
        if not len(part):
            break
        record = scored.message(part, np.full(len(part), 0.5))
        saved, reducer = reducer.snapshot(), ScoredReducer(stream(), 0)
        reducer.restore(saved)
        found += [msgspec.msgpack.decode(summary) for summary in reducer.fold(record)]
        assert not reducer.fold(record)
        start += size
    return found
