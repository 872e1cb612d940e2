"""The compiled part: a block's counts join sliding windows, and each window is held against what was before.

A table is the counts of one watched column in cells: bins of a number in their order, or values of a category. Windows
end with the newest block and are so many blocks long as `spans` says. Statistics, each scaled so that without a change
it has a known law where rows are independent (n of the window, m of the reference, h = 1 / (1/n + 1/m)):

- PSI: the population stability index (the Jeffreys divergence) times h is chi-square with cells - 1 degrees (Yurdakul,
  "Statistical properties of the population stability index", 2018),
- JS: 8 h times the Jensen-Shannon divergence in nats, the same law,
- KS: h times the squared largest difference of the distribution functions, P(> x) <= 2 exp(-2 x) (Smirnov, 1948).

Rows are not independent: a day's weather makes them alike. So what is believed of each statistic is how much it swings
from window to window without a change: its mean, as a multiple of the law's (the design effect), and its deviation,
which gives the degrees of freedom (Rao and Scott, "The analysis of categorical data from complex sample surveys", JASA
1981, with Satterthwaite's correction). Neither is less than the law's: never more sure than independence allows.
"""

import math
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., object])
compiled: Callable[[Function], Function] = njit(cache=True, error_model="numpy")

PSI, KS, JS = range(3)
STATISTICS = ("psi", "ks", "js")
KS_MEAN, KS_DEVIATION = math.pi**2 / 12, 0.6323  # of h D^2, and its deviation as a share of that
SMOOTH = 0.5  # rows that every cell is believed to have had
POOLED = 10.0  # rows that a partition is believed to have had as all of them together
PRIOR = 5.0
ROOM = 2.0  # standard errors
FAR = 5.0  # deviations beyond which a normal tail is what its density says
CEILING = 6.0  # times the design effect: what one window can add to it


@compiled
def bin_block(
    quantiles: NDArray[np.float32], weight: int, missing: Ints, edges: Floats, filled: Ints, cells: Ints
) -> None:
    """Count each sorted column (columns, kept; NaN last) in the bins between its edges; the last cell is of missing."""
    for j in range(quantiles.shape[0]):
        place, end = 0, filled[j]
        for value in quantiles[j]:
            if math.isnan(value):
                break
            while place < end and value >= edges[j, place]:
                place += 1
            cells[j, place] += weight
        cells[j, end + 1] = missing[j]


@compiled
def count_outside(quantiles: NDArray[np.float32], columns: Ints, bounds: Floats, rows: int, cells: Ints) -> None:
    """Count for some columns of `quantiles` (columns, kept) the rows that are within their bounds, and outside."""
    weight = rows // quantiles.shape[1]
    for i in range(columns.shape[0]):
        j = columns[i]
        for value in quantiles[j]:
            if value < bounds[i, 0] or value > bounds[i, 1]:
                cells[i, 1] += weight
        cells[i, 0] = rows - cells[i, 1]


@compiled
def absorb(
    cells: Ints, alerted: NDArray[np.bool_], kept_from: Ints, number: int, reference: Floats, fades: Floats
) -> None:
    """Add block `number` to the tables that are not alerted, and kept from there on.

    Where a table has as many rows as `fades` says first, older ones fade by what it says then.
    """
    for c in range(cells.shape[0]):
        if not alerted[c] and number >= kept_from[c]:
            fade = fades[1] if reference[c].sum() >= fades[0] else 1.0
            for k in range(cells.shape[1]):
                reference[c, k] = reference[c, k] * fade + cells[c, k]


@compiled
def fold_block(cells: Ints, ring: Ints, position: int, spans: Ints, sums: Ints) -> None:
    """Put a block (tables, cells) in its place of the ring, and into the sums (spans, tables, cells) of all windows."""
    length = ring.shape[0]
    for s in range(spans.shape[0]):
        old = ring[(position - spans[s]) % length]
        for c in range(cells.shape[0]):
            for k in range(cells.shape[1]):
                sums[s, c, k] += cells[c, k] - old[c, k]
    ring[position % length] = cells


@compiled
def share(slots: Ints, blocks: int, spans: Ints, shares: Floats) -> None:
    """Fill how much of each span's newest blocks is of which partition, by that of each block, in a ring."""
    shares[:] = 0.0
    for s in range(spans.shape[0]):
        for back in range(min(spans[s], blocks)):
            shares[s, slots[(blocks - 1 - back) % slots.shape[0]]] += 1.0 / spans[s]


@compiled
def weigh(
    sums: Ints,
    spans: Ints,
    shares: Floats,
    references: Floats,
    widths: Ints,
    asked: NDArray[np.bool_],
    null: Floats,
    newest: Floats,
    warm: Ints,
    alerted: NDArray[np.bool_],
    alerted_weight: float,
    values: Floats,
    surprise: Floats,
) -> float:
    """Fill `values` and `surprise` (tables, spans, statistics), -log of the chance; return the greatest surprise.

    `shares` (spans, partitions) is how much of a window is of which partition, `references` (partitions, tables,
    cells) what each was like.
    `asked` (tables, statistics) says what is asked of a table. `null` (tables, spans, statistics, 3) holds how many
    windows, of those that don't overlap, and the sums of statistic / what the law expects, and of its square; windows
    join `newest`, those of alerted tables with less weight, and `null` itself until it has `warm` blocks of them: then
    the span is believed.
    """
    swings, lately = null.reshape(-1, 3), newest.reshape(-1, 3)
    moves = np.array([s == 0 or (shares[s] != shares[s - 1]).any() for s in range(spans.shape[0])])
    x, mean, before, expected = np.empty(3), np.empty(3), np.empty((3, 2)), np.empty(sums.shape[2])
    greatest, m = 0.0, 0.0
    for c in range(widths.shape[0]):
        before[:, 0], before[:, 1] = 1.0, 0.0
        weight = alerted_weight if alerted[c] else 1.0
        for s in range(spans.shape[0]):
            if moves[s]:
                m = _expected(shares, s, references, c, widths[c], expected)
            freedom = _statistics(sums, s, c, expected, m, widths[c], asked, x, values)
            mean[PSI], mean[KS], mean[JS] = freedom, KS_MEAN, freedom
            law = math.sqrt(2.0 / freedom)
            for t in range(3):
                if asked[c, t]:
                    deviation, row = KS_DEVIATION if t == KS else law, (c * spans.shape[0] + s) * 3 + t
                    held = swings, lately, row, warm[s], weight, spans[s]
                    told = weigh_one(t, x[t] / mean[t], freedom, deviation, before, t, held)
                    surprise[c, s, t] = told
                    greatest = max(greatest, told)
    return greatest


@compiled
def one_partition(references: Floats, partition: int) -> Floats:
    """Return the probability of each cell (partitions, cells) in one partition.

    It is like all of them together as far as little is known of it.
    """
    pooled = references.sum(axis=0) + SMOOTH
    found: Floats = references[partition] + POOLED * pooled / pooled.sum()
    found /= found.sum()
    return found


@compiled
def _expected(shares: Floats, s: int, references: Floats, c: int, width: int, expected: Floats) -> float:
    """Fill the probability of each cell of a table, were the partitions as before, each with its share of span `s`.

    Each is as `one_partition` says. Return of how many rows that is as good.
    """
    expected[:width] = 0.0
    pooled, variance = width * SMOOTH, 0.0
    for partition in range(references.shape[0]):
        for k in range(width):
            pooled += references[partition, c, k]
    for partition in range(references.shape[0]):
        if shares[s, partition] > 0:
            rows = POOLED
            for k in range(width):
                rows += references[partition, c, k]
            variance += shares[s, partition] ** 2 / rows
            for k in range(width):
                cell = SMOOTH
                for other in range(references.shape[0]):
                    cell += references[other, c, k]
                found = references[partition, c, k] + POOLED * cell / pooled
                expected[k] += shares[s, partition] * found / rows
    return 1.0 / variance


@compiled
def _statistics(
    sums: Ints,
    s: int,
    c: int,
    expected: Floats,
    m: float,
    width: int,
    asked: NDArray[np.bool_],
    x: Floats,
    values: Floats,
) -> float:
    """Fill the scaled statistics of a window and the plain ones; return the degrees of freedom.

    Rare cells count in part.
    """
    n = 0.0
    for k in range(width):
        n += sums[s, c, k]
    prior, whole = 0.5 * width, 1.0 / max(n, 1.0)
    h, smoothed = 1.0 / (whole + 1.0 / m), 1.0 / (n + prior)
    psi, js, below, largest, freedom = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(width):
        p = expected[k]
        freedom += min(1.0, n * p)
        below += sums[s, c, k] * whole - p
        largest = max(largest, abs(below))
        ratio = (sums[s, c, k] / p + prior) * smoothed  # of what is there, as much of what is expected added, to that
        log = math.log(ratio)
        psi += p * (ratio - 1.0) * log
        if asked[c, JS]:
            middle = math.log(0.5 * (1.0 + ratio))
            js += 0.5 * p * (ratio * (log - middle) - middle)
    values[c, s, PSI], values[c, s, KS], values[c, s, JS] = psi, largest, js
    x[PSI], x[KS], x[JS] = psi * h, largest * largest * h, 8.0 * js * h
    return max(freedom - 1.0, 1.0)


@compiled
def weigh_one(
    statistic: int,
    ratio: float,
    freedom: float,
    deviation: float,
    before: Floats,
    subject: int,
    held: tuple[Floats, Floats, int, int, float, int],
) -> float:
    """Return the surprise of a statistic / what the law expects, and learn from it how it swings.

    `before[subject]` is what the shorter span told, and is told anew. `held` is `null` and `newest` (subjects, 3) and
    the row of both, when the span is warm (what it says before that is 0), what a block counts, and the span.
    """
    null, newest, row, warm, weight, span = held
    effect, swing = _swings(null, row, before, subject)
    before[subject, 0], before[subject, 1] = effect, swing
    effect, believed = max(effect, 1.0), null[row, 0] * span >= warm
    joins = newest if believed else null
    ratio_held, count = min(ratio, CEILING * effect), weight / span
    joins[row, 0] += count
    joins[row, 1] += count * ratio_held
    joins[row, 2] += count * ratio_held * ratio_held
    return _surprise(statistic, ratio, effect, max(swing, deviation), freedom) if believed else 0.0


@compiled
def _swings(null: Floats, row: int, before: Floats, subject: int) -> tuple[float, float]:
    """Return mean and deviation of the ratio without a change, each with room for how few windows tell of it.

    What the shorter span's windows tell is believed beforehand, as much as PRIOR windows.
    """
    windows, mean, deviation = null[row, 0], before[subject, 0], before[subject, 1]
    count = PRIOR + windows
    swing = max(null[row, 2] - null[row, 1] * null[row, 1] / max(windows, 1e-9), 0.0)
    deviation = math.sqrt((PRIOR * deviation * deviation + swing) / count)
    mean = (PRIOR * mean + null[row, 1]) / count
    return mean + ROOM * deviation / math.sqrt(count), deviation * (1.0 + ROOM / math.sqrt(2.0 * count))


@compiled
def _surprise(statistic: int, ratio: float, effect: float, deviation: float, freedom: float) -> float:
    """Return -log of the chance of a ratio: of the law's tail at its mean, or that of a gamma's with this deviation.

    The heavier one: rows that come in clumps are as few, and leave a chi-square with fewer degrees (Satterthwaite).
    """
    root, shape = (ratio / effect) ** (1.0 / 3.0), 2.0 * effect * effect / (deviation * deviation)
    if statistic == KS:
        law = max(2.0 * KS_MEAN * ratio / effect - math.log(2.0), 0.0)
        return min(law, normal_surprise(chi_square_score(root, shape)))
    return normal_surprise(min(chi_square_score(root, shape), chi_square_score(root, freedom)))


@compiled
def chi_square_score(root: float, freedom: float) -> float:
    """Return the normal score of a chi-square by the cube root of it over its mean (Wilson and Hilferty, 1931)."""
    a = 2.0 / (9.0 * freedom)
    return (root - (1.0 - a)) / math.sqrt(a)


@compiled
def normal_surprise(z: float) -> float:
    """Return -log P(normal > z)."""
    if z < FAR:
        return -math.log(0.5 * math.erfc(z / math.sqrt(2.0)))
    return 0.5 * z * z + math.log(z * math.sqrt(2.0 * math.pi))


@compiled
def weigh_spans(
    ratios: Floats,
    freedom: float,
    null: Floats,
    newest: Floats,
    warm: Ints,
    weight: float,
    spans: Ints,
    surprise: Floats,
) -> None:
    """Fill the surprise of one statistic's newest window of each span; 0 for one that is not believed yet."""
    before = np.array([[1.0, 0.0]])
    law = math.sqrt(2.0 / freedom)
    for s in range(spans.shape[0]):
        held = null, newest, s, warm[s], weight, spans[s]
        surprise[s] = weigh_one(PSI, ratios[s], freedom, law, before, 0, held)
