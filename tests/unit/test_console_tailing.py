"""Which summaries of `scored` the console folds: all while few come, some while many do."""

import pytest

from services.console import tailing
from services.console.core import ConsoleCore
from services.console.picture import Picture
from services.console.tailing import BATCH, SAVED, SCORED, Tailing
from services.runtime.records import Record
from services.runtime.settings import Settings
from tests.lessons import STREAM


def records(count: int) -> list[Record]:
    return [Record("summaries", 0, offset, None, b"", 0) for offset in range(count)]


def test_all_are_folded_while_few_come_and_one_of_each_batch_while_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start's backlog is read whole up to a bound; then as many as a second brings room for."""
    now = 1_000.0
    monkeypatch.setattr(tailing.time, "monotonic", lambda: now)
    folding = Tailing(Settings(), {}, Picture(lambda: ConsoleCore(STREAM, lambda _, value: value)))
    batches = SAVED // BATCH
    assert [len(folding._some(records(BATCH))) for _ in range(batches + 3)] == [BATCH] * batches + [1, 1, 1]
    now += 1.0
    assert [len(folding._some(records(count))) for count in (SCORED + 1, SCORED, 1, 0)] == [1, SCORED, 1, 0]
    now += 0.5
    assert len(folding._some(records(SCORED // 2))) == SCORED // 2
    now += 1_000.0
    assert len(folding._some(records(SAVED + 1))) == 1
    assert len(folding._some(records(SAVED))) == SAVED
