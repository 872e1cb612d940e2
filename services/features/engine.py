"""The columnar feature engine: columns of a batch in, a float32 matrix out, state per group in arrays.

The plan is made once from the pipeline: features that share a grouping share its index, features that share a window
share its panes, and each number is accumulated once however many features read it.
"""

from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.features import kernels
from services.features.columns import Batch, Floats
from services.features.state import Codes, Group, Recent, Windows
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
    Windowed,
)
from services.runtime.stream import Stream

MONDAY = 3 * UNITS_US["d"]  # 1970-01-01 was a Thursday


class Engine:
    """Folds batches of one partition. The same events in the same order give the same bytes, however they are cut."""

    def __init__(self, stream: Stream) -> None:
        rule = stream.pipeline.stream
        self._lateness = rule.lateness.us
        self._newest = kernels.NEVER
        self._codes: dict[str, Codes] = {}
        self._one_hots: list[_OneHot] = []
        self._groups: dict[tuple[str, ...], Group] = {}
        self._windows: dict[tuple[tuple[str, ...], int], Windows] = {}
        self._width = len(stream.columns)
        self._defaults = np.zeros(self._width)
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
        for codes in self._codes.values():
            codes.locate(batch)
        for group in self._groups.values():
            group.locate()
        for windows in self._windows.values():
            windows.fold(batch)
        out = np.zeros((self._width, len(batch)))
        for place, fill in self._fill:
            fill(batch, out[place])
        vectors = np.empty((len(batch), self._width), np.float32)
        kernels.finish(out, self._defaults, vectors)
        return vectors, late

    # The plan: each operator becomes a function that fills its rows of the (columns, events) matrix

    def _plan(self, operator: Operator, key: tuple[str, ...]) -> Callable[[Batch, Floats], None]:
        match operator:
            case Value():
                return lambda batch, out: np.copyto(out[0], batch.numbers(operator.of))
            case OneHot():
                one_hot = _OneHot(operator, self._codes)
                self._one_hots.append(one_hot)
                return one_hot.fill
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
        if by not in self._groups:
            self._groups[by] = Group([self._codes.setdefault(field, Codes(field)) for field in by])
        return self._groups[by]

    def _windowed(self, operator: Windowed, by: tuple[str, ...]) -> Callable[[Batch, Floats], None]:
        size = operator.window.us
        if (by, size) not in self._windows:
            self._windows[by, size] = Windows(self._group(by), size, self._lateness)
        windows = self._windows[by, size]
        for kind in _LANES[type(operator)]:
            windows.need(kind, getattr(operator, "of", ""))
        return lambda _, out: _read_window(operator, windows, out)

    # State

    def state(self) -> dict[str, Any]:
        """Return plain values and arrays; equal for equal histories."""
        return {
            "newest": int(self._newest),
            "fields": [codes.values_from(0) for codes in self._codes.values()],
            "groups": [group.state() for group in self._groups.values()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self._newest = state["newest"]
        for codes, values in zip(self._codes.values(), state["fields"], strict=True):
            codes.load(values)
        for one_hot in self._one_hots:
            one_hot.forget()
        for group, saved in zip(self._groups.values(), state["groups"], strict=True):
            group.load(saved)


_LANES: dict[type[Operator], tuple[int, ...]] = {
    Count: (kernels.COUNT,),
    Rate: (kernels.COUNT,),
    Sum: (kernels.SUM,),
    Mean: (kernels.SUM,),
    Std: (kernels.M2,),
    Min: (kernels.MIN,),
    Max: (kernels.MAX,),
}


def _read_window(operator: Windowed, windows: Windows, out: Floats) -> None:
    match operator:
        case Count():
            out[0] = windows.lane(kernels.COUNT)
        case Rate():
            out[0] = windows.lane(kernels.COUNT) / operator.window.seconds
        case Min(of=of):
            out[0] = windows.lane(kernels.MIN, of)
        case Max(of=of):
            out[0] = windows.lane(kernels.MAX, of)
        case Sum(of=of):
            out[0] = np.where(windows.lane(kernels.FILLED, of) > 0, windows.lane(kernels.SUM, of), np.nan)
        case Mean(of=of):
            _divide(windows.lane(kernels.SUM, of), windows.lane(kernels.FILLED, of), out)
        case Std(of=of):
            _divide(windows.lane(kernels.M2, of), windows.lane(kernels.FILLED, of), out)
            np.sqrt(out[0], out=out[0])


def _divide(values: Floats, filled: Floats, out: Floats) -> None:
    out[0] = np.nan
    np.divide(values, filled, out=out[0], where=filled > 0)


class _OneHot:
    """Fills the columns of a `onehot`. Where the field is numbered for a grouping anyway, numbers are looked up."""

    def __init__(self, operator: OneHot, numbered: Mapping[str, Codes]) -> None:
        self._of, self._numbered = operator.of, numbered
        self._places = {value: place for place, value in enumerate(operator.values)}
        self._elsewhere = len(self._places) if operator.other else -1
        self._place_of_code: NDArray[np.int64] = np.zeros(0, np.int64)

    def fill(self, batch: Batch, out: Floats) -> None:
        codes = self._numbered.get(self._of)
        places = self._look_up(batch.objects(self._of)) if codes is None else self._translate(codes)
        known = np.flatnonzero(places >= 0)
        out[places[known], known] = 1.0

    def _look_up(self, values: list[Any]) -> NDArray[np.int64]:
        return np.fromiter(map(self._places.get, values, repeat(self._elsewhere)), np.int64, len(values))

    def forget(self) -> None:
        self._place_of_code = np.zeros(0, np.int64)

    def _translate(self, codes: Codes) -> NDArray[np.int64]:
        if len(codes) > len(self._place_of_code):
            fresh = self._look_up(codes.values_from(len(self._place_of_code)))
            self._place_of_code = np.concatenate([self._place_of_code, fresh])
        return self._place_of_code[codes.codes]
