"""The delayed join. What it holds depends on how far each input was read, never on how the two interleaved.

Each input has a clock of its own, the newest time read on it. A row waits until the *labels'* clock passes its time +
horizon, a label until the *rows'* clock passes its own time + horizon. Row and label meet if each arrived before the
other's wait was over, measured on those clocks: a test that gives the same answer whichever was read first. A row takes
the first label that it may meet; a label meets every row of its id.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TypeAlias

import msgspec

BEFORE_ALL = -(2**63)


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
    rows: list[Row]
    labels: list[Label]


Pair: TypeAlias = tuple[Row, Label | None]  # a row with its label, or with None: it waited in vain


class Join:
    """Joins the rows and labels of one partition; `horizon` is in microseconds."""

    def __init__(self, horizon: int) -> None:
        self._horizon = horizon
        self._row_clock = self._label_clock = BEFORE_ALL
        self._rows: dict[str, list[Row]] = {}
        self._labels: dict[str, list[Label]] = {}
        self._row_ends: list[tuple[int, int, str]] = []  # (time, offset, id): whose wait ends first
        self._label_ends: list[tuple[int, int, str]] = []

    @property
    def row_clock(self) -> int:
        return self._row_clock

    @property
    def label_clock(self) -> int:
        return self._label_clock

    def add_row(self, row: Row) -> Iterator[Pair]:
        """Take a row; yield what is decided by it. `row.clock` is at least its time and `row_clock`."""
        self._row_clock = row.clock
        self._forget_labels()
        label = next((label for label in self._labels.get(row.id, ()) if self._meet(row, label)), None)
        if label is not None:
            yield row, label
        elif row.time + self._horizon < self._label_clock:
            yield row, None
        else:
            self._wait(row)

    def add_label(self, label: Label) -> Iterator[Pair]:
        """Take a label; yield what is decided by it. `label.clock` is at least its time and `label_clock`."""
        self._label_clock = label.clock
        yield from self._give_up()
        waiting = self._rows.get(label.id, [])
        met = [row for row in waiting if self._meet(row, label)]
        for row in met:
            waiting.remove(row)
            yield row, label
        if met and not waiting:
            del self._rows[label.id]
        if label.time + self._horizon >= self._row_clock:
            self._keep(label)

    def _meet(self, row: Row, label: Label) -> bool:
        return label.clock <= row.time + self._horizon and row.clock <= label.time + self._horizon

    def _wait(self, row: Row) -> None:
        self._rows.setdefault(row.id, []).append(row)
        heappush(self._row_ends, (row.time, row.offset, row.id))

    def _keep(self, label: Label) -> None:
        self._labels.setdefault(label.id, []).append(label)
        heappush(self._label_ends, (label.time, label.offset, label.id))

    def _give_up(self) -> Iterator[Pair]:
        while self._row_ends and self._row_ends[0][0] + self._horizon < self._label_clock:
            _, offset, name = heappop(self._row_ends)
            for row in [row for row in self._rows.get(name, ()) if row.offset == offset]:
                self._rows[name].remove(row)
                if not self._rows[name]:
                    del self._rows[name]
                yield row, None

    def _forget_labels(self) -> None:
        while self._label_ends and self._label_ends[0][0] + self._horizon < self._row_clock:
            _, offset, name = heappop(self._label_ends)
            self._labels[name] = [label for label in self._labels[name] if label.offset != offset]
            if not self._labels[name]:
                del self._labels[name]

    def state(self) -> State:
        rows = sorted((row for rows in self._rows.values() for row in rows), key=lambda row: row.offset)
        labels = sorted((label for labels in self._labels.values() for label in labels), key=lambda label: label.offset)
        return State(self._row_clock, self._label_clock, rows, labels)

    def load(self, state: State) -> None:
        self._row_clock, self._label_clock = state.row_clock, state.label_clock
        for row in state.rows:
            self._wait(row)
        for label in state.labels:
            self._keep(label)
