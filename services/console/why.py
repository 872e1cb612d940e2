"""Says in words how a feature came to its value. Pure."""

from services.runtime.grammar import (
    Count,
    Ewma,
    Hour,
    Lag,
    Max,
    Mean,
    Min,
    OneHot,
    Operator,
    Rate,
    SinceLast,
    Std,
    Sum,
    Value,
    Weekday,
)
from services.runtime.stream import Stream

_OVER = {Sum: "the sum", Mean: "the mean", Std: "the standard deviation", Min: "the least", Max: "the greatest"}


def reasons(stream: Stream) -> dict[str, str]:
    """Return for each column of the vector why it is what it is."""
    return {
        column: _say(operator, column.removeprefix(name).lstrip("=_"), stream.key)
        for name, operator in stream.pipeline.features.items()
        for column in operator.columns(name)
    }


def fields(stream: Stream) -> dict[str, str]:
    """Return for each column the field of the event that it is made of, if it is of one."""
    return {
        column: getattr(operator, "of", "")
        for name, operator in stream.pipeline.features.items()
        for column in operator.columns(name)
    }


def _say(operator: Operator, part: str, key: str) -> str:  # noqa: PLR0911 - a word for each
    match operator:
        case Value():
            return f"the event's own {operator.of}"
        case OneHot():
            return f"1 where {operator.of} is {'none of the named' if part == 'other' else part}"
        case Hour():
            return f"the time of day, {part} of its place on the circle"
        case Weekday():
            return f"the time of week, {part} of its place on the circle"
        case Lag():
            return f"{operator.of} of the event {operator.n} before, same {_group(operator.by, key)}"
        case SinceLast():
            return f"seconds since the event before, same {_group(operator.by, key)}"
        case Ewma():
            return f"the mean of {operator.of}, halved every {operator.half_life.text}, same {_group(operator.by, key)}"
        case Count():
            return f"events within {operator.window.text}, same {_group(operator.by, key)}"
        case Rate():
            return f"events a second within {operator.window.text}, same {_group(operator.by, key)}"
        case _:
            how = f"{_OVER[type(operator)]} of {operator.of} within {operator.window.text}"
            return f"{how}, same {_group(operator.by, key)}"


def _group(by: list[str] | None, key: str) -> str:
    return " and ".join(by or [key])
