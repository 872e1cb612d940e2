"""Which columns of a stream's vector are watched, and how: numbers, one-hot blocks, what models said.

The hour and the weekday are left out: they say when an event happened, and that is the volume's matter.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.runtime.grammar import Hour, OneHot, Operator, Value, Weekday
from services.runtime.stream import Stream

Floats: TypeAlias = NDArray[np.float32]
SCORES = ("served", "online")  # what was served, and what the online model said
NONE = "none"  # the value of a one-hot feature of which no column is hot


class Layout:
    """`numbers` names the watched numbers, features first and `SCORES` last; `hots` the values of one-hot features.

    `places` and `defaults` are of the features among the numbers; `blocks` is where a one-hot feature stands in the
    vector, `spans` where its counts stand among all counts (the last is of NONE).
    """

    def __init__(self, stream: Stream) -> None:
        features = stream.pipeline.features
        watched = {
            column: (operator, stream.columns.index(column))
            for name, operator in features.items()
            if not isinstance(operator, Hour | Weekday | OneHot)
            for column in operator.columns(name)
        }
        self.features = tuple(watched)
        self.numbers = (*watched, *SCORES)
        timed = [
            column for name, op in features.items() if isinstance(op, Hour | Weekday) for column in op.columns(name)
        ]
        self.watched = np.array([place for place, name in enumerate(stream.columns) if name not in timed], np.int64)
        self.places = np.array([place for _, place in watched.values()], np.int64)
        self.defaults = np.array([operator.default for operator, _ in watched.values()], np.float32)
        self.fields = {name: _field(operator) for name, (operator, _) in watched.items()}
        self.direct = {name for name, (operator, _) in watched.items() if isinstance(operator, Value)}
        self.hots = {name: _values(op, name) for name, op in features.items() if isinstance(op, OneHot)}
        self.blocks, self.spans, at = {}, {}, 0
        for name, values in self.hots.items():
            first = stream.columns.index(f"{name}={values[0]}")
            self.blocks[name] = slice(first, first + len(values) - 1)
            self.spans[name] = slice(at, at + len(values))
            at += len(values)
        self.width, self.hot_width = len(stream.columns), at
        self.slices = stream.pipeline.drift.slices
        self.sliced = [f"{name}={value}" for name in self.slices for value in self.hots[name]]


def _field(operator: Operator) -> str:
    """Return the field of the event that a feature is made of; "" where it is of the time alone."""
    return getattr(operator, "of", "")


def _values(operator: OneHot, name: str) -> list[str]:
    return [column.removeprefix(f"{name}=") for column in operator.columns(name)] + [NONE]
