"""How mature labels are: counts by hour that any order of reading gives, and a median that is right to a tenth."""

import math
import random
from pathlib import Path
from statistics import median_low

import msgspec
import numpy as np
import pytest

from services.labels.joining import Joining
from services.labels.maturity import HOUR_US, HOURS, Maturity, summed
from services.labels.segments import open_disks
from services.runtime.clock import SystemClock
from services.runtime.health import Health
from services.runtime.labelled import Hour
from services.runtime.memory import ManualClock
from tests.unit.test_labels_core import HORIZON, MINUTE, NOON, STREAM, label, scored

SECOND = 1_000_000


def us(*hours: float) -> np.ndarray:
    return np.array([round(hour * HOUR_US) for hour in hours], np.int64)


def test_an_hour_says_how_many_have_their_label() -> None:
    """By the event's hour, not the label's; the newest hours come first, and no more than are asked for."""
    counts = Maturity()
    counts.add_rows(us(0, 0.5, 0.99, 1, 5))
    counts.add_labels(us(0.5, 0.99), us(3, 8))
    first, *others = summed([counts.hours], 10)[::-1]
    assert (first.start_s, first.predicted, first.labelled) == (0, 3, 2)
    assert others == [Hour(3600, 1, 0, None), Hour(5 * 3600, 1, 0, None)]
    assert [hour.start_s for hour in summed([counts.hours], 2)] == [5 * 3600, 3600]


def test_partitions_are_summed() -> None:
    """An hour that one of them has alone counts too."""
    one, two = Maturity(), Maturity()
    one.add_rows(us(0, 1))
    two.add_rows(us(0))
    two.add_labels(us(0), us(0.5))
    assert [(hour.predicted, hour.labelled) for hour in summed([one.hours, two.hours], 9)] == [(1, 0), (2, 1)]
    assert summed([], 9) == ()
    assert two.hours[0].sum() == 3, "what is summed stays as it is"


@pytest.mark.parametrize("scale_s", [0.001, 3, 90, 4000, 80_000])
def test_the_median_is_right_to_a_tenth(scale_s: float) -> None:
    """Over waits of any length, from a second to months."""
    draw = random.Random(scale_s)  # noqa: S311 - the same waits each time
    waits = [max(1, round(draw.lognormvariate(0, 1) * scale_s * SECOND)) for _ in range(501)]
    counts = Maturity()
    counts.add_rows(np.zeros(501, np.int64))
    counts.add_labels(np.zeros(501, np.int64), np.array(waits, np.int64))
    [hour] = summed([counts.hours], 1)
    assert hour.median_wait_s == pytest.approx(max(median_low(waits) / SECOND, 1), rel=0.1)


def test_a_label_from_before_its_event_waited_for_nothing() -> None:
    """Clocks differ; such a wait counts as the shortest."""
    counts = Maturity()
    counts.add_rows(us(2))
    counts.add_labels(us(2), us(1))
    assert summed([counts.hours], 1) == (Hour(7200, 1, 1, 1.0),)


def test_old_hours_go() -> None:
    """A week up to the newest event is kept, whatever the era; what is older is not counted any more."""
    for era in (-(10**6), 0, 10**6):
        counts = Maturity()
        counts.add_rows(us(era))
        counts.add_rows(us(era + HOURS - 1))
        counts.add_labels(us(era), us(era + 1))
        assert [hour.start_s // 3600 - era for hour in summed([counts.hours], 9)] == [HOURS - 1, 0]
        counts.add_rows(us(era + HOURS))
        counts.add_labels(us(era), us(era + 1))
        counts.add_rows(us(era))
        assert [hour.start_s // 3600 - era for hour in summed([counts.hours], 9)] == [HOURS, HOURS - 1]


def test_counts_outlive_a_restart() -> None:
    """A state that went through a snapshot goes on where it was, and forgets from there."""
    counts, heir = Maturity(), Maturity()
    counts.add_rows(us(0, 3))
    counts.add_labels(us(3), us(4))
    heir.load(msgspec.msgpack.decode(msgspec.msgpack.encode(counts.state()), type=list[tuple[int, list[int]]]))
    for one in (counts, heir):
        one.add_rows(us(HOURS))
        one.add_rows(us(0))
    assert heir.state() == counts.state()
    assert [hour for hour, _ in heir.state()] == [3, HOURS]
    Maturity().load([])


def test_the_service_tells_its_health(tmp_path: Path) -> None:
    """Rows count once, though written twice; a row whose wait was in vain has no label; partitions count together."""
    health = Health("labels", ManualClock())
    stage = Joining(STREAM, 10, health, open_disks(tmp_path, "made", ""))
    for partition in (3, 4):
        stage.open(partition, None)
    rows = scored(0, 1, 2, served=0.75)
    stage.fold({3: [rows, rows], 4: [scored(0)]})
    stage.fold({3: [label("a", 10), label("z", HORIZON + 1.5)]})
    said = health.report().labelled
    assert said is not None
    assert said.hours == (Hour(NOON // SECOND, 4, 1, pytest.approx(600, rel=0.1)),)
    assert {outcome: count for outcome, count in said.totals.items() if count} == {"label": 1, "timeout": 1}
    assert (said.n, said.log_loss, said.accuracy) == (1, pytest.approx(-math.log(0.75)), 1.0)
    stage.snapshot(3)(lambda state: stage.open(3, state))
    stage.fold({3: [label("c", 12, offset=2)]})
    said = health.report().labelled
    assert said is not None
    assert (said.n, said.hours[0].labelled) == (2, 2)
    assert said.hours[0].median_wait_s == pytest.approx(10.5 * MINUTE / SECOND, rel=0.15)


def test_full(tmp_path: Path) -> None:
    """An input of which as many wait as may is named with the reason, and both with what to do."""
    stage = Joining(STREAM, 2, Health("labels", SystemClock()), open_disks(tmp_path, "made", ""))
    stage.open(3, None)
    stage.fold({3: [scored(0)]})
    assert stage.full(3) == {}
    stage.fold({3: [scored(1, ids="b", first=101), label("x", 0)]})
    assert stage.full(3) == {"made.scored": "2 rows wait for their labels"}
    stage.fold({3: [label("y", 0, offset=1)]})
    both = stage.full(3)
    assert both["made.labels"].startswith("2 labels wait for their rows, ")
    assert all("THALWEG_LABELS_WAITING" in why for why in both.values())
