"""A mean that is watched: how often chance raises an alarm, how soon a rise does, since when, and when it is over."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from services.drift import detectors as d
from services.drift.watching import Verdict, Watch, limits, page_limit
from services.runtime.summaries import Source

Floats = NDArray[np.float64]
ROWS = 100
BOUND = 4.6


def source(number: int) -> Source:
    return Source("made.examples", 0, number, 10 * number, 10 * number + 9, 1000 * number, 1000 * number + 999)


def told(values: Floats) -> Floats:
    """Return the sums of a summary of these rows."""
    return np.array([[len(values), values.sum(), (values**2).sum()]])


def raised(watch: Watch, blocks: Floats) -> list[tuple[int, Verdict]]:
    """Return the verdicts that are news, and at which summary: an alarm that stood not before, and its end."""
    found: list[tuple[int, Verdict]] = []
    stands = False
    for number, block in enumerate(blocks):
        if watch.fold(told(block), source(number)):
            verdict = watch.verdict(0)
            if verdict.stands != stands:
                stands = verdict.stands
                found.append((number, verdict))
    return found


def one(detector: str, apart: float) -> Floats:
    """Return the limits of one detector alone; the others never reach theirs."""
    needed = limits(apart, 0.0, BOUND)
    never = np.array([700.0, 1e9, 1e9])
    place = ["e-detector", "page-hinkley", "adwin"].index(detector)
    never[place] = [math.log(apart), page_limit(apart), math.log(apart)][place]
    needed[:3] = never
    return needed[None, :]


def losses(seed: int, summaries: int, storm: float = 0.0) -> Floats:
    """Return summaries of skewed losses of mean 0.3; with a storm the level of each is like that of the one before."""
    rng = np.random.default_rng(seed)
    level, levels = 0.0, []
    for step in rng.normal(0, storm, summaries):
        level = 0.8 * level + step
        levels.append(math.exp(level - storm**2 / 0.72))
    return np.minimum(rng.exponential(0.3, (summaries, ROWS)) * np.array(levels)[:, None], BOUND)


@pytest.mark.parametrize("detector", ["e-detector", "page-hinkley", "adwin"])
@pytest.mark.parametrize("storm", [0.0, 0.15])
def test_chance_raises_no_more_alarms_than_are_allowed(detector: str, storm: float) -> None:
    """Each detector alone, where nothing changes: no more than one alarm in `apart` summaries, storms or none.

    Page and Hinkley's limit takes means for normal; of losses, which are skewed, alarms are half as many again at most.
    """
    apart, summaries = 200, 8000
    allowed = summaries / apart * (1.5 if detector == "page-hinkley" else 1.0)
    found = raised(Watch(one(detector, apart), 1e9), losses(1, summaries, storm))
    assert sum(verdict.stands for _, verdict in found) <= allowed


def test_without_its_effect_a_storm_raises_alarms() -> None:
    """It is the rows' likeness, measured, that keeps storms from being alarms: taken as independent they are many."""
    assert raised_plainly(1) > 10 * 8000 / 200


def raised_plainly(seed: int) -> int:
    """Count alarms of the e-detector over stormy losses, each summary's bets settled as if rows were independent."""
    blocks, needed, count, wealth = losses(seed, 8000, 0.15), math.log(200), 0, np.zeros(len(d.BETS))
    for block in blocks:
        x = block / 0.3 - 1
        won = d.BETS * x.sum() - d.PSI * (x * x).sum()
        wealth = (1 + wealth) * np.exp(np.minimum(won, 50))
        if math.log(wealth.mean()) >= needed:
            count, wealth = count + 1, np.zeros(len(d.BETS))
    return count


@pytest.mark.parametrize("detector", ["e-detector", "page-hinkley", "adwin"])
def test_a_rise_is_found_and_dated(detector: str) -> None:
    """Losses that double are found within 1,000 rows by each detector, and dated to within 150 rows."""
    blocks = losses(2, 400)
    blocks[300:] *= 2
    (number, verdict), *_ = raised(Watch(one(detector, 2000), 1e9), blocks)
    assert verdict.alarm
    assert verdict.statistic == detector
    assert 300 <= number <= 320
    assert 297 <= verdict.since.offset // 10 <= 303
    assert verdict.since.time == 100 * verdict.since.offset
    assert verdict.before == pytest.approx(0.3, rel=0.1)
    assert verdict.after == pytest.approx(0.6, rel=0.3)


def test_a_fall_is_no_alarm() -> None:
    """A mean that falls by half raises nothing, and is what is normal soon after: back where it was, it has risen."""
    blocks = losses(3, 2400)
    blocks[300:2200] *= 0.4
    (number, verdict), *_ = raised(Watch(limits(2000, 0.05, BOUND)[None, :], 1e9), blocks)
    assert 2200 <= number < 2220
    assert verdict.before < 0.2


def test_what_is_over_is_calm_and_what_lasts_is_normal() -> None:
    """An alarm ends soon after its cause, and one that lasts for `settle` summaries is what is normal from then on."""
    blocks = losses(4, 1000)
    blocks[300:340] *= 3
    blocks[600:] *= 3
    settle = 100
    found = raised(Watch(limits(2000, 0.05, BOUND)[None, :], settle), blocks)
    assert [verdict.status for _, verdict in found] == [d.ALARM, d.CALM, d.ALARM, d.SETTLED]
    (began, _), (ended, _), (again, _), (settled, _) = found
    assert 300 <= began < 305
    assert 340 < ended <= 365
    assert 600 <= again < 605
    assert settled - again == settle - 1


def test_subjects_stand_side_by_side() -> None:
    """What rises for one subject says nothing of the others, and one without rows is let be."""
    watch = Watch(np.array([limits(2000, 0.05, BOUND)] * 3), 1e9)
    steady, rising = losses(5, 400), losses(6, 400)
    rising[300:] *= 3
    spoke = set()
    for number, (first, second) in enumerate(zip(steady, rising, strict=True)):
        watch.fold(np.concatenate([told(first), told(second), np.zeros((1, 3))]), source(number))
        spoke |= set(watch.speaking())
    assert spoke == {1}


def test_the_page_limit_is_the_one_whose_run_length_was_asked_for() -> None:
    """Siegmund's approximation holds: normal sums reach the limit about every `apart` summaries."""
    apart, limit = 500, page_limit(500)
    rng, runs, state = np.random.default_rng(7), 0, 0.0
    for z in rng.normal(0, 1, 200_000).tolist():
        state = max(state + z - d.DRIFT, 0.0)
        if state >= limit:
            runs, state = runs + 1, 0.0
    assert 200_000 / runs == pytest.approx(apart, rel=0.15)


def test_adwin_lets_the_old_part_of_its_window_go() -> None:
    """After a rise that it finds, ADWIN's window holds what came after it, and exact sums of that."""
    buckets, blocks = np.zeros((d.LEVELS, d.BUCKETS + 1, 3)), losses(8, 400)
    blocks[300:] *= 3
    for block in blocks:
        d._adwin(told(block)[0], 1.0, math.log(1e4), BOUND, buckets)
    kept = [buckets[level, place] for level in range(d.LEVELS) for place in range(int(buckets[level, d.BUCKETS, 0]))]
    rows, total, _ = np.sum(kept, axis=0)
    assert rows % ROWS == 0
    assert 90 * ROWS <= rows <= 116 * ROWS
    assert total == pytest.approx(blocks[-int(rows) // ROWS :].sum())


def test_the_baseline_does_not_learn_what_is_new() -> None:
    """While the newest LAG summaries cost four times as much, what was normal stays what it was; later it follows."""
    needed, blocks = one("adwin", 2000), losses(9, 360)
    needed[0, 2] = 1e9
    blocks[300:] *= 4
    watch, normal = Watch(needed, 1e9), []
    for number, block in enumerate(blocks):
        watch.fold(told(block), source(number))
        normal.append(watch.verdict(0).before)
    assert normal[300 + d.LAG] == pytest.approx(normal[299], rel=0.01)
    assert normal[-1] > 1.2 * normal[299]


def test_what_is_over_leaves_no_trace_in_the_detectors() -> None:
    """When an alarm ends, whichever detector raised it, all three begin anew."""
    watch, blocks = Watch(limits(2000, 0.05, BOUND)[None, :], 1e9), losses(10, 400)
    blocks[300:320] *= 3
    for number, block in enumerate(blocks):
        if watch.fold(told(block), source(number)) and watch.verdict(0).calm:
            assert not any(array.any() for array in watch._held[2:5])
            return
    pytest.fail("the alarm never ended")
