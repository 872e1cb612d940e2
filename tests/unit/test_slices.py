"""A challenger that ruins a slice is held back, with the slice named."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rollout.evidence import BOUND, Evidence
from services.rollout.slices import OTHER, Slices

CARRIERS = st.lists(st.tuples(st.floats(-BOUND, BOUND), st.sampled_from("ABCDE"), st.sampled_from("xyz")), max_size=50)


def ruined(value: str) -> tuple[list[float], dict[str, list[str]]]:
    """Return differences of a challenger that is better for three carriers and much worse for the fourth."""
    carriers = ["UA", "B6", "DL", value] * 300
    return [-0.3 if carrier == value else 0.5 for carrier in carriers], {"carrier": carriers}


def test_a_ruined_slice_is_named() -> None:
    """It wins on average, and the one slice where it loses is named with what it loses there."""
    differences, values = ruined("EV")
    overall, slices = Evidence(0.05), Slices(["carrier"], 0.05, 20)
    overall.fold(differences)
    slices.fold(differences, values)
    assert overall.shown
    (worse,) = slices.worse()
    assert (worse.field, worse.value, worse.examples) == ("carrier", "EV", 300)
    assert 0 < worse.low < 0.3 < worse.high < BOUND


def test_a_challenger_that_is_better_everywhere_is_not_held_back() -> None:
    """Where nothing is worse no slice is named, nor where nothing differs."""
    for difference in (0.2, 0.0):
        slices = Slices(["carrier"], 0.05, 20)
        slices.fold([difference] * 1000, {"carrier": ["UA", "EV"] * 500})
        assert slices.worse() == []


def test_what_was_shown_stays_shown() -> None:
    """A slice that was ruined holds the challenger back although it does better there later."""
    differences, values = ruined("EV")
    slices = Slices(["carrier"], 0.05, 20)
    slices.fold(differences, values)
    slices.fold([2.0] * 1000, {"carrier": ["EV"] * 1000})
    assert [worse.value for worse in slices.worse()] == ["EV"]


@given(CARRIERS, st.integers(1, 6))
def test_each_slice_is_evidence_of_its_own(rows: list[tuple[float, str, str]], most: int) -> None:
    """A slice is the evidence of its examples alone, turned round, at its level; those after the first share one."""
    alpha = 0.9
    slices = Slices(["carrier", "origin"], alpha, most)
    differences, carriers, origins = map(list, zip(*rows, strict=True)) if rows else ([], [], [])
    slices.fold(differences, {"carrier": carriers, "origin": origins, "ignored": []})
    for field, values in (("carrier", carriers), ("origin", origins)):
        known = list(dict.fromkeys(values))[:most]
        names = [value if value in known else OTHER for value in values]
        expected = {}
        for place, name in enumerate(dict.fromkeys(names), 1):
            one = Evidence(alpha / 2 * 6 / math.pi**2 / place**2)
            one.fold([-x for x, value in zip(differences, names, strict=True) if value == name])
            expected[name] = one
        assert slices.state()[field] == {name: one.state() for name, one in expected.items()}
        assert list(slices.state()[field]) == list(expected)
        found = [(worse.value, worse.examples) for worse in slices.worse() if worse.field == field]
        assert found == [(name, one.examples) for name, one in expected.items() if one.shown]


def test_levels_add_up_to_alpha() -> None:
    """However many slices come, the chances of naming one falsely add up to no more than alpha."""
    slices = Slices(["carrier", "origin"], 0.05, 1000)
    levels = [slices._level(place) for place in range(1, 100_000)]
    assert 0.0499 < 2 * sum(levels) < 0.05
    assert levels[0] > levels[1]


def test_the_level_of_a_slice_is_its_place() -> None:
    """The first value of a field needs the least evidence, each later one more; its interval is as sure."""
    names = list("ABCDEFGH")
    slices = Slices(["carrier", "origin"], 0.05, 20)
    slices.fold([-0.5] * 8 * 200, {"carrier": names * 200, "origin": ["x"] * 8 * 200})
    expected = []
    for place in range(1, 9):
        one = Evidence(0.05 / 2 * 6 / math.pi**2 / place**2)
        one.fold([0.5] * 200)
        expected.append((one.shown, one.interval(0.05 / 2 * 6 / math.pi**2 / place**2)))
    assert [held.shown for held in slices.state()["carrier"].values()] == [shown for shown, _ in expected]
    assert len({shown for shown, _ in expected}) == 8
    assert [(worse.low, worse.high) for worse in slices.worse()[:8]] == [pytest.approx(ends) for _, ends in expected]


def test_slices_are_bounded() -> None:
    """A field with a value of its own for each event has so many slices and one more; a value "other" is in that."""
    slices = Slices(["carrier"], 0.05, 3)
    names = [str(number) for number in range(1000)]
    slices.fold([-1.0] * 1000, {"carrier": names})
    slices.fold([-1.0] * 2, {"carrier": [OTHER, "2"]})
    state = slices.state()["carrier"]
    assert {name: held.examples for name, held in state.items()} == {"0": 1, "1": 1, "2": 2, OTHER: 998}
    assert [worse.value for worse in slices.worse()] == [OTHER]


@pytest.mark.parametrize("fields", [[], ["carrier"]])
def test_what_is_no_difference_is_refused(fields: list[str]) -> None:
    """Then nothing is folded, and no slice begins; so too if a value is missing."""
    slices = Slices(fields, 0.05, 20)
    with pytest.raises(ValueError, match="clip the losses"):
        slices.fold([1.0, 99.0], {"carrier": ["UA", "B6"]})
    if fields:
        with pytest.raises(ValueError, match="2 differences need as many"):
            slices.fold([1.0, 1.0], {"carrier": ["UA"]})
    assert slices.state() == {field: {} for field in fields}


def test_few_slices_are_named_where_none_is_worse() -> None:
    """Equal models, ten slices: at least one is named in fewer than alpha of the runs, looked at at any time."""
    rng = np.random.default_rng(5)
    named = 0
    for _ in range(60):
        slices = Slices(["carrier"], 0.3, 20)
        slices.fold(rng.choice([-BOUND, BOUND], 2000), {"carrier": rng.choice(list("ABCDEFGHIJ"), 2000).tolist()})
        named += bool(slices.worse())
    assert 0 < named <= 0.3 * 60
