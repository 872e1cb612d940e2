"""The delayed join. What it holds depends on how far each input was read, never on how the two interleaved.

Each input has a clock of its own, the newest time read on it. A row waits until the *labels'* clock passes its time +
horizon, a label until the *rows'* clock passes its own time + horizon. Row and label may meet if each arrived before
the other's wait was over, measured on those clocks: a test that gives the same answer whichever was read first. Each
takes the first of its id that it may meet and that is still free, and is done. As both sides prefer what was read
first there is but one stable matching (Gale and Shapley, 1962), and every interleaving ends in it.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Generic, TypeAlias, TypeVar

import msgspec

BEFORE_ALL = -(2**63)
SPARE = 1000  # ends of waits that may be kept although what they are of has met


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A scored row. Times are microseconds since 1970; `clock` is the rows' clock when it was read, itself included."""

    id: str
    key: str
    time: int
    offset: int
    features: bytes
    served: float
    version: int
    score: float
    weight: float
    clock: int


class Label(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A label; `clock` is the labels' clock when it was read, itself included."""

    id: str
    time: int
    offset: int
    value: float
    clock: int


class State(msgspec.Struct):
    """All that the join holds, in an order that depends on nothing but what is in it."""

    row_clock: int
    label_clock: int
    row_offset: int  # of the newest row
    rows: list[Row]
    labels: list[Label]


Pair: TypeAlias = tuple[Row, Label | None]  # a row with its label, or with None: it waited in vain
Item = TypeVar("Item", Row, Label)


class Waiting(Generic[Item]):
    """What of one input waits, by id, and whose wait ends first; `horizon` is in microseconds."""

    def __init__(self, horizon: int) -> None:
        self._horizon = horizon
        self._items: dict[str, list[Item]] = {}
        self._ends: list[tuple[int, int, str]] = []  # (time, offset, id) of these, and of some that met meanwhile
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        return (item for items in self._items.values() for item in items)

    def add(self, item: Item) -> None:
        self._items.setdefault(item.id, []).append(item)
        self._count += 1
        heappush(self._ends, (item.time, item.offset, item.id))

    def take(self, name: str, fits: Callable[[Item], bool]) -> Item | None:
        """Return the first of this id that fits, which waits no longer."""
        found = next((item for item in self._items.get(name, ()) if fits(item)), None)
        if found is not None:
            self._remove(found)
            if len(self._ends) > 2 * self._count + SPARE:
                self._ends = sorted((item.time, item.offset, item.id) for item in self)
        return found

    def end(self, clock: int) -> Iterator[Item]:
        """Yield those whose wait is over by this clock of the other input."""
        while self._ends and self._ends[0][0] + self._horizon < clock:
            _, offset, name = heappop(self._ends)
            for item in [item for item in self._items.get(name, ()) if item.offset == offset]:
                self._remove(item)
                yield item

    def _remove(self, item: Item) -> None:
        self._items[item.id].remove(item)
        self._count -= 1
        if not self._items[item.id]:
            del self._items[item.id]


class Join:
    """Joins the rows and labels of one partition; `horizon` is in microseconds."""

    def __init__(self, horizon: int) -> None:
        self._horizon = horizon
        self._row_clock = self._label_clock = self._row_offset = BEFORE_ALL
        self.rows = Waiting[Row](horizon)
        self.labels = Waiting[Label](horizon)

    @property
    def row_clock(self) -> int:
        return self._row_clock

    @property
    def label_clock(self) -> int:
        return self._label_clock

    @property
    def row_offset(self) -> int:
        return self._row_offset

    def add_row(self, row: Row) -> Iterator[Pair]:
        """Take a row; yield what is decided by it. `row.clock` is at least its time and `row_clock`.

        One that stands no later in `events` than another before it was written twice, and is passed over.
        """
        if row.offset <= self._row_offset:
            return
        self._row_offset, self._row_clock = row.offset, row.clock
        for _ in self.labels.end(row.clock):
            pass
        label = self.labels.take(row.id, lambda label: self._meet(row, label))
        if label is not None or row.time + self._horizon < self._label_clock:
            yield row, label
        else:
            self.rows.add(row)

    def add_label(self, label: Label) -> Iterator[Pair]:
        """Take a label; yield what is decided by it. `label.clock` is at least its time and `label_clock`."""
        self._label_clock = label.clock
        yield from ((row, None) for row in self.rows.end(label.clock))
        row = self.rows.take(label.id, lambda row: self._meet(row, label))
        if row is not None:
            yield row, label
        elif label.time + self._horizon >= self._row_clock:
            self.labels.add(label)

    def _meet(self, row: Row, label: Label) -> bool:
        return label.clock <= row.time + self._horizon and row.clock <= label.time + self._horizon

    def state(self) -> State:
        rows = sorted(self.rows, key=lambda row: row.offset)
        labels = sorted(self.labels, key=lambda label: label.offset)
        return State(self._row_clock, self._label_clock, self._row_offset, rows, labels)

    def load(self, state: State) -> None:
        self._row_clock, self._label_clock, self._row_offset = state.row_clock, state.label_clock, state.row_offset
        for row in state.rows:
            self.rows.add(row)
        for label in state.labels:
            self.labels.add(label)
