"""The compiled folds: one pass over the events of a batch, in order, each reading its group's past and then joining it.

Every kernel reads before it writes, so an event never sees itself, and does scalar arithmetic in a fixed order, so that
cutting a batch anywhere gives the same bits. Missing numbers are NaN going in and coming out. `slots` says which row of
the state is the event's group; an event with `joins` false is too late to change anything and only reads.
"""

import math
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Function = TypeVar("Function", bound=Callable[..., object])
compiled: Callable[[Function], Function] = njit(cache=True, error_model="numpy")

COUNT, FILLED, SUM, M2, MIN, MAX = range(6)  # what a lane accumulates; M2 stands right behind its FILLED and SUM
NEVER = -(2**63)


@compiled
def fold_panes(
    slots: Ints,
    panes: Ints,
    joins: Bools,
    values: Floats,
    kinds: Ints,
    sources: Ints,
    span: int,
    tags: Ints,
    lanes: Floats,
    closed_at: Ints,
    closed: Floats,
    out: Floats,
) -> None:
    """Fold a windowed table. A window is the event's own pane and the `span - 1` before it, merged oldest first.

    `tags` (groups, ring) names the pane that a ring slot holds, `lanes` (groups, ring, lanes) its accumulators; the
    ring's length is a power of two.
    `closed` (groups, lanes) is the merge of all but the own pane, kept while events stay in the pane `closed_at`: an
    event of an older pane moves `closed_at`, so a pane never changes behind it. `values` (fields, events) and `sources`
    (lanes) say which field a lane takes; `out` (events, lanes) is what each event read.
    """
    mask = tags.shape[1] - 1
    for i in range(slots.shape[0]):
        group, pane = slots[i], panes[i]
        place = pane & mask
        if closed_at[group] != pane:
            _clear(kinds, closed[group])
            for seen in range(pane - span + 1, pane):
                if tags[group, seen & mask] == seen:
                    _merge(kinds, lanes[group, seen & mask], closed[group])
            closed_at[group] = pane
        out[i] = closed[group]
        if tags[group, place] == pane:
            _merge(kinds, lanes[group, place], out[i])
        if joins[i]:
            if tags[group, place] < pane:
                tags[group, place] = pane
                _clear(kinds, lanes[group, place])
            if tags[group, place] == pane:
                _add(kinds, sources, values, i, lanes[group, place])


@compiled
def _clear(kinds: Ints, pane: Floats) -> None:
    for lane in range(kinds.shape[0]):
        pane[lane] = math.nan if kinds[lane] >= MIN else 0.0


@compiled
def _merge(kinds: Ints, pane: Floats, into: Floats) -> None:
    """Merge a pane; M2 by Chan, Golub and LeVeque (1979), which is why it goes before the parts that it needs."""
    for lane in range(kinds.shape[0] - 1, -1, -1):
        kind = kinds[lane]
        if kind == M2:
            old, new = into[lane - 2], pane[lane - 2]
            if old > 0 and new > 0:
                gap = pane[lane - 1] / new - into[lane - 1] / old
                into[lane] += gap * gap * old * new / (old + new)
            into[lane] += pane[lane]
        elif kind < MIN:
            into[lane] += pane[lane]
        elif math.isnan(into[lane]):
            into[lane] = pane[lane]
        elif kind == MIN:
            into[lane] = min(into[lane], pane[lane])
        else:
            into[lane] = max(into[lane], pane[lane])


@compiled
def _add(kinds: Ints, sources: Ints, values: Floats, i: int, pane: Floats) -> None:
    """Add event `i` to its pane; M2 by Welford (1962), again before its parts."""
    for lane in range(kinds.shape[0] - 1, -1, -1):
        kind = kinds[lane]
        x = 0.0 if kind == COUNT else values[sources[lane], i]
        if math.isnan(x):
            continue
        if kind in (COUNT, FILLED):
            pane[lane] += 1.0
        elif kind == SUM:
            pane[lane] += x
        elif kind == M2:
            n, total = pane[lane - 2], pane[lane - 1]
            if n > 0:
                pane[lane] += (x - total / n) * (x - (total + x) / (n + 1.0))
        elif math.isnan(pane[lane]):
            pane[lane] = x
        else:
            pane[lane] = min(pane[lane], x) if kind == MIN else max(pane[lane], x)


@compiled
def fold_since(slots: Ints, times: Ints, joins: Bools, last: Ints, out: Floats) -> None:
    """Seconds since the group's newest event; 0 for one that comes out of order."""
    for i in range(slots.shape[0]):
        before = last[slots[i]]
        out[i] = math.nan if before == NEVER else max(times[i] - before, 0) / 1e6
        if joins[i]:
            last[slots[i]] = max(before, times[i])


@compiled
def fold_lag(slots: Ints, joins: Bools, values: Floats, ring: Floats, seen: Ints, out: Floats) -> None:
    """Return the number that the group's event `ring.shape[1]` events ago had."""
    n = ring.shape[1]
    for i in range(slots.shape[0]):
        group = slots[i]
        place = seen[group] % n
        out[i] = ring[group, place] if seen[group] >= n else math.nan
        if joins[i]:
            ring[group, place] = values[i]
            seen[group] += 1


@compiled
def fold_ewma(
    slots: Ints,
    times: Ints,
    joins: Bools,
    values: Floats,
    half_life: int,
    last: Ints,
    weight: Floats,
    total: Floats,
    out: Floats,
) -> None:
    """Return the time-decayed mean: weights halve every `half_life` microseconds; out of order counts as now."""
    for i in range(slots.shape[0]):
        group = slots[i]
        out[i] = total[group] / weight[group] if weight[group] > 0 else math.nan
        if joins[i] and not math.isnan(values[i]):
            if last[group] != NEVER:
                decay = 2.0 ** (-max(times[i] - last[group], 0) / half_life)
                weight[group] *= decay
                total[group] *= decay
            weight[group] += 1.0
            total[group] += values[i]
            last[group] = max(last[group], times[i])


@compiled
def circle(times: Ints, period: int, shift: int, sine: Floats, cosine: Floats) -> None:
    """Put each time on a circle that goes round once a `period` (microseconds)."""
    for i in range(times.shape[0]):
        angle = 2.0 * math.pi * ((times[i] + shift) % period) / period
        sine[i] = math.sin(angle)
        cosine[i] = math.cos(angle)


@compiled
def mark_late(times: Ints, lateness: int, newest: int) -> tuple[Bools, int]:
    """Return which events are more than `lateness` behind the newest one before them, and the newest after all."""
    late = np.zeros(times.shape[0], np.bool_)
    for i in range(times.shape[0]):
        late[i] = newest != NEVER and times[i] < newest - lateness
        newest = max(newest, times[i])
    return late, newest


@compiled
def number_pairs(pairs: Ints, known: Ints, table: Ints, count: int, numbers: Ints) -> int:
    """Give 64-bit keys numbers in the order of their first appearance; return how many are known now.

    `known` (number: key) and `table` (place: number, -1 where empty; a power of two, at most half full after the batch)
    are the state: open addressing with linear probing, keys spread by Fibonacci hashing (Knuth, TAOCP 3, 6.4).
    """
    mask = table.shape[0] - 1
    for i in range(pairs.shape[0]):
        place = _spread(pairs[i]) & mask
        while table[place] >= 0 and known[table[place]] != pairs[i]:
            place = (place + 1) & mask
        if table[place] < 0:
            table[place] = count
            known[count] = pairs[i]
            count += 1
        numbers[i] = table[place]
    return count


@compiled
def _spread(key: int) -> np.int64:
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20))


@compiled
def finish(columns: Floats, defaults: Floats, vectors: NDArray[np.float32]) -> None:
    """Turn (columns, events) into rows of float32: a missing number becomes its default, an endless one the largest."""
    largest = 3.4028234663852886e38
    for column in range(columns.shape[0]):
        for i in range(columns.shape[1]):
            x = columns[column, i]
            vectors[i, column] = defaults[column] if math.isnan(x) else min(max(x, -largest), largest)
