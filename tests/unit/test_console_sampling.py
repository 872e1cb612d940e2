"""What a look at the newest predictions says of a topic's offsets: which share of them are records."""

from pathlib import Path

import pytest

from services.console.core import ConsoleCore
from services.console.picture import Picture
from services.console.sampling import Sampler
from services.runtime.records import Record
from services.runtime.settings import Settings
from services.runtime.stream import load_stream

STREAM = load_stream(Path(__file__).parents[2] / "schemas", "flights")


def records(*offsets: int, partition: int = 0) -> list[Record]:
    return [Record("p", partition, offset, None, b"", 0) for offset in offsets]


def test_offsets_that_end_transactions_are_no_records() -> None:
    """Two of every three, seen one after the other; where some were passed over, those that were looked at count."""
    sampler = Sampler(Settings(), {}, "p", Picture(lambda: ConsoleCore(STREAM, lambda _, value: value)))
    sampler._note_filled(records(0, 1), {0: 0})
    assert sampler._filled == 1.0  # what ended the transaction stands behind them
    sampler._note_filled(records(3, 4), {0: 0})
    assert sampler._filled == pytest.approx(2 / 3)
    sampler._note_filled([*records(90, 91, 92), *records(7, 9, partition=1)], {0: 90, 1: 7})
    assert sampler._filled == pytest.approx(5 / 6)
    sampler._note_filled([], {0: 93})
    assert sampler._filled == pytest.approx(5 / 6)
