"""The delayed join. What it holds depends on how far each input was read, never on how the two interleaved.

Each input has a clock of its own, the newest time read on it. A row is given up when the *labels'* clock passes its
time + horizon, a label when the *rows'* clock passes its own time + horizon. Row and label may meet if each arrived
before the other's wait was over, measured on those clocks: a test that gives the same answer whichever was read first.
A label goes to the first row of its id that it may meet.

Where labels may be corrected, a row is kept beyond its first label, or the end of its wait, until the labels' clock
passes its time + corrections. What is true of it then is the label with the newest time of its own, whatever the order
in which labels arrive; without corrections a row is done with its first.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

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
    batch: tuple[dict[str, Any], ...]  # what the versions of the batch model said
    clock: int


class Label(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A label; `clock` is the labels' clock when it was read, itself included."""

    id: str
    time: int
    offset: int
    value: float
    clock: int


class Life(msgspec.Struct, array_like=True, gc=False):
    """A row about which something was said, and which may hear more: `truth` is None where its wait was in vain."""

    row: Row
    truth: Label | None = None

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def time(self) -> int:
        return self.row.time

    @property
    def offset(self) -> int:
        return self.row.offset


class State(msgspec.Struct):
    """All that the join holds, in an order that depends on nothing but what is in it."""

    row_clock: int
    label_clock: int
    row_offset: int  # of the newest row
    rows: list[Row]
    lives: list[Life]
    labels: list[Label]
    totals: dict[str, int]


Outcome: TypeAlias = Literal["label", "timeout", "late", "corrected"]
VAIN = ("superseded", "unmet")  # labels that said nothing: an older one than is known, one that met no row
Item = TypeVar("Item", Row, Life, Label)


class Decided(msgspec.Struct, frozen=True):
    """What a row has come to. `retracted` was its label until now; None where there was none."""

    outcome: Outcome
    row: Row
    label: Label | None  # None: it waited in vain
    retracted: Label | None = None


class Waiting(Generic[Item]):
    """What waits, by id, and whose wait ends first; `patience` is in microseconds after an item's time."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._items: dict[str, list[Item]] = {}
        self._ends: list[tuple[int, int, str]] = []  # (time, offset, id) of these, and of some that went meanwhile
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        return (item for items in self._items.values() for item in items)

    def add(self, item: Item) -> None:
        self._items.setdefault(item.id, []).append(item)
        self._count += 1
        heappush(self._ends, (item.time, item.offset, item.id))

    def first(self, name: str, fits: Callable[[Item], bool]) -> Item | None:
        """Return the one of this id that fits and stands first in its log."""
        fitting = filter(fits, self._items.get(name, ()))
        return min(fitting, key=lambda item: item.offset, default=None)

    def take(self, item: Item) -> None:
        """Let it go before its wait is over."""
        self._remove(item)
        if len(self._ends) > 2 * self._count + SPARE:
            self._ends = sorted((item.time, item.offset, item.id) for item in self)

    def end(self, clock: int) -> Iterator[Item]:
        """Yield those whose wait is over by this clock of the other input."""
        while self._ends and self._ends[0][0] + self._patience < clock:
            _, offset, name = heappop(self._ends)
            for item in [item for item in self._items.get(name, ()) if item.offset == offset]:
                self._remove(item)
                yield item

    def _remove(self, item: Item) -> None:
        left = [other for other in self._items[item.id] if other is not item]
        self._count -= 1
        if left:
            self._items[item.id] = left
        else:
            del self._items[item.id]

    def sorted(self) -> list[Item]:
        return sorted(self, key=lambda item: item.offset)


class Join:
    """Joins the rows and labels of one partition; `horizon` and `corrections` are in microseconds."""

    def __init__(self, horizon: int, corrections: int | None = None) -> None:
        self._horizon, self._corrected = horizon, corrections is not None
        self._hears = horizon if corrections is None else corrections  # how long a row can be told a label
        self.row_clock = self.label_clock = self.row_offset = BEFORE_ALL
        self.rows = Waiting[Row](horizon)
        self.lives = Waiting[Life](self._hears)
        self.labels = Waiting[Label](horizon)
        self.totals: dict[str, int] = dict.fromkeys((*get_args(Outcome), *VAIN), 0)

    def add_row(self, row: Row) -> Iterator[Decided]:
        """Take a row; yield what is decided by it. `row.clock` is at least its time and `row_clock`.

        One that stands no later in `events` than another before it was written twice, and is passed over.
        """
        if row.offset <= self.row_offset:
            return
        self.row_offset, self.row_clock = row.offset, row.clock
        self.totals["unmet"] += sum(1 for _ in self.labels.end(row.clock))
        label = self._waiting_label(row)
        if label is not None and self._in_time(row, label):
            self.labels.take(label)
            yield from self._begin(row, label)
        elif row.time + self._horizon < self.label_clock:
            yield from self._begin(row, None)
        else:
            self.rows.add(row)

    def add_label(self, label: Label) -> Iterator[Decided]:
        """Take a label; yield what is decided by it. `label.clock` is at least its time and `label_clock`."""
        self.label_clock = label.clock
        for given_up in self.rows.end(label.clock):
            yield from self._begin(given_up, None)
        for _ in self.lives.end(label.clock):
            pass
        row = self.rows.first(label.id, lambda row: self._meet(row, label))
        life = self.lives.first(label.id, lambda life: self._meet(life.row, label))
        if life is not None and (row is None or life.offset < row.offset):
            yield from self._hear(life, label)
        elif row is not None:
            self.rows.take(row)
            yield from self._begin(row, label)
        elif label.time + self._horizon >= self.row_clock:
            self.labels.add(label)
        else:
            self.totals["unmet"] += 1

    def _begin(self, row: Row, label: Label | None) -> Iterator[Decided]:
        """Say the first of a row, and what the labels that wait for it have to add."""
        yield self._decided("timeout" if label is None else "label", row, label)
        if not self._corrected:
            return
        life = Life(row, label)
        while (more := self._waiting_label(row)) is not None:
            self.labels.take(more)
            yield from self._hear(life, more)
        if row.time + self._hears >= self.label_clock:
            self.lives.add(life)

    def _hear(self, life: Life, label: Label) -> Iterator[Decided]:
        before = life.truth
        if before is not None and label.time < before.time:
            self.totals["superseded"] += 1
        else:
            life.truth = label
            yield self._decided("late" if before is None else "corrected", life.row, label, before)

    def _decided(self, outcome: Outcome, row: Row, label: Label | None, retracted: Label | None = None) -> Decided:
        self.totals[outcome] += 1
        return Decided(outcome, row, label, retracted)

    def _waiting_label(self, row: Row) -> Label | None:
        return self.labels.first(row.id, lambda label: self._meet(row, label))

    def _meet(self, row: Row, label: Label) -> bool:
        return label.clock <= row.time + self._hears and row.clock <= label.time + self._horizon

    def _in_time(self, row: Row, label: Label) -> bool:
        return label.clock <= row.time + self._horizon

    def state(self) -> State:
        clocks = self.row_clock, self.label_clock, self.row_offset
        return State(*clocks, self.rows.sorted(), self.lives.sorted(), self.labels.sorted(), dict(self.totals))

    def load(self, state: State) -> None:
        self.row_clock, self.label_clock, self.row_offset = state.row_clock, state.label_clock, state.row_offset
        for row in state.rows:
            self.rows.add(row)
        for life in state.lives:
            self.lives.add(life)
        for label in state.labels:
            self.labels.add(label)
        self.totals = dict(state.totals)
