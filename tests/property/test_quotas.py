"""Quotas: what a token bucket lets through, and that waiting as long as it says is always enough."""

import math

from hypothesis import given
from hypothesis import strategies as st

from services.ingestion.keys import Caller, Denied, Producer
from services.ingestion.quotas import Bucket, Quotas

rates = st.floats(0.1, 1e6)
costs = st.integers(1, 100_000)
steps = st.lists(st.tuples(st.floats(0, 5), costs), min_size=1, max_size=60)


@given(rates, steps)
def test_the_rate_holds_over_any_time(rate: float, asked: list[tuple[float, int]]) -> None:
    """From any request that is let in to any later one: `rate · T`, a second's worth, and one request, no more."""
    bucket, now, let = Bucket(rate, 0.0), 0.0, list[tuple[float, int]]()
    for passed, cost in asked:
        now += passed
        if bucket.wait(cost, now) == 0:
            bucket.take(cost)
            let.append((now, cost))
    for first, (start, _) in enumerate(let):
        took = 0
        for at, cost in let[first:]:
            took += cost
            assert took <= rate * (at - start) + max(1.0, rate) + cost + 1e-3 * rate


@given(rates, steps)
def test_waiting_as_long_as_it_says_is_enough(rate: float, asked: list[tuple[float, int]]) -> None:
    """Whoever comes alone and waits is let in then, a request that is larger than the bucket too."""
    bucket, now = Bucket(rate, 0.0), 0.0
    for passed, cost in asked:
        now += passed
        now += bucket.wait(cost, now)
        assert bucket.wait(cost, now) == 0
        bucket.take(cost)


@given(st.floats(0.1, 1e5), st.floats(1, 1e9))
def test_nothing_is_saved_up(rate: float, idle: float) -> None:
    """However long nobody came, a second's worth is there, and not twice as much."""
    bucket = Bucket(rate, 0.0)
    bucket.wait(1, idle)
    bucket.take(math.ceil(max(1.0, rate)))
    assert bucket.wait(1, idle) > 0


def caller(producer: str, records_s: float | None, bytes_s: float | None, key: str = "0" * 12) -> Caller:
    return Caller(key, producer, Producer(["events:write"], ["*"], records_s, bytes_s))


def test_both_quotas_hold_and_the_refusal_names_which() -> None:
    """429 says which of the two was exceeded and when it is worth another try; what is refused costs nothing."""
    quotas, mine = Quotas(), caller("a", 10, 1000)
    assert quotas.charge(mine, 10, 500, 0.0) is None
    many, large = quotas.charge(mine, 5, 1, 0.0), quotas.charge(mine, 0, 1000, 0.0)
    assert isinstance(many, Denied)
    assert (many.status, many.reason, many.after_s) == (429, "records", 0.5)
    assert isinstance(large, Denied)
    assert (large.reason, large.after_s) == ("bytes", 0.5)
    assert quotas.charge(mine, 5, 1, 0.5) is None


def test_a_quota_is_of_a_producer() -> None:
    """All keys of a producer share it, others have their own, and whoever has none is never refused."""
    quotas = Quotas()
    assert quotas.charge(caller("a", 1, None, "1" * 12), 1, 0, 0.0) is None
    assert quotas.charge(caller("a", 1, None, "2" * 12), 1, 0, 0.0) is not None
    assert quotas.charge(caller("b", 1, None), 1, 0, 0.0) is None
    for free in (caller("c", None, None), Caller()):
        assert quotas.charge(free, 10**9, 10**12, 0.0) is None


def test_a_new_quota_is_in_force_at_once() -> None:
    """A producer whose quota was raised sends that much from now on; a look costs nothing."""
    quotas = Quotas()
    assert quotas.charge(caller("a", 1, None), 1, 0, 0.0) is None
    assert quotas.over(caller("a", 1, None), 1, 0, 0.0) is not None
    for _ in range(3):
        assert quotas.over(caller("a", 100, None), 100, 0, 0.0) is None
    assert quotas.charge(caller("a", 100, None), 100, 0, 0.0) is None
    assert quotas.over(caller("a", 100, None), 1, 0, 0.0) is not None
