"""The compiled folds: one pass over the events of a batch, in order, each reading its group's past and then joining it.

Every fold reads before it writes, so an event never sees itself, and does scalar arithmetic in a fixed order, so that
cutting a batch anywhere gives the same bits. Missing numbers are NaN going in and coming out. A group's whole past is
one row of `ints` and one of `floats`; an *instruction* is a row of integers that says what is kept where in the two.
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

WINDOW, LAG, SINCE, EWMA = range(4)  # fold instructions, see `fold_group`
COUNT, FILLED, SUM, M2, MIN, MAX = range(6)  # what a lane accumulates; M2 stands right behind its FILLED and SUM
NEVER = -(2**63)
PANES = 12  # panes that make up a window: a window's length is honoured to a twelfth


@compiled
def fold_group(
    program: Ints,
    lanes: Ints,
    seen: int,
    slots: Ints,
    times: Ints,
    joins: Bools,
    read: Floats,
    ints: Ints,
    floats: Floats,
) -> None:
    """Run the fold instructions of one grouping over a batch, the partition's events from number `seen` on.

    `program` has a row (kind, first row of `read` to fill, first place in `ints`, first place in `floats`, and up to
    four parameters) an instruction; `lanes` a row (kind, source) a lane of the windows. `slots` (events) is each
    event's row of `ints` and `floats` (groups, places). `read` (rows, events) holds the event's own numbers, which
    sources name by their row, and receives what each event read. An event with `joins` false is too late to change
    anything but which event was its group's last, and only reads.
    """
    for i in range(slots.shape[0]):
        ints[slots[i], 0] = seen + i
    for step in program:
        if step[0] == WINDOW:
            _fold_window(step, lanes[step[6] : step[7]], slots, times, joins, read, ints, floats)
        elif step[0] == LAG:
            _fold_lag(step, slots, joins, read, ints, floats)
        elif step[0] == SINCE:
            _fold_since(step, slots, times, joins, read, ints)
        else:
            _fold_ewma(step, slots, times, joins, read, ints, floats)


@compiled
def _fold_window(
    step: Ints, lanes: Ints, slots: Ints, times: Ints, joins: Bools, read: Floats, ints: Ints, floats: Floats
) -> None:
    """Read the event's own pane and the `PANES - 1` before it, merged oldest first; then add the event to its pane.

    Parameters: microseconds a pane, length of the ring less one (all ones in binary), first lane and end of the lanes.
    In `ints`: the pane up to which closed panes are merged, then the ring, which names the pane that each place holds.
    In `floats`: the merge of all but the own pane, then the ring's accumulators. The merge is kept while a group's
    events stay in one pane; an event of an older pane makes it anew, so a pane never changes behind it.
    """
    out, at, merged, width, mask, count = step[1], step[2], step[3], step[4], step[5], lanes.shape[0]
    own, held_places = np.empty(count), np.empty(PANES, np.int64)
    for i in range(slots.shape[0]):
        group, pane = slots[i], times[i] // width
        tag, held = at + 1 + (pane & mask), merged + count * (1 + (pane & mask))
        if ints[group, at] != pane:
            _merge_closed(lanes, pane, mask, ints, floats, group, at, merged, held_places)
        for lane in range(count):
            own[lane] = floats[group, merged + lane]
        if ints[group, tag] == pane:
            _merge(lanes, floats, group, held, own)
        for lane in range(count):
            read[out + lane, i] = own[lane]
        if joins[i]:
            if ints[group, tag] < pane:
                ints[group, tag] = pane
                _clear(lanes, floats, group, held)
            if ints[group, tag] == pane:
                _add(lanes, read, i, floats, group, held)


@compiled
def _merge_closed(
    lanes: Ints, pane: int, mask: int, ints: Ints, floats: Floats, group: int, at: int, merged: int, held: Ints
) -> None:
    """Merge the panes before this one, oldest first, and remember for which one that was.

    A sparse stream comes here with every event, so this goes lane by lane, each in a tight loop over the panes, whose
    places are collected in `held`.
    """
    count, found = lanes.shape[0], 0
    for seen in range(pane - PANES + 1, pane):
        held[found] = merged + count * (1 + (seen & mask))
        found += ints[group, at + 1 + (seen & mask)] == seen  # no branch, as none could be predicted
    for lane in range(count):
        floats[group, merged + lane] = _merge_lane(lanes[lane, 0], lane, floats, group, held, found)
    ints[group, at] = pane


@compiled
def _merge_lane(kind: int, lane: int, floats: Floats, group: int, held: Ints, found: int) -> float:
    y = math.nan if kind >= MIN else 0.0
    if kind < M2:
        for i in range(found):
            y += floats[group, held[i] + lane]
    elif kind == M2:
        n, total = 0.0, 0.0
        for i in range(found):
            more, sum_of_more = floats[group, held[i] + lane - 2], floats[group, held[i] + lane - 1]
            y = _merge_m2(y, n, total, floats[group, held[i] + lane], more, sum_of_more)
            n, total = n + more, total + sum_of_more
    elif kind == MIN:
        for i in range(found):
            y = _smaller(y, floats[group, held[i] + lane])
    else:
        for i in range(found):
            y = -_smaller(-y, -floats[group, held[i] + lane])
    return y


@compiled
def _clear(lanes: Ints, pane: Floats, row: int, at: int) -> None:
    for lane in range(lanes.shape[0]):
        pane[row, at + lane] = math.nan if lanes[lane, 0] >= MIN else 0.0


@compiled
def _merge(lanes: Ints, pane: Floats, row: int, at: int, into: Floats) -> None:
    """Merge one pane into lanes; M2 goes before the parts that it needs."""
    for lane in range(lanes.shape[0] - 1, -1, -1):
        kind, x = lanes[lane, 0], pane[row, at + lane]
        if kind < M2:
            into[lane] += x
        elif kind == M2:
            parts = into[lane - 2], into[lane - 1], x, pane[row, at + lane - 2], pane[row, at + lane - 1]
            into[lane] = _merge_m2(into[lane], *parts)
        elif kind == MIN:
            into[lane] = _smaller(into[lane], x)
        else:
            into[lane] = -_smaller(-into[lane], -x)


@compiled
def _merge_m2(m2: float, n: float, total: float, more_m2: float, more: float, sum_of_more: float) -> float:
    """Merge sums of squared differences from the mean, by Chan, Golub and LeVeque (1979)."""
    if n > 0 and more > 0:
        gap = sum_of_more / more - total / n
        m2 += gap * gap * n * more / (n + more)
    return m2 + more_m2


@compiled
def _smaller(x: float, y: float) -> float:
    """Return the smaller one; NaN is no number yet."""
    return y if math.isnan(x) or y < x else x


@compiled
def _add(lanes: Ints, read: Floats, i: int, pane: Floats, row: int, at: int) -> None:
    """Add event `i` to its pane; M2 by Welford (1962), again before its parts."""
    for lane in range(lanes.shape[0] - 1, -1, -1):
        kind, source = lanes[lane, 0], lanes[lane, 1]
        x = 0.0 if kind == COUNT else read[source, i]
        if math.isnan(x):
            continue
        y = pane[row, at + lane]
        if kind < SUM:
            y += 1.0
        elif kind == SUM:
            y += x
        elif kind == M2:
            n, total = pane[row, at + lane - 2], pane[row, at + lane - 1]
            if n > 0:
                y += (x - total / n) * (x - (total + x) / (n + 1.0))
        elif kind == MIN:
            y = _smaller(y, x)
        else:
            y = -_smaller(-y, -x)
        pane[row, at + lane] = y


@compiled
def _fold_lag(step: Ints, slots: Ints, joins: Bools, read: Floats, ints: Ints, floats: Floats) -> None:
    """Read the number that the group's event n ago had. Parameters: source, n.

    In `ints`: how many events the group has had; in `floats`: a ring of n.
    """
    out, at, ring, source, n = step[1], step[2], step[3], step[4], step[5]
    for i in range(slots.shape[0]):
        group = slots[i]
        seen = ints[group, at]
        read[out, i] = floats[group, ring + seen % n] if seen >= n else math.nan
        if joins[i]:
            floats[group, ring + seen % n] = read[source, i]
            ints[group, at] = seen + 1


@compiled
def _fold_since(step: Ints, slots: Ints, times: Ints, joins: Bools, read: Floats, ints: Ints) -> None:
    """Read the seconds since the group's newest event, which is in `ints`; 0 for one that comes out of order."""
    out, at = step[1], step[2]
    for i in range(slots.shape[0]):
        last = ints[slots[i], at]
        read[out, i] = math.nan if last == NEVER else max(times[i] - last, 0) / 1e6
        if joins[i]:
            ints[slots[i], at] = max(last, times[i])


@compiled
def _fold_ewma(step: Ints, slots: Ints, times: Ints, joins: Bools, read: Floats, ints: Ints, floats: Floats) -> None:
    """Read the time-decayed mean. Parameters: source, the microseconds in which a weight halves.

    In `ints`: the newest event's time; in `floats`: the sum of the weights and the weighted sum. An event out of order
    counts as if it came now.
    """
    out, at, weight, source, half_life = step[1], step[2], step[3], step[4], step[5]
    total = weight + 1
    for i in range(slots.shape[0]):
        group, x = slots[i], read[source, i]
        last = ints[group, at]
        read[out, i] = floats[group, total] / floats[group, weight] if floats[group, weight] > 0 else math.nan
        if joins[i] and not math.isnan(x):
            decay = 1.0 if last == NEVER else 2.0 ** (-max(times[i] - last, 0) / half_life)
            floats[group, weight] = floats[group, weight] * decay + 1.0
            floats[group, total] = floats[group, total] * decay + x
            ints[group, at] = max(last, times[i])


@compiled
def mark_joins(times: Ints, lateness: int, newest: int) -> tuple[Bools, int]:
    """Return which events are at most `lateness` behind the newest one before them, and the newest after all."""
    joins = np.ones(times.shape[0], np.bool_)
    for i in range(times.shape[0]):
        joins[i] = newest == NEVER or times[i] >= newest - lateness
        newest = max(newest, times[i])
    return joins, newest


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
