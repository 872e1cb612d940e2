"""Clocks that are wrong: a time far ahead of when its record was written would make everything after it late."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import Reject

_LAST_MS = 253_402_300_800_000  # the year 10000: whatever a broker says, microseconds of it fit


def ahead(times_us: NDArray[np.int64], timestamps_ms: Sequence[int], allowance_us: int) -> dict[int, Reject]:
    """Return, by index, which times are more than the allowance ahead of their record's timestamp.

    Times are microseconds, timestamps milliseconds since 1970; one that is not above 0 is unknown, and nothing is held
    against it. Each is judged alone, so a batch may be cut anywhere.
    """
    written = np.minimum(np.array(timestamps_ms, np.int64), _LAST_MS)
    wrong = (written > 0) & (times_us - written * 1000 > allowance_us)
    return {row: _wrong(int(times_us[row]), int(written[row]), allowance_us) for row in np.flatnonzero(wrong).tolist()}


def _wrong(time_us: int, written_ms: int, allowance_us: int) -> Reject:
    found, written = np.datetime64(time_us, "us"), np.datetime64(written_ms, "ms")
    expected = f"a time at most {allowance_us / 1e6:g} s ahead of when the record was written, {written}Z"
    return Reject("clock", f"Expected {expected}, got {found}Z")
