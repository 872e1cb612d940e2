"""A panel of tables that are held against the same stable period: windows, reference, and how statistics swing.

What the stream was like without a change is its first blocks, and later ones once they have left every window, as long
as nothing is wrong. When it has stayed changed for long enough, the newest blocks are adopted as what it is.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.drift import kernels
from services.drift.kernels import Floats, Ints
from services.drift.reducing import KEPT, ROWS
from services.drift.swings import LOT, WHILE_ALERTED, believe, unpacked, warm

SPANS = np.array([1, 2, 8], np.int64)  # blocks
BINS = 16
CELLS = 2 * BINS  # of a table at most, unless a category has more
GROWTH = 10  # times the first reference: rows beyond are forgotten gradually
PAIR = 2  # cells: whether or not


class PanelState(msgspec.Struct):
    """What Panel holds: the blocks of its windows, and what they are held against. Arrays are bytes."""

    blocks: int
    marks: list[list[int]]
    partitions: list[int]
    arrays: list[bytes]


class Cuts(msgspec.Struct, frozen=True):
    """Where tables were cut, and what they were like then; arrays as bytes."""

    edges: bytes
    filled: bytes
    bounds: bytes
    widths: bytes
    reference: bytes


class Panel:
    """`numbers` columns are binned by the reference's quantiles; `rest` tables come as counts of `widths` cells.

    Kolmogorov-Smirnov is asked of numbers alone, and of tables of two cells only the PSI. The last tables count, for
    each number in `ranged`, what is far outside of the reference: by more than all of its width.
    """

    def __init__(self, numbers: int, widths: list[int], blocks: int, ranged: Sequence[int] = ()) -> None:
        self._numbers, self.length = numbers, blocks
        self._ranged, self._widths = np.array(ranged, np.int64), widths + [2] * len(ranged)
        widths = self._widths
        self._tables = numbers + len(widths)
        self._cells = max([CELLS, *widths])
        self.asked = np.ones((self._tables, 3), np.bool_)
        self.asked[numbers:, kernels.KS] = False
        self.asked[[numbers + i for i, width in enumerate(widths) if width == PAIR], 1:] = False
        self.tests = int(self.asked.sum()) * len(SPANS)
        self.null = np.zeros((3, self._tables, len(SPANS), 3, 3))  # what is believed, and two lots that wait
        self.values, self.surprise = np.zeros((self._tables, len(SPANS), 3)), np.zeros((self._tables, len(SPANS), 3))
        self._quantiles = np.full((self.length, numbers, KEPT), np.nan, np.float32)
        self._missing = np.zeros((self.length, numbers), np.uint16)
        self._given = len(widths) - len(ranged)
        self._rest = np.zeros((self.length, self._given, self._cells), np.uint16)
        self._marks: list[list[int]] = []
        self.blocks, self._warm = 0, warm(SPANS)
        self._fades = np.array([GROWTH * self.length * ROWS, 1 - 1 / (GROWTH * self.length)])  # from so many rows on
        self._kept_from, self.alerted = np.zeros(self._tables, np.int64), np.zeros(self._tables, np.bool_)
        self.edges, self.filled = np.full((self._numbers, self._cells), np.inf), np.zeros(self._numbers, np.int64)
        self.widths = np.array([2] * self._numbers + self._widths, np.int64)
        self._references = np.zeros((0, self._tables, self._cells))  # by partition, in the order of `_partitions`
        self._partitions: list[int] = []
        self._slots = np.zeros(blocks, np.int64)  # of the blocks' partitions, in a ring
        self.bounds = np.zeros((len(self._ranged), 2))
        self._ring = np.zeros((self.length, self._tables, self._cells), np.int64)
        self._sums = np.zeros((len(SPANS), self._tables, self._cells), np.int64)

    @property
    def ready(self) -> bool:
        """Whether there is a reference."""
        return self.blocks >= self.length

    def fold(self, quantiles: NDArray[np.float32], missing: Ints, rest: Ints, mark: list[int]) -> float:
        """Take a block; return the greatest surprise in nats."""
        place = self.blocks % self.length
        leaving, slot = self._ring[place].copy(), int(self._slots[place])
        self._quantiles[place], self._missing[place] = quantiles, missing
        self._rest[place, :, : rest.shape[1]] = rest
        self._marks = [*self._marks[-self.length + 1 :], mark]
        self._slots[place] = self._slot(mark[1])
        self.blocks += 1
        if self.blocks <= self.length:
            if self.ready:
                self.adopt(range(self._tables))
            return 0.0
        left = self.blocks - 1 - self.length
        kernels.absorb(leaving, self.alerted, self._kept_from, left, self._references[slot], self._fades)
        kernels.fold_block(self._block(place), self._ring, self.blocks - 1, SPANS, self._sums)
        before = self._shares(SPANS), self._references
        held = self._sums, SPANS, *before, self.widths, self.asked, self.null[0], self.null[2]
        greatest: float = kernels.weigh(*held, self._warm, self.alerted, WHILE_ALERTED, self.values, self.surprise)
        if self.blocks % LOT == 0:
            believe(self.null, SPANS)
        return greatest

    def adopt(self, tables: Iterable[int], newest: int | None = None) -> None:
        """Let the blocks that are held, or so many, be what these tables are like. How statistics swing is kept."""
        held = min(newest or self.length, self.length)
        places = np.array([(self.blocks - 1 - back) % self.length for back in range(held)], np.int64)
        mine = np.array(sorted(tables), np.int64)
        self._kept_from[mine] = self.blocks
        self._cut(mine, places)
        self._refill(mine)
        self._references[:, mine] = 0
        for back, place in enumerate(places.tolist()):
            self._references[self._slot(self._marks[-1 - back][1]), mine] += self._ring[place, mine]

    @property
    def reference(self) -> Floats:
        """What the tables were like, all partitions together."""
        total: Floats = self._references.sum(axis=0)
        return total

    def _slot(self, partition: int) -> int:
        """Return where a partition stands among those that were seen; a new one comes last."""
        if partition not in self._partitions:
            self._partitions.append(partition)
            self._references = np.concatenate([self._references, np.zeros((1, self._tables, self._cells))])
        return self._partitions.index(partition)

    def _shares(self, spans: Ints) -> Floats:
        """Return how much of the newest window of each span is of which partition."""
        shares = np.empty((len(spans), len(self._partitions)))
        kernels.share(self._slots, self.blocks, spans, shares)
        return shares

    def _refill(self, tables: Ints) -> None:
        """Count the blocks that are held again, for tables whose edges are others now."""
        for place in range(self.length):
            self._ring[place, tables] = self._block(place)[tables]
        for s, span in enumerate(SPANS.tolist()):
            newest = np.array([(self.blocks - 1 - back) % self.length for back in range(span)], np.int64)
            self._sums[s, tables] = self._ring[np.ix_(newest, tables)].sum(axis=0)

    def since(self, table: int) -> int:
        """Return how many of the newest blocks are likely of another world: the suffix that is likeliest (Page, 1954).

        The other world is taken to be as the newest window that says so most clearly.
        """
        width = int(self.widths[table])
        span = int(self.surprise[table].max(axis=1).argmax())
        worlds = self._references[:, table, :width]
        p = np.stack([kernels.one_partition(worlds, slot) for slot in range(len(worlds))])
        q = self._sums[span, table, :width] + 0.5
        lifts = q / q.sum() / (self._shares(SPANS)[span] @ p)
        gains = [
            float(self._ring[(self.blocks - 1 - back) % self.length, table, :width] @ np.log(lifts))
            - ROWS * math.log(float(p[self._slot(self._marks[-1 - back][1])] @ lifts))
            for back in range(len(self._marks))
        ]
        return int(np.cumsum(gains).argmax()) + 1

    def mark(self, back: int) -> list[int]:
        """Return what was said of the block that many blocks ago, or of the oldest that is known; 1 is the newest."""
        return self._marks[-min(back, len(self._marks))]

    def window(self, table: int, back: int) -> Ints:
        order = [(self.blocks - 1 - i) % self.length for i in range(min(back, self.blocks, self.length))]
        counts: Ints = self._ring[order, table, : self.widths[table]].sum(axis=0)
        return counts

    def before(self, table: int) -> Floats:
        counts: Floats = self.reference[table, : self.widths[table]]
        return counts

    def deviation(self, table: int) -> float:
        """Return a number's robust deviation in the stable period: half of what the middle 0.68 spans; or 0."""
        edges = self.edges_of(table)
        if not len(edges):
            return 0.0
        share = np.cumsum(self.before(table)[: len(edges)]) / max(float(self.before(table).sum()), 1.0)
        low, high = (int(np.searchsorted(share, level)) for level in (0.16, 0.84))
        return float(edges[min(high, len(edges) - 1)] - edges[min(low, len(edges) - 1)]) / 2

    # Snapshots

    def state(self) -> PanelState:
        return PanelState(self.blocks, self._marks, self._partitions, [array.tobytes() for array in self._arrays()])

    def load(self, state: PanelState) -> None:
        self.blocks, self._marks, self._partitions = state.blocks, state.marks, state.partitions
        for back, mark in enumerate(reversed(self._marks)):
            self._slots[(self.blocks - 1 - back) % self.length] = self._slot(mark[1])
        self._references = np.zeros((len(self._partitions), self._tables, self._cells))
        for array, held in zip(self._arrays(), state.arrays, strict=True):
            array[...] = np.frombuffer(held, array.dtype).reshape(array.shape)
        if self.ready:
            self._refill(np.arange(self._tables))

    def _arrays(self) -> list[NDArray[Any]]:
        blocks: list[NDArray[Any]] = [self._quantiles, self._missing, self._rest]
        return [
            *blocks,
            self.edges,
            self.filled,
            self.bounds,
            self.widths,
            self._kept_from,
            self.alerted,
            self._references,
            self.null,
        ]

    # What it was like at some time

    def cuts(self) -> Cuts:
        """Return what the tables are like now."""
        return Cuts(
            *(array.tobytes() for array in (self.edges, self.filled, self.bounds, self.widths, self._references))
        )

    def against(self, cuts: Cuts) -> tuple[Floats, Floats, Ints]:
        """Hold the longest span's blocks against what the tables were once: surprise, values, and counts as cut then.

        Surprise and values are (tables, statistics). How statistics swing is what is known of that now.
        """
        edges, filled, bounds = (
            unpacked(held, like)
            for held, like in ((cuts.edges, self.edges), (cuts.filled, self.filled), (cuts.bounds, self.bounds))
        )
        span = SPANS[-1:]
        newest = [(self.blocks - 1 - back) % self.length for back in range(int(span[0]))]
        counts: Ints = np.sum([self._count(place, edges, filled, bounds) for place in newest], axis=0)
        null, (values, surprise) = self.null[0, :, -1:].copy(), np.zeros((2, self._tables, 1, 3))
        then, widths = self._then(cuts), unpacked(cuts.widths, self.widths)
        before = self._shares(span), then
        held = counts[None], span, *before, widths, self.asked, null, np.zeros_like(null)
        kernels.weigh(*held, self._warm[-1:], self.alerted, WHILE_ALERTED, values, surprise)
        return surprise[:, 0], values[:, 0], counts

    def cut_then(self, cuts: Cuts, table: int) -> tuple[Floats, Floats]:
        """Return a table's edges and its reference as they were."""
        edges, filled = unpacked(cuts.edges, self.edges), unpacked(cuts.filled, self.filled)
        reference: Floats = self._then(cuts)[:, table].sum(axis=0)
        return edges[table, : filled[table]] if table < self._numbers else np.zeros(0), reference

    def _then(self, cuts: Cuts) -> Floats:
        """Return the references of then; a partition that came later is like all of them."""
        held = np.frombuffer(cuts.reference).reshape(-1, self._tables, self._cells)
        return np.concatenate([held, np.zeros((len(self._partitions) - len(held), self._tables, self._cells))])

    def edges_of(self, table: int) -> Floats:
        """Return a number's edges; none for another table."""
        return self.edges[table, : self.filled[table]] if table < self._numbers else np.zeros(0)

    # Counting

    def _block(self, place: int) -> Ints:
        return self._count(place, self.edges, self.filled, self.bounds)

    def _count(self, place: int, edges: Floats, filled: Ints, bounds: Floats) -> Ints:
        cells = np.zeros((self._tables, self._cells), np.int64)
        numbers = cells[: self._numbers]
        kernels.bin_block(self._quantiles[place], ROWS // KEPT, self._missing[place], edges, filled, numbers)
        cells[self._numbers : self._numbers + self._given] = self._rest[place]
        outside = cells[self._numbers + self._given :]
        kernels.count_outside(self._quantiles[place], self._ranged, bounds, ROWS, outside)
        return cells

    def _cut(self, tables: Ints, places: Ints) -> None:
        """Set the edges of tables: quantiles of the blocks; a value that is more than a bin has a bin of its own."""
        for j in tables[tables < self._numbers].tolist():
            edges = cut(self._held(j, places))
            self.filled[j], self.widths[j] = len(edges), len(edges) + 2
            self.edges[j] = np.inf
            self.edges[j, : len(edges)] = edges
        for i in (tables[tables >= self._numbers + self._given] - self._numbers - self._given).tolist():
            self.bounds[i] = _bounds(self._held(int(self._ranged[i]), places))

    def _held(self, number: int, places: Ints) -> NDArray[np.float32]:
        """Return the values of a number that some blocks have, sorted."""
        values = np.sort(self._quantiles[places, number].ravel())
        return values[: values.size - int(np.isnan(values).sum())]


def _bounds(values: NDArray[np.float32]) -> tuple[float, float]:
    if not values.size:
        return -math.inf, math.inf
    least, most = float(values[0]), float(values[-1])
    room = max(most - least, abs(least), 1e-9) if most == least else most - least
    return least - room, most + room


def cut(values: NDArray[np.float32]) -> Floats:
    """Return the edges between bins of about as many sorted values each; one that repeats has a bin of its own."""
    if not values.size:
        return np.zeros(0)
    found = np.quantile(values, np.arange(1, BINS) / BINS, method="lower")
    repeated = np.unique(found[:-1][found[1:] == found[:-1]])
    edges = np.union1d(found, np.nextafter(repeated, np.float32(math.inf)))
    return np.asarray(edges, np.float64)
