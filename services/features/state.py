"""What the engine remembers: an index of groups, and arrays with a row per group that grow as groups appear."""

from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.features import kernels
from services.features.columns import Batch
from services.runtime.grammar import Ewma, Lag, SinceLast

Array: TypeAlias = NDArray[Any]
PANES = 12  # panes that make up a window: a window's length is honoured to a twelfth


class _Index(dict[Hashable, int]):
    """Numbers keys in the order of their first appearance."""

    def __missing__(self, key: Hashable) -> int:
        self[key] = number = len(self)
        return number


class Group:
    """One grouping of the events. Owns the index and every array that has a row per group."""

    def __init__(self, by: tuple[str, ...]) -> None:
        self._by = by
        self._index = _Index()
        self._arrays: list[tuple[Array, Any]] = []  # array, and what an empty row holds
        self.slots: NDArray[np.int64] = np.zeros(0, np.int64)  # the row of each event of the batch at hand

    def add(self, shape: tuple[int, ...], empty: float, kind: type) -> int:
        """Make an array of rows of this shape; return its number. Fetch it anew for each batch: it may have grown."""
        self._arrays.append((np.full((0, *shape), empty, kind), empty))
        return len(self._arrays) - 1

    def __getitem__(self, number: int) -> Array:
        return self._arrays[number][0]

    def locate(self, batch: Batch) -> None:
        columns = [batch.objects(field) for field in self._by]
        keys = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
        index = self._index
        self.slots = np.array([index[key] for key in keys], np.int64)
        self._grow(len(index))

    def _grow(self, rows: int) -> None:
        for number, (array, empty) in enumerate(self._arrays):
            if len(array) < rows:
                larger = np.full((max(rows, 2 * len(array), 16), *array.shape[1:]), empty, array.dtype)
                larger[: len(array)] = array
                self._arrays[number] = (larger, empty)

    def keys(self) -> list[Any]:
        return list(self._index)

    def arrays(self) -> list[Array]:
        return [array[: len(self._index)] for array, _ in self._arrays]

    def load(self, keys: Sequence[Any], arrays: Sequence[Array]) -> None:
        self._index = _Index((tuple(key) if isinstance(key, list) else key, n) for n, key in enumerate(keys))
        for number, array in enumerate(arrays):
            self._arrays[number] = (array.copy(), self._arrays[number][1])


class Windows:
    """The panes of one window length over one grouping; `read` (lanes, events) is what the batch's events saw."""

    def __init__(self, group: Group, size: int, lateness: int) -> None:
        self._group = group
        self._width = max(size // PANES, 1)
        self._ring = PANES + -(-lateness // self._width) + 1  # late events find their panes still there
        self._lanes: list[tuple[int, str | None]] = []
        self._tags = self._state = -1
        self.read: Array = np.zeros((0, 0))

    def lane(self, kind: int, field: str | None = None) -> int:
        """Return the number of the lane that accumulates `kind` of `field`; make it if it is new."""
        if (kind, field) not in self._lanes:
            self._lanes.append((kind, field))
        return self._lanes.index((kind, field))

    def moments(self, field: str) -> tuple[int, int, int]:
        """Return the lanes of a field's filled count, sum and squared deviations, which stand side by side."""
        first = self.lane(kernels.FILLED, field)
        return first, self.lane(kernels.SUM, field), self.lane(kernels.M2, field)

    def seal(self) -> None:
        """Make the arrays, now that every lane is known."""
        self._tags = self._group.add((self._ring,), kernels.NEVER, np.int64)
        self._state = self._group.add((self._ring, len(self._lanes)), 0.0, np.float64)
        fields = sorted({field for _, field in self._lanes if field is not None})
        self._fields = fields
        self._kinds = np.array([kind for kind, _ in self._lanes], np.int64)
        self._sources = np.array([fields.index(f) if f is not None else 0 for _, f in self._lanes], np.int64)

    def fold(self, batch: Batch) -> None:
        numbers = [batch.numbers(field) for field in self._fields]
        values = np.vstack(numbers) if numbers else np.zeros((1, len(batch)))
        panes = batch.times // self._width
        self.read = np.empty((len(self._lanes), len(batch)))
        group = self._group
        kernels.fold_panes(
            group.slots,
            panes,
            batch.joins,
            values,
            self._kinds,
            self._sources,
            PANES,
            group[self._tags],
            group[self._state],
            self.read,
        )


class Recent:
    """The last values of a group: `lag`, `since_last`, `ewma`."""

    def __init__(self, operator: Lag | SinceLast | Ewma, group: Group) -> None:
        self._operator = operator
        self._group = group
        match operator:
            case Lag():
                self._arrays = [group.add((operator.n,), np.nan, np.float64), group.add((), 0, np.int64)]
            case SinceLast():
                self._arrays = [group.add((), kernels.NEVER, np.int64)]
            case Ewma():
                self._arrays = [group.add((), kernels.NEVER, np.int64)]
                self._arrays += [group.add((), 0.0, np.float64), group.add((), 0.0, np.float64)]

    def fold(self, batch: Batch, out: Array) -> None:
        slots, joins = self._group.slots, batch.joins
        match self._operator, [self._group[number] for number in self._arrays]:
            case Lag(of=of), [ring, seen]:
                kernels.fold_lag(slots, joins, batch.numbers(of), ring, seen, out)
            case SinceLast(), [last]:
                kernels.fold_since(slots, batch.times, joins, last, out)
            case Ewma(of=of, half_life=half), [last, weight, total]:
                kernels.fold_ewma(slots, batch.times, joins, batch.numbers(of), half.us, last, weight, total, out)
