"""Head sampling: never more than the rate says, whatever the clock and the traffic do, and all events of a key."""

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.sampling import Budget, first_of, keys

steps = st.lists(st.floats(0, 3), max_size=60)


@given(st.floats(0.1, 50), steps, st.integers(1, 4))
def test_no_more_than_the_rate_is_ever_taken(rate: float, steps: list[float], tries: int) -> None:
    """In any span of time at most a second's worth and what the span allows is taken."""
    budget, now, taken = Budget(rate), 100.0, list[float]()
    for step in steps:
        now += step
        taken += [now for _ in range(tries) if budget.take(now)]
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= max(1.0, rate) + rate * (taken[last] - taken[first]) + 1e-6


@given(st.floats(0.5, 50), st.integers(1, 30))
def test_the_rate_is_reached(rate: float, seconds: int) -> None:
    """Who asks often enough is given all that the rate says."""
    budget = Budget(rate)
    times = [at / 200 for at in range(200 * seconds)]
    assert sum(budget.take(at) for at in times) >= int(rate * seconds) - 1


@given(steps)
def test_a_rate_of_nothing_begins_nothing(steps: list[float]) -> None:
    """At rate 0 nothing is ever taken."""
    budget = Budget(0.0)
    assert not any(budget.take(sum(steps[:place])) for place in range(len(steps)))


@given(st.integers(0, 100))
def test_what_others_began_counts(count: int) -> None:
    """What was spent is not there to be taken, and nothing is owed for more than there was."""
    budget = Budget(10.0)
    budget.spend(count, 5.0)
    assert budget.whole(5.0) == max(0, 10 - count)
    assert budget.whole(6.0) == min(10, max(0, 10 - count) + 10)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """A time before the last one adds nothing."""
    budget = Budget(1.0)
    assert budget.take(10.0)
    assert not budget.take(3.0)
    assert not budget.take(10.5)
    assert budget.take(11.0)


@given(st.lists(st.sampled_from([b"JFK", b"LGA", b"EWR", None]), max_size=30), st.integers(0, 5), st.booleans())
def test_all_events_of_a_key_are_followed_and_a_few_others(found: list[bytes | None], left: int, named: bool) -> None:  # noqa: FBT001
    """Those of the keys, in their order, and the first others that there is room for."""
    wanted = keys(" JFK, LGA,") if named else keys("")
    chosen = first_of(wanted, found, left)
    others = [place for place, key in enumerate(found) if key not in wanted]
    assert chosen == sorted(chosen)
    assert {place for place in chosen if found[place] in wanted} == {
        place for place, key in enumerate(found) if key in wanted
    }
    assert [place for place in chosen if found[place] not in wanted] == others[:left]
