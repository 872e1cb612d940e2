"""The delayed join. What it holds depends on how far each input was read, never on how the two interleaved.

Each input has a clock of its own, the newest time read on it. A row is given up when the *labels'* clock passes its
time + horizon, a label when the *rows'* clock passes its own time + horizon. Row and label may meet if each arrived
before the other's wait was over, measured on those clocks: a test that gives the same answer whichever was read first.
A label goes to the first row of its id that it may meet.

Where labels may be corrected, a row is kept beyond its first label, or the end of its wait, until the labels' clock
passes its time + corrections. What is true of it then is the label with the newest time of its own, whatever the order
in which labels arrive; without corrections a row is done with its first.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import msgspec
import numpy as np
import pyarrow as pa

from services.labels.early import Early, Label
from services.labels.in_memory import InMemory, Segments
from services.labels.index import Ints
from services.labels.rows import DONE, NEVER, PAGE, TOLD, WAITING, Part, Rows
from services.runtime.frames import micros

BEFORE_ALL = -(2**63)

Outcome: TypeAlias = Literal["label", "timeout", "late", "corrected"]
VAIN = ("superseded", "unmet")  # labels that said nothing: an older one than is known, one that met no row


class Decided(msgspec.Struct, frozen=True, gc=False):
    """What the row in a slot has come to; `time` and `value` are its label's, None where it waited in vain.

    `retracted` was its label's value until now; None where there was none.
    """

    outcome: Outcome
    slot: int
    time: int | None = None
    value: float | None = None
    retracted: float | None = None


class State(msgspec.Struct):
    """All that the join holds."""

    row_clock: int
    label_clock: int
    row_offset: int  # of the newest row
    rows: list[Part]
    labels: list[Label]
    totals: dict[str, int]


class Join:
    """Joins the rows and labels of one partition; `horizon` and `corrections` are in microseconds.

    `schema` is that of the batches of rows. If it is `silent`, rows that waited in vain are only counted. The slots of
    what was decided hold until the next `add_rows`.
    """

    def __init__(
        self,
        schema: pa.Schema,
        horizon: int,
        corrections: int | None = None,
        segments: Segments | None = None,
        *,
        silent: bool = False,
        hashed: Callable[[str], int] = hash,
        page: int = PAGE,
    ) -> None:
        self._horizon, self._corrected = horizon, corrections is not None
        self._silent = silent and not self._corrected
        self._hears = horizon if corrections is None else corrections  # how long a row can be told a label
        self._hashed = hashed
        self.row_clock = self.label_clock = self.row_offset = BEFORE_ALL
        store = InMemory() if segments is None else segments
        self.rows = Rows(schema, store, corrected=self._corrected, page=page, hashed=hashed)
        self.labels = Early(horizon, hashed)
        self.totals: dict[str, int] = dict.fromkeys((*get_args(Outcome), *VAIN), 0)
        self._decided: list[Decided] = []
        self._done: list[int] = []

    def add_rows(self, batch: pa.RecordBatch) -> list[Decided]:
        """Take rows, at most a page; return what is decided by them, in order.

        One that stands no later in `events` than another before it was written twice, and is passed over.
        """
        times, offsets = micros(batch.column("event_time")), np.asarray(batch.column("offset"))
        clocks = np.maximum.accumulate(np.maximum(times, self.row_clock))
        newest = np.maximum.accumulate(np.append(self.row_offset, offsets))
        new = offsets > newest[:-1]
        if not new.any():
            return []
        if not new.all():
            batch, clocks = batch.filter(pa.array(new)), clocks[new]
        self.row_clock, self.row_offset = int(clocks[-1]), int(newest[-1])
        self._place(batch, clocks)
        self.totals["unmet"] += self.labels.end(self.row_clock)
        return self._all_decided()

    def _place(self, batch: pa.RecordBatch, clocks: Ints) -> None:
        self.rows.make_room(batch.num_rows)
        ids = batch.column("event_id").to_pylist()
        slots = self.rows.append(batch, ids, clocks)
        ended = self.rows.columns["time"][slots] < self.label_clock - self._horizon
        if self.labels:
            ended |= [key in self.labels for key in self.rows.columns["hash"][slots].tolist()]
        for place in np.flatnonzero(ended).tolist():
            self._add_row(int(slots[place]), ids[place])

    def _add_row(self, slot: int, name: str) -> None:
        time = int(self.rows.columns["time"][slot])
        label = self._waiting_label(slot, name)
        if label is not None and label.clock <= time + self._horizon:
            self.labels.take(label)
            self._begin(slot, label, name)
        elif time + self._horizon < self.label_clock:
            self._begin(slot, None, name)

    def add_labels(self, labels: Sequence[Label]) -> list[Decided]:
        """Take labels; return what is decided by them. A label's clock is at least its time and `label_clock`."""
        hashes = np.fromiter((self._hashed(label.id) for label in labels), np.int64, len(labels))
        found = self.rows.find([label.id for label in labels], hashes)
        for label, slots in zip(labels, found, strict=True):
            self._add_label(label, slots)
        return self._all_decided()

    def _add_label(self, label: Label, slots: list[int]) -> None:
        self.label_clock = label.clock
        self._end(label.clock)
        slot = self._first(slots, label) if slots else None
        if slot is not None and self.rows.columns["state"][slot] == TOLD:
            self._hear(slot, label)
        elif slot is not None:
            self._begin(slot, label)
        elif label.time + self._horizon >= self.row_clock:
            self.labels.add(label)
        else:
            self.totals["unmet"] += 1

    def _end(self, clock: int) -> None:
        """Give up the rows whose wait is over by this clock of the labels, and let go those that hear no more."""
        if clock - self._horizon > self.rows.earliest[WAITING]:
            self._give_up(self.rows.due(WAITING, clock - self._horizon))
        if self._corrected:
            for slot in self.rows.due(TOLD, clock - self._hears).tolist():
                self._finish(slot)

    def _give_up(self, slots: Ints) -> None:
        if self._silent:
            self.totals["timeout"] += len(slots)
            self.rows.let_go(slots)
            return
        for slot in slots.tolist():
            self._begin(slot, None)

    def _first(self, slots: list[int], label: Label) -> int | None:
        """Return the slot of the row that stands first in its log, of those that this label may meet."""
        columns = self.rows.columns
        there = [slot for slot in slots if columns["state"][slot] != DONE and self._meet(slot, label)]
        return min(there, key=columns["offset"].__getitem__, default=None)

    def _begin(self, slot: int, label: Label | None, name: str | None = None) -> None:
        """Say the first of a row, and what the labels that wait for it have to add."""
        self._decide("timeout" if label is None else "label", slot, label)
        if not self._corrected:
            self._finish(slot)
            return
        self._keep(slot, label)
        while (more := self._waiting_label(slot, name)) is not None:
            self.labels.take(more)
            self._hear(slot, more)
        if int(self.rows.columns["time"][slot]) + self._hears < self.label_clock:
            self._finish(slot)

    def _hear(self, slot: int, label: Label) -> None:
        columns = self.rows.columns
        told_at, told = int(columns["told_at"][slot]), float(columns["told"][slot])
        if told_at == NEVER:
            self._decide("late", slot, label)
        elif label.time < told_at:
            self.totals["superseded"] += 1
            return
        else:
            self._decide("corrected", slot, label, told)
        self._keep(slot, label)

    def _keep(self, slot: int, label: Label | None) -> None:
        columns = self.rows.columns
        columns["state"][slot] = TOLD
        columns["told_at"][slot], columns["told"][slot] = (label.time, label.value) if label else (NEVER, 0.0)

    def _decide(self, outcome: Outcome, slot: int, label: Label | None = None, retracted: float | None = None) -> None:
        self.totals[outcome] += 1
        time, value = (label.time, label.value) if label else (None, None)
        self._decided.append(Decided(outcome, slot, time, value, retracted))

    def _finish(self, slot: int) -> None:
        self.rows.columns["state"][slot] = DONE
        self._done.append(slot)

    def _all_decided(self) -> list[Decided]:
        """Return what was decided since the last call, and have the rows let go that are done by it."""
        if self._done:
            self.rows.let_go(np.array(self._done, np.int64))
        decided, self._decided, self._done = self._decided, [], []
        return decided

    def _waiting_label(self, slot: int, name: str | None) -> Label | None:
        """Return the first label that waits for this row; its id is looked up if it is not given and may matter."""
        if int(self.rows.columns["hash"][slot]) not in self.labels:
            return None
        name = name or self.rows.ids(np.array([slot]))[0]
        return self.labels.first(name, lambda label: self._meet(slot, label))

    def _meet(self, slot: int, label: Label) -> bool:
        time, clock = int(self.rows.columns["time"][slot]), int(self.rows.columns["clock"][slot])
        return label.clock <= time + self._hears and clock <= label.time + self._horizon

    def state(self) -> State:
        clocks = self.row_clock, self.label_clock, self.row_offset
        return State(*clocks, self.rows.state(), self.labels.sorted(), dict(self.totals))

    def load(self, state: State) -> None:
        """Take a state, into a join that never held any; raise Unusable if a segment of it is missing or damaged."""
        self.row_clock, self.label_clock, self.row_offset = state.row_clock, state.label_clock, state.row_offset
        self.rows.load(state.rows)
        for label in state.labels:
            self.labels.add(label)
        self.totals = dict(state.totals)
