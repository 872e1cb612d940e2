"""The rows that wait, in columns: in memory what the join decides by, the rest in segments that are written once.

A row has a *slot*, a number that is its own until the next `make_room`. New rows go to the open page, which is in
memory as it is. A full page is rid of the rows that are done and sorted by time; if that leaves most of it, it becomes
a segment: all that `scored` had of its rows, and their clocks. A segment of which less than half still waits has that
moved to the open page, so that memory and disk are bounded by the rows that wait, not by those that came.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.labels.in_memory import Segments
from services.labels.index import Index, Ints
from services.runtime.frames import micros

PAGE = 1 << 15  # slots of a page
DONE, WAITING, TOLD = 0, 1, 2  # states of a row: it is of no interest, waits for a label, may hear another
NEVER = 2**63 - 1
NONE = np.zeros(0, np.int64)


class Part(msgspec.Struct, array_like=True):
    """What a snapshot says of a page: its segment's name, or for the open one its rows, and the columns that change."""

    segment: str
    rows: bytes
    columns: dict[str, bytes]


class Rows:
    """Rows of one partition, of `schema`. With `corrected` they have places for what they were told.

    `columns` are by slot: `time`, `clock` and `offset` of a row, `state`, the `hash` of its id, and `told_at` and
    `told`, which the join fills in. `earliest` is, by state, a time before which no row in that state is.
    """

    def __init__(
        self,
        schema: pa.Schema,
        segments: Segments,
        *,
        corrected: bool,
        page: int = PAGE,
        hashed: Callable[[str], int] = hash,
    ) -> None:
        self._schema = schema.append(pa.field("clock", pa.int64(), nullable=False))
        self._segments, self._page, self._hashed = segments, page, hashed
        self._changing = {"state": "i1"} | ({"told_at": "i8", "told": "f8"} if corrected else {})
        kinds = dict.fromkeys(("hash", "time", "clock", "offset"), "i8") | self._changing
        self.columns: dict[str, NDArray[Any]] = {name: np.zeros(0, kind) for name, kind in kinds.items()}
        self._index = Index()
        self._names: list[str] = []  # of each page's segment; empty where it has none
        self._free: list[int] = []
        self._sizes, self._left = NONE, NONE  # of each page: slots in use, rows that are not done
        self._heads, self._next = np.zeros((3, 0), np.int64), np.zeros((3, 0), np.int64)  # by state and page; see due
        self.earliest = [NEVER] * 3
        self._batches: list[pa.RecordBatch] = []  # of the open page
        self._open = self._new_page()

    def __len__(self) -> int:
        """How many are not done."""
        return int(self._left.sum())

    @property
    def segments(self) -> list[str]:
        return [self._names[page] for page in self._sealed()]

    def make_room(self, count: int) -> None:
        """Prepare for `count` rows, at most a page: slots may change, and those of done rows are used again."""
        if self._sizes[self._open] + count > self._page:
            self._close_page()
            if self._sizes[self._open] > min(self._page // 2, self._page - count):
                self._seal()
        sparse = np.flatnonzero(2 * self._left < self._sizes)
        for page in sparse[(self._left[sparse] == 0) & (sparse != self._open)].tolist():
            self._forget(page)
        room = self._page - self._sizes[self._open] - count
        movable = sparse[(self._left[sparse] > 0) & (self._left[sparse] <= room) & (sparse != self._open)]
        if len(movable):
            self._give_up(int(movable[0]))

    def append(self, batch: pa.RecordBatch, ids: Sequence[str], clocks: Ints) -> Ints:
        """Take rows for which there is room, all of them waiting; return their slots."""
        whole = pa.RecordBatch.from_arrays([*batch.columns, pa.array(clocks)], schema=self._schema)
        return self._append(whole, np.fromiter(map(self._hashed, ids), np.int64, len(ids)))

    def find(self, ids: Sequence[str], hashes: Ints) -> list[list[int]]:
        """Return for each id the slots of its rows that are not done."""
        found: list[list[int]] = [[] for _ in ids]
        which, slots = self._index.find(self.columns["hash"], hashes)
        if len(slots):
            for place, slot, name in zip(which.tolist(), slots.tolist(), self.ids(slots), strict=True):
                if name == ids[place]:
                    found[place].append(slot)
        return found

    def ids(self, slots: Ints) -> list[str]:
        ids: list[str] = self.take(slots, ["event_id"]).column(0).to_pylist()
        return ids

    def take(self, slots: Ints, names: Sequence[str]) -> pa.RecordBatch:
        """Return these columns of the rows in these slots, at least one, in this order."""
        order = np.argsort(slots, kind="stable")
        pieces = [batch.select(names).take(pa.array(places)) for batch, places in self._places(slots[order])]
        whole = pa.concat_batches(pieces) if len(pieces) > 1 else pieces[0]
        if (order[1:] > order[:-1]).all():
            return whole
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return whole.take(pa.array(back))

    def due(self, state: int, limit: int) -> Ints:
        """Return the slots of the rows in this state with a time before `limit`, by time and offset.

        Each page knows the earliest time that may be due, and a segment, which is sorted, up to where it was looked
        through. So the limits of a state must not fall, and a row must not get into a state after its limit.
        """
        if limit <= self.earliest[state]:
            return NONE
        pages = np.flatnonzero(self._next[state] < limit).tolist()
        slots = np.concatenate([NONE, *(self._due(page, state, limit) for page in pages)])
        self.earliest[state] = int(self._next[state].min())
        slots = slots[self.columns["state"][slots] == state]
        return self._sorted(slots)

    def let_go(self, slots: Ints) -> None:
        """Have these, which were not done, be done; what they were can be read until room is made."""
        self.columns["state"][slots] = DONE
        self._index.remove(self.columns["hash"], slots)
        pages, counts = np.unique(slots // self._page, return_counts=True)
        self._left[pages] -= counts

    # Pages

    def _new_page(self) -> int:
        if not self._free:
            self._grow(max(1, len(self._names) // 4))
        return self._free.pop()

    def _grow(self, pages: int) -> None:
        first = len(self._names)
        self._free += range(first + pages - 1, first - 1, -1)
        self._names += [""] * pages
        more = np.zeros(pages, np.int64)
        self._sizes, self._left = np.append(self._sizes, more), np.append(self._left, more)
        self._heads = np.pad(self._heads, ((0, 0), (0, pages)))
        self._next = np.pad(self._next, ((0, 0), (0, pages)), constant_values=NEVER)
        for name, column in self.columns.items():
            self.columns[name] = np.append(column, np.zeros(pages * self._page, column.dtype))

    def _sealed(self) -> list[int]:
        """Return the pages of segments in which something is of interest."""
        return [page for page, left in enumerate(self._left.tolist()) if left and page != self._open]

    def _span(self, page: int) -> slice:
        first = page * self._page
        return slice(first, first + int(self._sizes[page]))

    def _sorted(self, slots: Ints) -> Ints:
        """Return these slots in the order of their rows' times, and of offsets where these are equal."""
        order: Ints = np.lexsort((self.columns["offset"][slots], self.columns["time"][slots]))
        return slots[order]

    def _interesting(self, page: int) -> Ints:
        return page * self._page + np.flatnonzero(self.columns["state"][self._span(page)])

    def _append(self, batch: pa.RecordBatch, hashes: Ints) -> Ints:
        """Put rows of the full schema at the end of the open page."""
        span, count = self._span(self._open), batch.num_rows
        slots = np.arange(span.stop, span.stop + count)
        times = micros(batch.column("event_time"))
        new = {"hash": hashes, "time": times, "clock": batch.column("clock"), "offset": batch.column("offset")}
        for name, values in new.items():
            self.columns[name][slots] = values
        self.columns["state"][slots] = WAITING
        self._index.insert(self.columns["hash"], slots)
        self._sizes[self._open] += count
        self._left[self._open] += count
        self._expect(self._open, int(times.min()))
        self._batches.append(batch)
        while len(self._batches) > 1 and self._batches[-2].num_rows < 2 * self._batches[-1].num_rows:
            self._batches[-2:] = [pa.concat_batches(self._batches[-2:])]
        return slots

    def _expect(self, page: int, earliest: int) -> None:
        self._next[:, page] = np.minimum(self._next[:, page], earliest)
        self.earliest = [min(known, earliest) for known in self.earliest]

    def _close_page(self) -> None:
        """Rid the open page of rows that are done, and sort it by time and offset."""
        slots, page = self._interesting(self._open), self._open
        order = self._sorted(slots)
        self._batches = [self.take(order, self._schema.names)] if len(order) else []
        self._index.remove(self.columns["hash"], slots)
        first, self._sizes[page] = page * self._page, len(order)
        for column in self.columns.values():
            column[first : first + len(order)] = column[order]
        self.columns["state"][first + len(order) : first + self._page] = DONE
        self._index.insert(self.columns["hash"], np.arange(first, first + len(order)))

    def _seal(self) -> None:
        """Make a segment of the open page, which was just closed."""
        self._names[self._open] = self._segments.write(self._batches[0])
        self._heads[:, self._open] = 0
        self._batches, self._open = [], self._new_page()

    def _forget(self, page: int) -> None:
        self._segments.drop(self._names[page])
        self._names[page] = ""
        self._sizes[page] = self._left[page] = 0
        self._next[:, page] = NEVER
        self._free.append(page)

    def _give_up(self, page: int) -> None:
        """Move what is of interest in a page to the open one, as it is."""
        slots = self._interesting(page)
        there = self._append(self.take(slots, self._schema.names), self.columns["hash"][slots])
        for name in self._changing:
            self.columns[name][there] = self.columns[name][slots]
        self.let_go(slots)
        self._forget(page)

    def _due(self, page: int, state: int, limit: int) -> Ints:
        span = self._span(page)
        times = self.columns["time"][span]
        if page == self._open:
            later = times[(self.columns["state"][span] != DONE) & (times >= limit)]
            self._next[state, page] = later.min(initial=NEVER)
            return np.arange(span.start, span.stop)[times < limit]
        head = int(self._heads[state, page])
        end = head + int(np.searchsorted(times[head:], limit))
        self._heads[state, page] = end
        self._next[state, page] = times[end] if end < len(times) else NEVER
        return np.arange(span.start + head, span.start + end)

    def _places(self, slots: Ints) -> Iterator[tuple[pa.RecordBatch, Ints]]:
        """Yield the batches in which these slots, in order, are, with the places in them."""
        pages = slots // self._page
        for mine in np.split(slots, np.flatnonzero(np.diff(pages)) + 1):
            page = int(mine[0]) // self._page
            first = page * self._page
            for batch in self._batches if page == self._open else [self._segments.read(self._names[page])]:
                here = mine[(mine >= first) & (mine < first + batch.num_rows)]
                if len(here):
                    yield batch, here - first
                first += batch.num_rows

    # A snapshot names the segments, and holds the open page's rows in the order of their log

    def state(self) -> list[Part]:
        sealed = [Part(self._names[page], b"", self._packed(self._span(page))) for page in self._sealed()]
        return [*sealed, *self._open_part()]

    def _open_part(self) -> list[Part]:
        slots = self._interesting(self._open)
        slots = slots[np.argsort(self.columns["offset"][slots])]
        if not len(slots):
            return []
        return [Part("", self.take(slots, self._schema.names).serialize().to_pybytes(), self._packed(slots))]

    def _packed(self, slots: slice | Ints) -> dict[str, bytes]:
        columns = {name: np.ascontiguousarray(self.columns[name][slots]) for name in self._changing}
        return {name: pa.compress(column, codec="lz4", asbytes=True) for name, column in columns.items()}

    def load(self, parts: Sequence[Part]) -> None:
        """Take what `state` gave into rows that never held any; raise Unusable if a segment is not what it was."""
        for part in parts:
            batch = self._segments.check(part.segment) if part.segment else self._read(part.rows)
            ids = batch.column("event_id").to_pylist()
            slots = self._append(batch, np.fromiter(map(self._hashed, ids), np.int64, len(ids)))
            for name, packed in part.columns.items():
                kind = self.columns[name].dtype
                self.columns[name][slots] = np.frombuffer(
                    pa.decompress(packed, len(slots) * kind.itemsize, codec="lz4"), kind
                )
            done = slots[self.columns["state"][slots] == DONE]
            self._index.remove(self.columns["hash"], done)
            self._left[self._open] -= len(done)
            if part.segment:
                self._names[self._open] = part.segment
                self._batches, self._open = [], self._new_page()

    def _read(self, message: bytes) -> pa.RecordBatch:
        return pa.ipc.read_record_batch(pa.py_buffer(message), self._schema)
