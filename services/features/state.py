"""What the engine remembers: an index of groups, and arrays with a row per group that grow as groups appear."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.features import kernels
from services.features.columns import Batch, Floats
from services.runtime.grammar import Ewma, Lag, SinceLast

Array: TypeAlias = NDArray[Any]
Ints: TypeAlias = NDArray[np.int64]
PANES = 12  # panes that make up a window: a window's length is honoured to a twelfth


class _Index(dict[Hashable, int]):
    """Numbers keys in the order of their first appearance."""

    def __missing__(self, key: Hashable) -> int:
        self[key] = number = len(self)
        return number


class Codes:
    """Numbers the values of one field, so that groupings compare numbers and not values."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._index = _Index()
        self.codes: Ints = np.zeros(0, np.int64)  # of the batch at hand

    def locate(self, batch: Batch) -> None:
        objects = batch.objects(self._field)
        self.codes = np.fromiter(map(self._index.__getitem__, objects), np.int64, len(objects))

    def __len__(self) -> int:
        return len(self._index)

    def values_from(self, code: int) -> list[Any]:
        """Return the values from this code on, in order of their codes."""
        return list(islice(self._index, code, None))

    def load(self, values: Sequence[Any]) -> None:
        self._index = _Index((value, code) for code, value in enumerate(values))


class Pairs:
    """Numbers pairs of numbers: a compiled hash map, because a dictionary of tuples costs ten times as much."""

    def __init__(self) -> None:
        self._count = 0
        self._known = np.zeros(16, np.int64)
        self._table = np.full(32, -1, np.int64)

    def __len__(self) -> int:
        return self._count

    def numbers(self, left: Ints, right: Ints) -> Ints:
        """Return the number of each pair; both parts are below 2**31."""
        pairs = (left << 32) | right
        self._reserve(self._count + len(pairs))
        numbers = np.empty_like(pairs)
        self._count = kernels.number_pairs(pairs, self._known, self._table, self._count, numbers)
        return numbers

    def _reserve(self, size: int) -> None:
        if size > len(self._known):
            self.load(self.known(), 1 << (size - 1).bit_length())

    def known(self) -> Ints:
        return self._known[: self._count]

    def load(self, known: Ints, size: int = 16) -> None:
        """Take these pairs, numbered in their order, and make room for `size`, a power of two."""
        size = max(size, 1 << max(len(known) - 1, 0).bit_length())
        self._known, self._table = np.zeros(size, np.int64), np.full(2 * size, -1, np.int64)
        self._count = kernels.number_pairs(known.copy(), self._known, self._table, 0, np.empty_like(known))


class Group:
    """One grouping of the events: the rows of every array that has a row per group."""

    def __init__(self, fields: Sequence[Codes]) -> None:
        self._fields = fields
        self._pairs = [Pairs() for _ in fields[1:]]  # numbers (row so far, code of the next field)
        self._arrays: list[tuple[Array, float]] = []  # array, and what an empty row holds
        self.slots: Ints = np.zeros(0, np.int64)  # the row of each event of the batch at hand

    def add(self, shape: tuple[int, ...], empty: float, kind: type) -> int:
        """Make an array of rows of this shape; return its number. Fetch it anew for each batch: it may have grown."""
        self._arrays.append((np.full((0, *shape), empty, kind), empty))
        return len(self._arrays) - 1

    def __getitem__(self, number: int) -> Array:
        return self._arrays[number][0]

    def __len__(self) -> int:
        return len(self._pairs[-1]) if self._pairs else len(self._fields[0])

    def locate(self) -> None:
        """Find the rows of the batch whose codes the fields hold now."""
        self.slots = self._fields[0].codes
        for field, pairs in zip(self._fields[1:], self._pairs, strict=True):
            self.slots = pairs.numbers(self.slots, field.codes)
        self._grow(len(self))

    def _grow(self, rows: int) -> None:
        for number, (array, empty) in enumerate(self._arrays):
            if len(array) < rows:
                larger = np.full((max(rows, 2 * len(array), 16), *array.shape[1:]), empty, array.dtype)
                larger[: len(array)] = array
                self._arrays[number] = (larger, empty)

    def state(self) -> dict[str, list[Array]]:
        arrays = [array[: len(self)] for array, _ in self._arrays]
        return {"pairs": [pairs.known() for pairs in self._pairs], "arrays": arrays}

    def load(self, state: Mapping[str, Sequence[Array]]) -> None:
        for pairs, known in zip(self._pairs, state["pairs"], strict=True):
            pairs.load(known)
        for number, array in enumerate(state["arrays"]):
            self._arrays[number] = (array.copy(), self._arrays[number][1])


class Windows:
    """The panes of one window length over one grouping."""

    def __init__(self, group: Group, size: int, lateness: int) -> None:
        self._group = group
        self._width = max(size // PANES, 1)
        held = PANES + -(-lateness // self._width) + 1  # late events find their panes still there
        self._ring = 1 << (held - 1).bit_length()
        self._lanes: list[tuple[str, int]] = []  # field and kind, a field's FILLED, SUM and M2 side by side
        self._arrays: list[int] = []
        self._read: Floats = np.zeros((0, 0))

    def need(self, kind: int, field: str = "") -> None:
        """Have `kind` of `field` accumulated; what a kind is made of comes with it."""
        for part in {kernels.SUM: (kernels.FILLED,), kernels.M2: (kernels.FILLED, kernels.SUM)}.get(kind, ()):
            self.need(part, field)
        if (field, kind) not in self._lanes:
            self._lanes = sorted([*self._lanes, (field, kind)])

    def lane(self, kind: int, field: str = "") -> Floats:
        """Return what each event of the batch read of a needed lane."""
        lane: Floats = self._read[self._lanes.index((field, kind))]
        return lane

    def seal(self) -> None:
        """Make the arrays, now that every lane is known."""
        lanes = len(self._lanes)
        self._arrays = [
            self._group.add((self._ring,), kernels.NEVER, np.int64),
            self._group.add((self._ring, lanes), 0.0, np.float64),
            self._group.add((), kernels.NEVER, np.int64),
            self._group.add((lanes,), 0.0, np.float64),
        ]
        self._fields = sorted({field for field, _ in self._lanes if field})
        self._kinds = np.array([kind for _, kind in self._lanes], np.int64)
        self._sources = np.array([self._fields.index(f) if f else 0 for f, _ in self._lanes], np.int64)

    def fold(self, batch: Batch) -> None:
        numbers = [batch.numbers(field) for field in self._fields]
        values = np.vstack(numbers) if numbers else np.zeros((1, len(batch)))
        panes = batch.times // self._width
        read = np.empty((len(batch), len(self._lanes)))
        tags, lanes, closed_at, closed = (self._group[number] for number in self._arrays)
        kernels.fold_panes(
            self._group.slots,
            panes,
            batch.joins,
            values,
            self._kinds,
            self._sources,
            PANES,
            tags,
            lanes,
            closed_at,
            closed,
            read,
        )
        self._read = read.T


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
