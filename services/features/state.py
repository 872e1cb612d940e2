"""What the engine remembers: numbers for the values it has met, and one row of integers and one of floats per group."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import compress, islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.features import kernels

Array: TypeAlias = NDArray[Any]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
RIGHT_BITS = 32  # of a pair's number; both parts are below 2**31


class _Index(dict[Hashable, int]):
    """Numbers keys in the order of their first appearance."""

    def __missing__(self, key: Hashable) -> int:
        self[key] = number = len(self)
        return number


class Codes:
    """Numbers the values of one field, so that groupings compare numbers and not values."""

    def __init__(self, field: str) -> None:
        self.field = field
        self._index = _Index()
        self._users: list[Pairs] = []  # whose right parts are these numbers
        self.codes: Ints = np.zeros(0, np.int64)  # of the batch at hand

    def pairs(self) -> "Pairs":
        """Return new pairs whose right parts are these numbers."""
        self._users.append(Pairs())
        return self._users[-1]

    def locate(self, objects: Sequence[Any]) -> None:
        self.codes = np.fromiter(map(self._index.__getitem__, objects), np.int64, len(objects))

    def __len__(self) -> int:
        return len(self._index)

    def values_from(self, code: int) -> list[Any]:
        """Return the values from this code on, in order of their codes."""
        return list(islice(self._index, code, None))

    def load(self, values: Iterable[Any]) -> None:
        self._index = _Index((value, code) for code, value in enumerate(values))

    def forget_unused(self) -> None:
        """Keep the values that are part of a pair, numbered anew in the same order."""
        used = np.zeros(len(self), np.bool_)
        for pairs in self._users:
            used[pairs.rights()] = True
        numbers = np.cumsum(used) - 1
        for pairs in self._users:
            pairs.load((pairs.lefts() << RIGHT_BITS) | numbers[pairs.rights()])
        self.load(compress(self._index, used.tolist()))


class Pairs:
    """Numbers pairs of numbers: a compiled hash map, because a dictionary of tuples costs ten times as much."""

    def __init__(self) -> None:
        self._count = 0
        self._known = np.zeros(16, np.int64)
        self._table = np.full(32, -1, np.int64)

    def __len__(self) -> int:
        return self._count

    def numbers(self, left: Ints, right: Ints) -> Ints:
        """Return the number of each pair."""
        pairs = (left << RIGHT_BITS) | right
        self._reserve(self._count + len(pairs))
        numbers = np.empty_like(pairs)
        self._count = kernels.number_pairs(pairs, self._known, self._table, self._count, numbers)
        return numbers

    def _reserve(self, size: int) -> None:
        if size > len(self._known):
            self.load(self.known(), 1 << (size - 1).bit_length())

    def known(self) -> Ints:
        return self._known[: self._count]

    def lefts(self) -> Ints:
        return self.known() >> RIGHT_BITS

    def rights(self) -> Ints:
        return self.known() & ((1 << RIGHT_BITS) - 1)

    def keep(self, numbers: Ints) -> Ints:
        """Keep the pairs of these ascending numbers, in order; return which left parts they have, and number those."""
        lefts, places = np.unique(self.lefts()[numbers], return_inverse=True)
        self.load((places << RIGHT_BITS) | self.rights()[numbers])
        return lefts

    def load(self, known: Ints, size: int = 16) -> None:
        """Take these pairs, numbered in their order, and make room for `size`, a power of two."""
        size = max(size, 1 << max(len(known) - 1, 0).bit_length())
        self._known, self._table = np.zeros(size, np.int64), np.full(2 * size, -1, np.int64)
        self._count = kernels.number_pairs(known.copy(), self._known, self._table, 0, np.empty_like(known))


class Group:
    """One grouping of the events: what to fold for it, and the rows in which that is kept.

    The first integer of a row says which event of the partition, counted from 0, was the group's last.
    """

    def __init__(self, fields: Sequence[Codes]) -> None:
        self._fields = fields
        self._pairs = [field.pairs() for field in fields]  # numbers (number by the fields before, code of this one)
        self._program: list[tuple[int, ...]] = []
        self._lanes: list[tuple[int, int]] = []
        self._empty: tuple[list[float], list[float]] = ([0], [])  # a row of each kind before its first event

    def fold_in(
        self, kind: int, out: int, ints: Sequence[float], floats: Sequence[float], parameters: Sequence[int]
    ) -> None:
        """Add a fold instruction that keeps these numbers, given as they are before a group's first event."""
        places = [len(row) for row in self._empty]
        self._program.append((kind, out, *places, *parameters, *[0] * (4 - len(parameters))))
        for row, more in zip(self._empty, (ints, floats), strict=True):
            row.extend(more)

    def lanes(self, lanes: Sequence[tuple[int, int]]) -> int:
        """Add lanes (kind, source) for a window; return the first one's number."""
        self._lanes += lanes
        return len(self._lanes) - len(lanes)

    def seal(self) -> None:
        """Make the rows, now that every instruction is known."""
        self._steps = np.array(self._program, np.int64)
        self._kinds = np.array(self._lanes, np.int64).reshape(-1, 2)
        self._ints, self._floats = (
            np.zeros((0, len(row)), kind) for row, kind in zip(self._empty, (np.int64, np.float64), strict=True)
        )

    def __len__(self) -> int:
        return len(self._pairs[-1])

    def fold(self, seen: int, times: Ints, joins: Bools, read: Floats) -> None:
        """Fold the batch whose codes the fields hold now; `seen` and `read` are as in `kernels.fold_group`."""
        slots = np.zeros(len(times), np.int64)
        for field, pairs in zip(self._fields, self._pairs, strict=True):
            slots = pairs.numbers(slots, field.codes)
        self._grow()
        kernels.fold_group(self._steps, self._kinds, seen, slots, times, joins, read, self._ints, self._floats)

    def last_events(self) -> Ints:
        """Return of each group which event was its last."""
        return self._ints[: len(self), 0]

    def forget(self, before: int) -> None:
        """Forget the groups whose last event came before this one."""
        kept = np.flatnonzero(self.last_events() >= before)
        self._ints, self._floats = self._ints[kept], self._floats[kept]
        for pairs in reversed(self._pairs):
            kept = pairs.keep(kept)

    def _grow(self) -> None:
        if len(self) > len(self._ints):
            rows = max(len(self), 2 * len(self._ints), 16)
            self._ints, self._floats = (
                _longer(array, rows, empty)
                for array, empty in zip((self._ints, self._floats), self._empty, strict=True)
            )

    def state(self) -> dict[str, list[Array]]:
        rows = len(self)
        return {"pairs": [pairs.known() for pairs in self._pairs], "rows": [self._ints[:rows], self._floats[:rows]]}

    def load(self, state: Mapping[str, Sequence[Array]]) -> None:
        """Take over a state: its rows are folded on where they are."""
        for pairs, known in zip(self._pairs, state["pairs"], strict=True):
            pairs.load(known)
        self._ints, self._floats = state["rows"]


def _longer(array: Array, rows: int, empty: Sequence[float]) -> Array:
    longer = np.empty((rows, len(empty)), array.dtype)
    longer[: len(array)] = array
    longer[len(array) :] = empty
    return longer


class Windows:
    """The panes of one window length over one grouping, and which lanes their readers need.

    A pane is `width` microseconds long; the newest ones of a group are held in a ring of `places`, by their number.
    """

    def __init__(self, size: int, lateness: int) -> None:
        self.width = max(size // kernels.PANES, 1)
        held = kernels.PANES + -(-lateness // self.width) + 1  # late events find their panes still there
        self.places = 1 << (held - 1).bit_length()
        self._lanes: list[tuple[str, int]] = []  # field and kind, a field's FILLED, SUM and M2 side by side
        self._first = 0

    def need(self, kind: int, field: str = "") -> None:
        """Have `kind` of `field` accumulated; what a kind is made of comes with it."""
        for part in {kernels.SUM: (kernels.FILLED,), kernels.M2: (kernels.FILLED, kernels.SUM)}.get(kind, ()):
            self.need(part, field)
        if (field, kind) not in self._lanes:
            self._lanes = sorted([*self._lanes, (field, kind)])

    def fold_in(self, group: Group, first: int, sources: Mapping[str, int]) -> int:
        """Have the group fold the needed lanes into `read` from row `first` on; return the first row behind them."""
        self._first, count = first, len(self._lanes)
        lanes = group.lanes([(kind, sources.get(field, 0)) for field, kind in self._lanes])
        ints, floats = [kernels.NEVER] * (1 + self.places), [0.0] * (count * (1 + self.places))
        group.fold_in(kernels.WINDOW, first, ints, floats, (self.width, self.places - 1, lanes, lanes + count))
        return first + count

    def row(self, kind: int, field: str = "") -> int:
        """Return in which row of `read` a needed lane is."""
        return self._first + self._lanes.index((field, kind))
