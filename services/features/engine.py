"""The columnar feature engine: columns of a batch in, a float32 matrix out, state per group in rows.

The plan is made once from the pipeline: features that share a grouping share its index, features that share a window
share its panes, and each number is accumulated once however many features read it. It ends as two small programs that
compiled loops run over a batch: what each grouping folds, and what each column of the vector is made of.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise, repeat
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.features import filling, kernels
from services.features.state import Bools, Codes, Floats, Group, Ints, Windows
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

Fill: TypeAlias = tuple[int, int, int]  # what a fill instruction says beside its column: see `filling.fill`
MONDAY = 3 * UNITS_US["d"]  # 1970-01-01 was a Thursday
LOOK_EVERY = 4096  # events between two looks at how many groups are held


class Engine:
    """Folds batches of one partition. The same events in the same order give the same bytes, however they are cut."""

    def __init__(self, stream: Stream) -> None:
        features = stream.pipeline.features
        operators, widths = list(features.values()), [len(op.columns(name)) for name, op in features.items()]
        self._lateness = stream.pipeline.stream.lateness.us
        self._most = stream.pipeline.stream.groups
        self._seen = 0  # events folded
        self._newest = kernels.NEVER
        self._codes: dict[str, Codes] = {}
        self._groups: dict[tuple[str, ...], Group] = {}
        self._windows: dict[tuple[tuple[str, ...], int], Windows] = {}
        self._one_hots: list[_OneHot] = []
        fields = dict.fromkeys(field for operator in operators if (field := _number(operator)))
        self._numbers = {field: row for row, field in enumerate(fields)}  # the first rows of what the columns read
        self._rows = len(fields)
        fills = self._plan(operators, (stream.key,))
        self._width = sum(widths)
        columns = accumulate(widths, initial=0)  # of each feature, the first
        self._fills = np.array([(kind, next(columns), a, b) for kind, a, b in fills], np.int64)
        self._constants = np.array([(operator.default, _divisor(operator)) for operator in operators])

    @property
    def newest(self) -> int | None:
        """The newest time of an event, in microseconds since 1970; None before the first."""
        return None if self._newest == kernels.NEVER else int(self._newest)

    def fold(self, column: Callable[[str], Sequence[Any]], times: Ints) -> tuple[NDArray[np.float32], Bools]:
        """Return the vectors (events, columns) and which events were late; the state moves past the batch."""
        if self._held() + len(times) * len(self._groups) <= self._most:
            return self._fold(column, times)  # whoever looked would find no group too many
        to_look = LOOK_EVERY - self._seen % LOOK_EVERY
        cuts = [0, *range(to_look, len(times), LOOK_EVERY), len(times)]
        parts = [self._fold_and_look(column, times, slice(*cut)) for cut in pairwise(cuts)]
        vectors, late = zip(*parts, strict=True)
        return np.concatenate(vectors), np.concatenate(late)

    def _fold_and_look(
        self, column: Callable[[str], Sequence[Any]], times: Ints, part: slice
    ) -> tuple[NDArray[np.float32], Bools]:
        folded = self._fold(lambda field: column(field)[part], times[part])
        if self._seen % LOOK_EVERY == 0 and self._held() > self._most:
            self._forget()
        return folded

    def _fold(self, column: Callable[[str], Sequence[Any]], times: Ints) -> tuple[NDArray[np.float32], Bools]:
        joins, self._newest = kernels.mark_joins(times, self._lateness, self._newest)
        for codes in self._codes.values():
            codes.locate(column(codes.field))
        read = np.empty((self._rows, len(times)))
        for field, row in self._numbers.items():
            np.clip(_floats(column(field)), -filling.LARGEST, filling.LARGEST, out=read[row])
        for group in self._groups.values():
            group.fold(self._seen, times, joins, read)
        self._seen += len(times)
        places = np.empty((len(self._one_hots), len(times)), np.int64)
        for row, one_hot in enumerate(self._one_hots):
            places[row] = one_hot.places(column)
        vectors = np.zeros((len(times), self._width), np.float32)
        filling.fill(self._fills, self._constants, times, places, read, vectors)
        return vectors, ~joins

    # Bounded memory

    def _held(self) -> int:
        return sum(map(len, self._groups.values()))

    def _forget(self) -> None:
        """Forget the groups that have gone longest without an event, until at most half of the bound are left."""
        last = np.concatenate([group.last_events() for group in self._groups.values()])
        first_too_many = len(last) - self._most // 2 - 1
        before = int(np.partition(last, first_too_many)[first_too_many]) + 1
        for group in self._groups.values():
            group.forget(before)
        for codes in self._codes.values():
            codes.forget_unused()
        for one_hot in self._one_hots:
            one_hot.forget()

    # The plan

    def _plan(self, operators: Sequence[Operator], key: tuple[str, ...]) -> list[Fill]:
        for operator in operators:
            if isinstance(operator, Windowed):
                self._need(operator, tuple(operator.by or key))
        for (by, _), windows in self._windows.items():
            self._rows = windows.fold_in(self._group(by), self._rows, self._numbers)
        fills = [self._fill(operator, key) for operator in operators]
        for group in self._groups.values():
            group.seal()
        return fills

    def _need(self, operator: Windowed, by: tuple[str, ...]) -> None:
        windows = self._windows.setdefault((by, operator.window.us), Windows(operator.window.us, self._lateness))
        windows.need(_LANES[type(operator)], getattr(operator, "of", ""))

    def _group(self, by: tuple[str, ...]) -> Group:
        if by not in self._groups:
            self._groups[by] = Group([self._codes.setdefault(field, Codes(field)) for field in by])
        return self._groups[by]

    def _fill(self, operator: Operator, key: tuple[str, ...]) -> Fill:
        match operator:
            case Value(of=of):
                return filling.COPY, self._numbers[of], 0
            case OneHot():
                self._one_hots.append(_OneHot(operator, self._codes))
                return filling.ONE_HOT, len(self._one_hots) - 1, 0
            case Hour():
                return filling.CIRCLE, UNITS_US["d"], 0
            case Weekday():
                return filling.CIRCLE, UNITS_US["w"], MONDAY
            case Lag() | SinceLast() | Ewma():
                return filling.COPY, self._recent(operator, self._group(tuple(operator.by or key))), 0
            case _:
                return _read_window(operator, self._windows[tuple(operator.by or key), operator.window.us])

    def _recent(self, operator: Lag | SinceLast | Ewma, group: Group) -> int:
        """Have a last value folded; return the row of what is read."""
        self._rows += 1
        row = self._rows - 1
        match operator:
            case Lag(of=of, n=n):
                group.fold_in(kernels.LAG, row, [0], [np.nan] * n, (self._numbers[of], n))
            case SinceLast():
                group.fold_in(kernels.SINCE, row, [kernels.NEVER], [], ())
            case Ewma(of=of, half_life=half_life):
                group.fold_in(kernels.EWMA, row, [kernels.NEVER], [0.0, 0.0], (self._numbers[of], half_life.us))
        return row

    # State

    def state(self) -> dict[str, Any]:
        """Return plain values and arrays; equal for equal histories."""
        return {
            "seen": self._seen,
            "newest": int(self._newest),
            "fields": [codes.values_from(0) for codes in self._codes.values()],
            "groups": [group.state() for group in self._groups.values()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self._seen, self._newest = state["seen"], state["newest"]
        for codes, values in zip(self._codes.values(), state["fields"], strict=True):
            codes.load(values)
        for one_hot in self._one_hots:
            one_hot.forget()
        for group, saved in zip(self._groups.values(), state["groups"], strict=True):
            group.load(saved)


_LANES: dict[type[Operator], int] = {
    Count: kernels.COUNT,
    Rate: kernels.COUNT,
    Sum: kernels.SUM,
    Mean: kernels.SUM,
    Std: kernels.M2,
    Min: kernels.MIN,
    Max: kernels.MAX,
}


def _read_window(operator: Windowed, windows: Windows) -> Fill:
    kind, field = _LANES[type(operator)], getattr(operator, "of", "")
    row = windows.row(kind, field)
    match operator:
        case Count() | Min() | Max():
            return filling.COPY, row, 0
        case Rate():
            return filling.SCALED, row, 0
        case Sum():
            return filling.PRESENT, row, windows.row(kernels.FILLED, field)
        case Mean():
            return filling.RATIO, row, windows.row(kernels.FILLED, field)
        case Std():
            return filling.ROOT, row, windows.row(kernels.FILLED, field)


def _number(operator: Operator) -> str | None:
    """Return the field that an operator reads as a number."""
    return None if isinstance(operator, OneHot) else getattr(operator, "of", None)


def _divisor(operator: Operator) -> float:
    return operator.window.seconds if isinstance(operator, Rate) else 1.0


def _floats(objects: Sequence[Any]) -> Floats:
    """Return numbers as float64, NaN where one is null."""
    try:
        return np.fromiter(objects, np.float64, len(objects))
    except TypeError:  # a null, which only the slower way takes
        return np.array(objects, np.float64)


class _OneHot:
    """Says which column of a `onehot` is 1; where the field is numbered for a grouping anyway, by a look-up."""

    def __init__(self, operator: OneHot, numbered: Mapping[str, Codes]) -> None:
        self._of, self._numbered = operator.of, numbered
        self._places = {value: place for place, value in enumerate(operator.values)}
        self._elsewhere = len(self._places) if operator.other else -1
        self._place_of_code: Ints = np.zeros(0, np.int64)

    def places(self, column: Callable[[str], Sequence[Any]]) -> Ints:
        codes = self._numbered.get(self._of)
        return self._look_up(column(self._of)) if codes is None else self._translate(codes)

    def _look_up(self, values: Sequence[Any]) -> Ints:
        return np.fromiter(map(self._places.get, values, repeat(self._elsewhere)), np.int64, len(values))

    def forget(self) -> None:
        self._place_of_code = np.zeros(0, np.int64)

    def _translate(self, codes: Codes) -> Ints:
        if len(codes) > len(self._place_of_code):
            fresh = self._look_up(codes.values_from(len(self._place_of_code)))
            self._place_of_code = np.concatenate([self._place_of_code, fresh])
        return self._place_of_code[codes.codes]
