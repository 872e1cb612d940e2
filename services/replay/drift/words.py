"""Times, spans and numbers as a person reads them."""

import datetime as dt
import math

SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000  # µs
NONE = "\N{EN DASH}"
_UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"))
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST = 253_402_300_799_999_999  # what a date can say: the end of the year 9999
_SMALL, _LARGE = 1e-4, 1e7


def moment(micros: int) -> str:
    """Return a time to the minute, or to the second where it has one."""
    shown = _EPOCH + dt.timedelta(microseconds=min(max(micros, 0), _LATEST))
    return f"{shown:%Y-%m-%d %H:%M}Z" if shown.second == 0 else f"{shown:%Y-%m-%d %H:%M:%S}Z"


def lasting(micros: float) -> str:
    """Return how long in its two largest units: 3 d 4 h."""
    left, parts = round(micros), list[str]()
    if left < SECOND:
        return f"{left / 1000:.0f} ms"
    for unit, name in _UNITS:
        count, rest = divmod(left, unit)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
            left = rest
        if len(parts) == 2:  # noqa: PLR2004
            break
    return " ".join(filter(None, parts))


def roughly(micros: float) -> str:
    """Return how long to two digits, for what is known to 2 %: 30 min."""
    unit, name = next(((unit, name) for unit, name in _UNITS if micros >= 2 * unit), (1000, "ms"))
    return f"{number(micros / unit, 2)} {name}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number to so many digits that tell; NONE where there is none."""
    if value is None or math.isnan(value):
        return NONE
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not _SMALL <= abs(value) < _LARGE:
        return f"{value:.{digits}g}"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def loss(value: float | None) -> str:
    """Return a log loss: always as many places, to be compared at a glance."""
    return NONE if value is None or math.isnan(value) else f"{value:.3f}"


def share(value: float | None) -> str:
    if value is None or math.isnan(value):
        return NONE
    percent = 100 * value
    if percent in (0, 100) or 10 <= percent <= 99:  # noqa: PLR2004
        return f"{percent:.0f} %"
    return f"{min(percent, 99.9):.1f} %" if percent > 99 else f"{percent:.2g} %"  # noqa: PLR2004 - not quite all


def named(names: list[str], most: int = 3) -> str:
    """Join names: a, b and c; a, b, c and 4 more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
