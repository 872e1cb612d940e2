"""The evidence that a model is better, or has turned bad: what it is, when it is enough, and how often it is wrong."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rollout.evidence import BETS, BOUND, CLIP, PSI, Evidence, Watch, log_losses

DIFFERENCES = st.lists(st.floats(-BOUND, BOUND) | st.sampled_from([0.0, 0.01, -0.01, 4.0, -4.0]), max_size=60)
FAIR = [(BOUND, 0.5), (-BOUND, 0.5)]
SKEWED = [(BOUND / 9, 0.9), (-BOUND, 0.1)]  # wins nine times in ten, and is fair all the same
MIXED = [(-BOUND / 9, 0.9), (BOUND, 0.1)]


def evidence(differences: Sequence[float], alpha: float = 0.05) -> Evidence:
    found = Evidence(alpha)
    found.fold(differences)
    return found


def watch(differences: Sequence[float], apart: float = 1000) -> Watch:
    found = Watch(apart)
    found.fold(differences)
    return found


def wealths(differences: Sequence[float]) -> list[float]:
    """Return the gamblers' mean wealth after each example, by multiplication."""
    owned, means = [1.0] * len(BETS), []
    for difference in differences:
        owned = [wealth * (1 + bet * difference / BOUND) for wealth, bet in zip(owned, BETS, strict=True)]
        means.append(sum(owned) / len(owned))
    return means


def detected(differences: Sequence[float]) -> list[float]:
    """Return what the e-detector says after each example, by its recursion (Shiryaev-Roberts)."""
    owned, means = [0.0] * len(BETS), []
    for difference in differences:
        owned = [(wealth + 1) * (1 - bet * difference / BOUND) for wealth, bet in zip(owned, BETS, strict=True)]
        means.append(sum(owned) / len(owned))
    return means


def first(values: Sequence[float], needed: float) -> int | None:
    return next((number for number, value in enumerate(values, 1) if value >= needed), None)


def games(outcomes: Sequence[tuple[float, float]], length: int) -> list[tuple[list[float], float]]:
    """Return every course that a game can take, each with its probability."""
    courses = list(product(outcomes, repeat=length))
    return [([x for x, _ in course], math.prod(p for _, p in course)) for course in courses]


# Losses


def test_the_loss_of_an_answer() -> None:
    """Minus the log of the probability that was given to what came true."""
    found = log_losses([0.25, 0.25, 0.9], [1, 0, True])
    assert found.tolist() == pytest.approx([-math.log(0.25), -math.log(0.75), -math.log(0.9)])


@pytest.mark.parametrize("surer", [0.01, 0.001, 0.0, -3.0, -math.inf])
def test_a_loss_has_bounds(surer: float) -> None:
    """Nothing costs more than BOUND, and being surer than CLIP pays no more."""
    most, least = -math.log(CLIP), -math.log(1 - CLIP)
    assert log_losses([surer, surer], [1, 0]).tolist() == pytest.approx([most, least])
    assert log_losses([1 - surer, 1 - surer], [1, 0]).tolist() == pytest.approx([least, most])
    assert log_losses([surer], [1])[0] <= BOUND


def test_no_number_costs_the_most() -> None:
    """A model that answers NaN is as wrong as can be, whatever the label."""
    assert log_losses([math.nan, math.nan], [0, 1]).tolist() == pytest.approx([BOUND, BOUND])


# Evidence


@given(DIFFERENCES, st.sampled_from([0.05, 0.3, 0.7]))
def test_evidence_is_the_gamblers_mean_wealth(differences: list[float], alpha: float) -> None:
    """It is what multiplication says, and enough at the first example where it reaches 1 / alpha."""
    expected, found = wealths(differences), evidence(differences, alpha)
    assert math.exp(found.log_wealth) == pytest.approx([1.0, *expected][-1], rel=1e-9)
    assert found.shown == first(expected, 1 / alpha)
    assert found.examples == len(differences)


@pytest.mark.parametrize(("outcomes", "alpha"), [(FAIR, 0.3), (SKEWED, 0.8), (MIXED, 0.7)])
def test_nobody_grows_rich_on_a_fair_game(outcomes: list[tuple[float, float]], alpha: float) -> None:
    """Over all courses of a fair game the mean wealth is 1, and few are ever shown to be won: at most alpha."""
    courses = games(outcomes, 8)
    found = [(evidence(course, alpha), chance) for course, chance in courses]
    assert sum(math.exp(one.log_wealth) * chance for one, chance in found) == pytest.approx(1)
    assert 0 < sum(chance for one, chance in found if one.shown) <= alpha


def test_enough_is_enough_at_the_bound() -> None:
    """Wealth of exactly 1 / alpha is enough, a little less is not."""
    reached = evidence([BOUND] * 3).log_wealth
    assert evidence([BOUND] * 3, math.exp(-reached) * (1 + 1e-12)).shown == 3
    assert evidence([BOUND] * 3, math.exp(-reached) * (1 - 1e-12)).shown is None


def test_what_was_shown_stays_shown() -> None:
    """The number of the example stays, whatever comes later."""
    found = evidence([1.0] * 30)
    number = found.shown
    found.fold([-4.0] * 50)
    assert found.shown == number == 28
    assert found.log_wealth < 0


def test_only_a_better_challenger_is_shown() -> None:
    """A worse one and an identical one never are."""
    assert evidence([0.1] * 5000).shown
    assert evidence([-0.1] * 5000).shown is None
    assert evidence([0.0] * 5000).shown is None
    assert evidence([0.0] * 5000).log_wealth == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, BOUND * 1.001, -BOUND * 1.001])
def test_what_is_no_difference_is_refused(wrong: float) -> None:
    """A bet on it could cost more than all; nothing is folded then."""
    for found in (evidence([1.0]), watch([1.0])):
        before = found.state()
        with pytest.raises(ValueError, match="clip the losses"):
            found.fold([0.5, wrong])
        assert found.state() == before


def test_the_bound_is_a_unit() -> None:
    """Differences twice as large with a bound twice as large are the same evidence, and twice the nats."""
    one, two = Evidence(0.05, 1.0), Evidence(0.05, 2.0)
    one.fold([0.5, -0.25, 1.0])
    two.fold([1.0, -0.5, 2.0])
    assert one.state() == two.state()
    assert two.mean == 2 * one.mean == pytest.approx(2.5 / 3)
    assert two.interval(0.9) == pytest.approx([2 * end for end in one.interval(0.9)])


# The interval


def test_the_inequality_behind_the_interval() -> None:
    """The exponential is below the bet for every difference (Fan et al.), and touches it at 0."""
    x = np.linspace(-1, 1, 2001)[:, None]
    assert (np.exp(BETS * x - PSI * x * x) <= 1 + BETS * x + 1e-12).all()
    assert np.exp(-BETS - PSI).tolist() == pytest.approx((1 - BETS).tolist())  # as tight as can be


@given(DIFFERENCES.filter(len), st.sampled_from([0.01, 0.05, 0.9]))
def test_the_interval_is_the_best_gamblers(differences: list[float], alpha: float) -> None:
    """Around the mean, as far as the best of the bets allows that share alpha; never beyond the bound."""
    n, squares = len(differences), sum((x / BOUND) ** 2 for x in differences)
    mean = sum(differences) / n
    radius = min((math.log(2 * len(BETS) / alpha) + p * squares) / b / n for b, p in zip(BETS, PSI, strict=True))
    low, high = evidence(differences).interval(alpha)
    assert low == pytest.approx(max(mean - radius * BOUND, -BOUND), abs=1e-9)
    assert high == pytest.approx(min(mean + radius * BOUND, BOUND), abs=1e-9)


@given(st.lists(st.floats(-1, BOUND), min_size=1, max_size=40), st.integers(1, 200))
def test_an_interval_above_0_was_shown(differences: list[float], times: int) -> None:
    """What a person reads and what the gate does never contradict each other."""
    found = evidence(differences * times, 0.05)
    if found.interval(0.05)[0] > 0:
        assert found.shown


def test_no_examples_no_interval() -> None:
    """Before the first example anything is possible."""
    assert evidence([]).interval(0.05) == (-BOUND, BOUND)
    assert evidence([]).mean == 0


def test_the_interval_holds_the_truth_at_every_look() -> None:
    """Rare large losses, a mean of -0.1: outside at any of 40 looks in fewer than alpha of the runs, and narrow."""
    rng = np.random.default_rng(3)
    outside, runs = 0, 100
    for _ in range(runs):
        found, missed = Evidence(0.05), False
        for _ in range(40):
            found.fold(np.where(rng.random(100) < 0.1, -4.0, 1 / 3))
            low, high = found.interval(0.2)
            missed |= not low <= -0.1 <= high
        outside += missed
    assert outside <= 0.2 * runs
    assert high - low < 0.25


# The watch


@settings(max_examples=200)
@given(DIFFERENCES, st.sampled_from([2.5, 20.3, 1000.1]))
def test_the_watch_is_a_shiryaev_roberts_detector(differences: list[float], apart: float) -> None:
    """The alarm comes at the first example where the recursion reaches `apart`."""
    assert watch(differences, apart).alarm == first(detected(differences), apart)


@pytest.mark.parametrize(("outcomes", "apart"), [(FAIR, 20.1), (SKEWED, 20.1), (MIXED, 8.5)])
def test_alarms_are_far_apart_in_a_fair_game(outcomes: list[tuple[float, float]], apart: float) -> None:
    """The detector's mean is the number of examples, so an alarm within n has a chance of at most n / apart."""
    n = 8
    courses = games(outcomes, n)
    assert sum(detected(course)[-1] * chance for course, chance in courses) == pytest.approx(n)
    assert 0 < sum(chance for course, chance in courses if watch(course, apart).alarm) <= n / apart


@given(DIFFERENCES, DIFFERENCES)
def test_a_good_time_is_no_capital(history: list[float], then: list[float]) -> None:
    """Whatever was before, an alarm comes no later than it would have without."""
    apart = 300.7
    fresh, found = watch(then, apart).alarm, watch(history + then, apart).alarm
    assert fresh is None or (found is not None and found <= len(history) + fresh)


def test_a_long_good_time_changes_nothing() -> None:
    """After 200,000 examples that it won, a model that turns bad is found as soon as a new one."""
    good = watch([0.5] * 200_000, 1e6)
    assert good.alarm is None
    fresh = watch([-2.0] * 100, 1e6).alarm
    good.fold([-2.0] * 100)
    assert fresh
    assert good.alarm
    assert fresh - 5 <= good.alarm - 200_000 <= fresh


def test_the_first_alarm_stays() -> None:
    """Later examples change nothing about when it was."""
    found = watch([-4.0] * 30)
    number = found.alarm
    found.fold([-4.0] * 30)
    assert found.alarm == number == first(detected([-4.0] * 30), 1000)
