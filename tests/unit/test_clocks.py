"""When a record's clock is wrong: a time ahead of the moment at which the broker took the record."""

import numpy as np
import pytest

from services.runtime.clocks import ahead

HOUR = 3_600_000_000
NOON_MS = 1_357_387_200_000  # 2013-01-05T12:00:00Z
NOON = NOON_MS * 1000


def refused(times: list[int], written: list[int], allowance: int = HOUR) -> list[int]:
    return list(ahead(np.array(times, np.int64), written, allowance))


def test_the_allowance_counts_to_its_last_microsecond() -> None:
    """A time exactly the allowance ahead is good, one microsecond more is refused; the past never is."""
    times = [NOON - 50 * 365 * 24 * HOUR, NOON, NOON + HOUR, NOON + HOUR + 1]
    assert refused(times, [NOON_MS] * 4) == [3]


def test_each_is_held_against_its_own_record() -> None:
    """The same time is good in a record that was written later, and one record's clock costs no other anything."""
    assert refused([NOON + 2 * HOUR] * 3, [NOON_MS, NOON_MS + 3_600_000, NOON_MS]) == [0, 2]
    assert refused([], []) == []


@pytest.mark.parametrize("unknown", [0, -1, -(2**63)])
def test_an_unknown_timestamp_refuses_nothing(unknown: int) -> None:
    """Where the log keeps no timestamps there is nothing to be ahead of."""
    assert refused([253_402_300_799_999_999], [unknown]) == []


def test_no_number_of_a_broker_overflows() -> None:
    """The widest times and timestamps that there are compare as numbers do."""
    first, last = -62_135_596_800_000_000, 253_402_300_799_999_999  # years 1 and 9999
    assert refused([first, last, first, last], [2**63 - 1, 2**63 - 1, 1, 1]) == [3]


def test_the_reason_says_what_was_found_and_what_would_be_right() -> None:
    """The refusal is named `clock`, with the time that was found, the broker's, and the allowance."""
    [why] = ahead(np.array([NOON + 2 * HOUR], np.int64), [NOON_MS], HOUR).values()
    assert why.reason == "clock"
    assert str(why) == (
        "Expected a time at most 3600 s ahead of when the record was written, 2013-01-05T12:00:00.000Z,"
        " got 2013-01-05T14:00:00.000000Z"
    )
