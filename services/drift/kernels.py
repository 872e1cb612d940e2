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
    greatest = 0.0
    m = 0.0
    x, mean, before, expected = np.empty(3), np.empty(3), np.empty((3, 2)), np.empty(sums.shape[2])
    for c in range(widths.shape[0]):
        before[:, 0], before[:, 1] = 1.0, 0.0
        weight = alerted_weight if alerted[c] else 1.0
        for s in range(spans.shape[0]):
            if s == 0 or (shares[s] != shares[s - 1]).any():
                m = _expected(shares[s], references[:, c, : widths[c]], expected[: widths[c]])
            freedom = _statistics(sums[s, c], expected, m, widths[c], asked[c], x, values[c, s])
            mean[PSI], mean[KS], mean[JS] = freedom, KS_MEAN, freedom
            law = math.sqrt(2.0 / freedom)
            for t in range(3):
                if not asked[c, t]:
                    continue
                deviation = KS_DEVIATION if t == KS else law
                held = null[c, s, t], newest[c, s, t]
                how = warm[s], weight / spans[s], spans[s]
                ready = held[0][0] * spans[s] >= warm[s]
                told = weigh_one(t, x[t] / mean[t], freedom, deviation, held[0], held[1], before[t], how)
                surprise[c, s, t] = told if ready else 0.0
                greatest = max(greatest, surprise[c, s, t])
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
def _expected(shares: Floats, references: Floats, expected: Floats) -> float:
    """Fill the probability of each cell, were the partitions as before, each with its share of the window.

    Return of how many rows that is as good.
    """
    variance = 0.0
    expected[:] = 0.0
    for partition in range(references.shape[0]):
        if shares[partition] > 0:
            expected += shares[partition] * one_partition(references, partition)
            variance += shares[partition] ** 2 / (references[partition].sum() + POOLED)
    return 1.0 / variance


@compiled
def _statistics(
    window: Ints, expected: Floats, m: float, width: int, asked: NDArray[np.bool_], x: Floats, values: Floats
) -> float:
    """Fill the scaled statistics and the plain ones; return the degrees of freedom, rare cells counting in part."""
    n = 0.0
    for k in range(width):
        n += window[k]
    h, prior = 1.0 / (1.0 / max(n, 1.0) + 1.0 / m), 0.5 * width
    psi, js, below, largest, freedom = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(width):
        p = expected[k]
        q = (window[k] + prior * p) / (n + prior)
        freedom += min(1.0, n * p)
        below += window[k] / max(n, 1.0) - p
        largest = max(largest, abs(below))
        log = math.log(q / p)
        psi += (q - p) * log
        if asked[JS]:
            middle = math.log(0.5 * (1.0 + q / p))  # of (p + q) / 2 to p
            js += 0.5 * (q * (log - middle) - p * middle)
    values[PSI], values[KS], values[JS] = psi, largest, js
    x[PSI], x[KS], x[JS] = psi * h, largest * largest * h, 8.0 * js * h
    return max(freedom - 1.0, 1.0)


@compiled
def weigh_one(
    statistic: int,
    ratio: float,
    freedom: float,
    deviation: float,
    null: Floats,
    newest: Floats,
    before: Floats,
    how: tuple[int, float, int],
) -> float:
    """Return the surprise of a statistic / what the law expects, and learn from it how it swings.

    `before` is what the shorter span told, and is told anew; `how` is when the span is warm, the weight, and the span.
    """
    effect, swing = _swings(null, before)
    before[0], before[1] = effect, swing
    effect = max(effect, 1.0)
    joins = null if null[0] * how[2] < how[0] else newest
    held = min(ratio, CEILING * effect)
    joins[0] += how[1]
    joins[1] += how[1] * held
    joins[2] += how[1] * held * held
    return _surprise(statistic, ratio, effect, max(swing, deviation), freedom)


@compiled
def _swings(null: Floats, before: Floats) -> tuple[float, float]:
    """Return mean and deviation of the ratio without a change, each with room for how few windows tell of it.

    What the shorter span's windows tell is believed beforehand, as much as PRIOR windows.
    """
    count = PRIOR + null[0]
    mean = (PRIOR * before[0] + null[1]) / count
    variance = (PRIOR * before[1] * before[1] + max(null[2] - null[1] * null[1] / max(null[0], 1e-9), 0.0)) / count
    deviation = math.sqrt(variance)
    return mean + ROOM * deviation / math.sqrt(count), deviation * (1.0 + ROOM / math.sqrt(2.0 * count))


@compiled
def _surprise(statistic: int, ratio: float, effect: float, deviation: float, freedom: float) -> float:
    """Return -log of the chance of a ratio: of the law's tail at its mean, or that of a gamma's with this deviation.

    The heavier one: rows that come in clumps are as few, and leave a chi-square with fewer degrees (Satterthwaite).
    """
    shape = 2.0 * effect * effect / (deviation * deviation)
    clumped = chi_square_surprise(ratio / effect * shape, shape)
    if statistic == KS:
        return min(clumped, max(2.0 * KS_MEAN * ratio / effect - math.log(2.0), 0.0))
    return min(clumped, chi_square_surprise(ratio / effect * freedom, freedom))


@compiled
def chi_square_surprise(x: float, freedom: float) -> float:
    """Return -log P(chi-square > x), by Wilson and Hilferty (1931)."""
    a = 2.0 / (9.0 * freedom)
    return normal_surprise(((x / freedom) ** (1.0 / 3.0) - (1.0 - a)) / math.sqrt(a))


@compiled
def normal_surprise(z: float) -> float:
    """Return -log P(normal > z)."""
    if z < FAR:
        return -math.log(0.5 * math.erfc(z / math.sqrt(2.0)))
    return 0.5 * z * z + math.log(z * math.sqrt(2.0 * math.pi))


@compiled
def weigh_spans(
    ratios: Floats, freedom: float, null: Floats, newest: Floats, warm: Ints, weight: float, spans: Ints
) -> Floats:
    """Return the surprise of one statistic's newest window of each span."""
    surprise, before = np.zeros(spans.shape[0]), np.array([1.0, 0.0])
    law = math.sqrt(2.0 / freedom)
    for s in range(spans.shape[0]):
        how = warm[s], weight / spans[s], spans[s]
        surprise[s] = weigh_one(PSI, ratios[s], freedom, law, null[s], newest[s], before, how)
    return surprise


# Reducing
