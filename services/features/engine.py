"""The columnar feature engine: columns of a batch in, a float32 matrix out, state per group in arrays.

The plan is made once from the pipeline: features that share a grouping share its index, features that share a window
share its panes, and each number is accumulated once however many features read it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.features import kernels
from services.features.columns import Batch, Floats
from services.features.state import Group, Recent, Windows
from services.runtime.grammar import (
    UNITS_US,
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

FLOAT32_MAX = float(np.finfo(np.float32).max)
MONDAY = 3 * UNITS_US["d"]  # 1970-01-01 was a Thursday


class Engine:
    """Folds batches of one partition. The same events in the same order give the same bytes, however they are cut."""

    def __init__(self, stream: Stream) -> None:
        rule = stream.pipeline.stream
        self._lateness = rule.lateness.us
        self._newest = kernels.NEVER
        self._groups: dict[tuple[str, ...], Group] = {}
        self._windows: dict[tuple[tuple[str, ...], int], Windows] = {}
        self._width = len(stream.columns)
        self._defaults = np.zeros((self._width, 1))
        self._fill: list[tuple[slice, Callable[[Batch, Floats], None]]] = []
        at = 0
        for name, operator in stream.pipeline.features.items():
            place = slice(at, at := at + len(operator.columns(name)))
            self._defaults[place] = operator.default
            self._fill.append((place, self._plan(operator, (stream.key,))))
        for windows in self._windows.values():
            windows.seal()

    def fold(
        self, column: Callable[[str], list[Any]], times: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors (events, columns) and which events were late; the state moves past the batch."""
        late, self._newest = kernels.mark_late(times, self._lateness, self._newest)
        batch = Batch(column, times, ~late)
        for group in self._groups.values():
            group.locate(batch)
        for windows in self._windows.values():
            windows.fold(batch)
        out = np.zeros((self._width, len(batch)))
        for place, fill in self._fill:
            fill(batch, out[place])
        return self._finish(out), late

    def _finish(self, out: Floats) -> NDArray[np.float32]:
        missing = np.isnan(out)
        if missing.any():
            np.copyto(out, self._defaults, where=missing)
        np.clip(out, -FLOAT32_MAX, FLOAT32_MAX, out=out)
        return np.ascontiguousarray(out.T, np.float32)

    # The plan: each operator becomes a function that fills its rows of the (columns, events) matrix

    def _plan(self, operator: Operator, key: tuple[str, ...]) -> Callable[[Batch, Floats], None]:
        match operator:
            case Value():
                return lambda batch, out: np.copyto(out[0], batch.numbers(operator.of))
            case OneHot():
                return _one_hot(operator)
            case Hour():
                return lambda batch, out: kernels.circle(batch.times, UNITS_US["d"], 0, out[0], out[1])
            case Weekday():
                return lambda batch, out: kernels.circle(batch.times, UNITS_US["w"], MONDAY, out[0], out[1])
            case Lag() | SinceLast() | Ewma():
                group = self._group(tuple(operator.by or key))
                recent = Recent(operator, group)
                return lambda batch, out: recent.fold(batch, out[0])
            case _:
                return self._windowed(operator, tuple(operator.by or key))

    def _group(self, by: tuple[str, ...]) -> Group:
        return self._groups.setdefault(by, Group(by))

    def _windowed(
        self, operator: Count | Rate | Sum | Mean | Std | Min | Max, by: tuple[str, ...]
    ) -> Callable[[Batch, Floats], None]:
        size = operator.window.us
        if (by, size) not in self._windows:
            self._windows[by, size] = Windows(self._group(by), size, self._lateness)
        windows = self._windows[by, size]
        match operator:
            case Count():
                lane = windows.lane(kernels.COUNT)
                return lambda _, out: np.copyto(out[0], windows.read[lane])
            case Rate():
                lane = windows.lane(kernels.COUNT)
                return lambda _, out: _set(out, np.divide(windows.read[lane], size / 1e6))
            case Sum():
                filled, total, _ = windows.moments(operator.of)
                return lambda _, out: _set(out, np.where(windows.read[filled] > 0, windows.read[total], np.nan))
            case Mean():
                filled, total, _ = windows.moments(operator.of)
                return lambda _, out: _divide(windows.read[total], windows.read[filled], out)
            case Std():
                filled, _, squares = windows.moments(operator.of)
                return lambda _, out: _deviation(windows.read[squares], windows.read[filled], out)
            case Min() | Max():
                lane = windows.lane(kernels.MIN if isinstance(operator, Min) else kernels.MAX, operator.of)
                return lambda _, out: np.copyto(out[0], windows.read[lane])

    # State

    def state(self) -> dict[str, Any]:
        """Return plain values and arrays; equal for equal histories."""
        return {
            "newest": int(self._newest),
            "groups": [group.keys() for group in self._groups.values()],
            "arrays": [group.arrays() for group in self._groups.values()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self._newest = state["newest"]
        for group, keys, arrays in zip(self._groups.values(), state["groups"], state["arrays"], strict=True):
            group.load(keys, arrays)


def _set(out: Floats, values: Floats) -> None:
    out[0] = values


def _divide(above: Floats, below: Floats, out: Floats) -> None:
    out[0] = np.nan
    np.divide(above, below, out=out[0], where=below > 0)


def _deviation(squares: Floats, filled: Floats, out: Floats) -> None:
    _divide(squares, filled, out)
    np.sqrt(out[0], out=out[0])


def _one_hot(operator: OneHot) -> Callable[[Batch, Floats], None]:
    places = {value: place for place, value in enumerate(operator.values)}
    elsewhere = len(places) if operator.other else -1

    def fill(batch: Batch, out: Floats) -> None:
        codes = np.array([places.get(value, elsewhere) for value in batch.objects(operator.of)], np.int64)
        known = np.flatnonzero(codes >= 0)
        out[codes[known], known] = 1.0

    return fill
