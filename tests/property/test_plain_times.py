"""The fast reading of times agrees with the slow one, or leaves the column to it."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.features.times import plain_times

SECONDS = st.datetimes().map(lambda at: at.replace(microsecond=0).isoformat() + "Z")
DIGITS = st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", fullmatch=True)


def slow(texts: list[str]) -> list[int]:
    return pa.array(texts, pa.string()).cast(pa.timestamp("us", tz="UTC")).view(pa.int64()).to_pylist()


@given(st.lists(SECONDS, max_size=20))
def test_it_reads_what_it_should(texts: list[str]) -> None:
    """Seconds in UTC, of any year, are read as Arrow reads them."""
    times = plain_times(texts)
    assert times is not None
    assert times.tolist() == slow(texts)


@given(st.lists(st.one_of(SECONDS, DIGITS, st.text(max_size=21), st.none()), min_size=1, max_size=4))
def test_it_reads_nothing_else(texts: list[str | None]) -> None:
    """A text is read as Arrow reads it, or the whole column is left."""
    times = plain_times(texts)
    if times is not None:
        assert None not in texts
        assert times.tolist() == slow([str(text) for text in texts])


@pytest.mark.parametrize("month", range(1, 13))
@pytest.mark.parametrize("year", [1, 4, 100, 400, 1900, 1970, 2000, 2012, 2013, 9999])
def test_every_month_ends_where_it_should(year: int, month: int) -> None:
    """The last day of a month is read and the next number is left, in leap years and others."""
    first = np.datetime64(f"{year:04}-{month:02}", "M")
    days = int(((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(int))
    last = f"{year:04}-{month:02}-{days:02}T23:59:59Z"
    times = plain_times([last])
    assert times is not None
    assert times.tolist() == slow([last])
    assert plain_times([f"{year:04}-{month:02}-{days + 1:02}T00:00:00Z"]) is None
    assert plain_times([f"{year:04}-{month:02}-00T00:00:00Z"]) is None


@pytest.mark.parametrize(
    "text",
    [
        "0000-01-01T00:00:00Z",
        "2013-00-01T00:00:00Z",
        "2013-13-01T00:00:00Z",
        "2013-01-01T24:00:00Z",
        "2013-01-01T00:60:00Z",
        "2013-01-01T00:00:60Z",
        "2013-01-01t00:00:00z",
        "2013-01-01 00:00:00Z",
        "2013-01-01T00:00:00.5Z",
        "2013-01-01T00:00:00Z\n",
        "2013-01-01T00:00:0\u0660Z",
        "\ud800013-01-01T00:00:00Z",
    ],
)
def test_other_forms_are_left(text: str) -> None:
    """What is no time, or a time in another form, is for the slower reader to judge."""
    assert plain_times([text]) is None
    assert plain_times(["2013-01-01T00:00:00Z", text]) is None
