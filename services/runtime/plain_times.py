"""Parses columns of times in the commonest form, `2013-01-05T14:02:00Z`, in a few passes over their bytes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LENGTH = 20
_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_MARKS = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", 19: "Z"}
_MARK_PLACES, _MARK_BYTES = list(_MARKS), np.frombuffer("".join(_MARKS.values()).encode(), np.uint8)


def plain_utc(texts: Sequence[str]) -> NDArray[np.int64] | None:
    """Return microseconds since 1970, or None unless every text is a valid time of just this form."""
    joined = "".join(texts)
    if not joined.isascii() or set(map(len, texts)) != {LENGTH}:
        return None
    letters = np.frombuffer(joined.encode(), np.uint8).reshape(-1, LENGTH)
    digits = letters[:, _DIGITS] - ord("0")  # below "0" wraps round to a large number
    if (digits > 9).any() or (letters[:, _MARK_PLACES] != _MARK_BYTES).any():  # noqa: PLR2004 - a digit
        return None
    return _since_1970(digits.astype(np.int64))


def _since_1970(digits: NDArray[np.int64]) -> NDArray[np.int64] | None:
    century, year, month, day, hour, minute, second = (digits[:, ::2] * 10 + digits[:, 1::2]).T
    months = (century * 100 + year - 1970) * 12 + month - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    following = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (day <= following - first)  # noqa: PLR2004 - months
    valid &= (hour <= 23) & (minute <= 59) & (second <= 59) & (century + year > 0)  # noqa: PLR2004 - a day's parts
    if not valid.all():
        return None
    seconds = (((first + day - 1) * 24 + hour) * 60 + minute) * 60 + second
    micros: NDArray[np.int64] = seconds * 1_000_000
    return micros
