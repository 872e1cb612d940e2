"""The columns of a batch of events, made when they are first asked for."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
LARGEST = float(np.finfo(np.float32).max)


class Batch:
    """The columns of a batch: event times in microseconds, which events still join the state, and fields on demand."""

    def __init__(self, column: Callable[[str], list[Any]], times: NDArray[np.int64], joins: NDArray[np.bool_]) -> None:
        self._column = column
        self.times = times
        self.joins = joins
        self._numbers: dict[str, Floats] = {}

    def __len__(self) -> int:
        return len(self.times)

    def objects(self, field: str) -> list[Any]:
        return self._column(field)

    def numbers(self, field: str) -> Floats:
        """Return a field as float64, NaN where it is null; no number is larger than float32 has."""
        if field not in self._numbers:
            self._numbers[field] = np.clip(_floats(self.objects(field)), -LARGEST, LARGEST)
        return self._numbers[field]


def _floats(objects: list[Any]) -> Floats:
    try:
        return np.fromiter(objects, np.float64, len(objects))
    except TypeError:  # a null, which only the slower way takes
        return np.array(objects, np.float64)
