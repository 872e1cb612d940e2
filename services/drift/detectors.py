"""The compiled part of what watches a mean: whether it rises beyond what it was, and since when.

A subject's values come as sums over the rows of a summary: how many, the sum, the sum of squares. All detectors hold
them against a baseline that fades within MEMORY summaries and leaves the newest LAG out, so that it does not learn a
change before that is seen. Values are at least 0. Three detectors ask, each as often wrong as its level says:

- an e-detector: with x = value / (baseline's mean, its error and a tolerance) - 1, at least -1, each stake b wins
  b x - PSI(b) x^2 <= log(1 + b x) a row (Fan, Grama and Liu, "Exponential inequalities for martingales", 2015), a bet
  of mean 1 at most while the mean is no higher. Started anew at every summary and added up (Shiryaev and Roberts), it
  takes `1 / level` summaries on average, at least, to reach 1 / level (Shin, Ramdas and Rinaldo, "E-detectors", 2022);
- Page and Hinkley's cumulative sum (Page, "Continuous inspection schemes", Biometrika 1954) of standardised means;
- ADWIN (Bifet and Gavalda, "Learning from time-changing data with adaptive windowing", SDM 2007), a summary an item.

Rows of real streams are alike: a storm's all cost more. So each counts for 1 / effect of one: by how much the sums of
1, 2, 8 and 32 summaries swing more than those of independent rows would, while nothing stands, and as an alarm begins,
or what came and went would leave no trace. A bet to the power 1 / effect is a bet still (Jensen), and what is won by
`effect` rows that are copies of one is what that one wins. So the e-detector's rate holds as far as effects do; that of
Page and Hinkley's sum, moreover, as far as means of summaries are normal.
"""

import math
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., object])
compiled: Callable[[Function], Function] = njit(cache=True, error_model="numpy")

BETS: Floats = np.array([0.9 / 2**k for k in range(8)])
PSI: Floats = -np.log1p(-BETS) - BETS
LAG, FIRST, WARM, LEAST = 10, 5, 20, 200  # summaries: left out; before effects are taken; before alarms; and rows
MEMORY, LONG_MEMORY = 200.0, 1000.0  # summaries: of the baseline, of the effects
RECENT = 5  # summaries of which "now" is the mean, and that an alarm stands at least
SPANS, PRIOR = np.array([1, 2, 8, 32]), 6.0  # summaries that effects are of, and how many such speak for none
CEILING = 9.0  # times what an effect is: what one such sum can say of it
SMALLEST = 0.01  # a mean below it counts as it
CAP = 100.0  # in units of what is needed: an e-detector that found a change is not to take an age to forget it
DRIFT, FAR = 0.25, 3.0  # of Page and Hinkley: in deviations, what is let pass a summary, and what counts at most
NEAR = 0.25  # of what ADWIN needs, squared: below that nothing is said of how strong a rise is
LEVELS, BUCKETS = 10, 5  # of ADWIN: 5 buckets of 1 summary, 5 of 2, … of 512
# columns of `base`
SEEN, ROWS, SUM, SQUARES, ALL, TOTAL, STANDS, SPAN = range(8)
BASE = SPAN + 4 * 4  # four for each span: the sum and its variance so far, the ratios of its square to it, how many
# columns of `bets` (subjects, stakes, BET): wealth, its cumulative sum, and where that began
WEALTH, RUN, BEGAN_TIME, BEGAN_OFFSET, BEGAN_PARTITION, BEGAN_ROWS, BEGAN_SUM, BET = range(8)
# columns of `said`
STATUS, E_DETECTOR, PAGE_HINKLEY, ADWIN, OLD, NEW, TIME, OFFSET, PARTITION, LATELY, ERROR, SAID = range(12)
QUIET, STANDING, ALARM, CALM, SETTLED = range(5)  # of STATUS


@compiled
def watch(
    values: Floats,
    place: Floats,
    limits: Floats,
    settle: float,
    base: Floats,
    ring: Floats,
    bets: Floats,
    pages: Floats,
    buckets: Floats,
    said: Floats,
) -> int:
    """Fold a summary's values (subjects, 3); return how many subjects have something to say, which is in `said`.

    `limits` (subjects, 5) is what each detector needs, the e-detector its log; the tolerance, as a share of the mean;
    and the largest value. `place` is the summary's time, offset and partition.
    """
    speaking = 0
    for s in range(values.shape[0]):
        _watch_one(values[s], place, limits[s], settle, base[s], ring[s], bets[s], pages[s], buckets[s], said[s])
        speaking += said[s, STATUS] != QUIET
    return speaking


@compiled
def _watch_one(
    value: Floats,
    place: Floats,
    limits: Floats,
    settle: float,
    base: Floats,
    ring: Floats,
    bets: Floats,
    page: Floats,
    buckets: Floats,
    said: Floats,
) -> None:
    said[:] = 0.0
    base[ALL] += value[0]
    base[TOTAL] += value[1]
    ready = base[SEEN] >= WARM and base[ROWS] >= LEAST
    if ready:
        mean = base[SUM] / base[ROWS]
        variance = max(base[SQUARES] / base[ROWS] - mean * mean, (1e-3 * max(mean, SMALLEST)) ** 2)
        effect = _effect(base)
        deviation = math.sqrt(variance * effect)
        most = max((mean + deviation / math.sqrt(base[ROWS])) * (1.0 + limits[3]), SMALLEST)
        if value[0] > 0:
            said[E_DETECTOR] = _bet(value, place, most, effect, limits[0], base, bets) / limits[0]
            if limits[1] > 0:
                said[PAGE_HINKLEY] = _page_hinkley(value, most, deviation, page) / limits[1]
            if limits[2] > 0:
                said[ADWIN] = _adwin(value, effect, limits[2], limits[4], buckets)
        _judge(settle, mean, most, deviation, value, base, ring, bets, said)
    if said[STATUS] == SETTLED:
        base[:SPAN] = 0.0
    if said[STATUS] >= CALM:
        ring[:] = 0.0
        bets[:] = 0.0
        page[:] = 0.0
        buckets[:] = 0.0
    _learn(value, base, ring)


@compiled
def _judge(
    settle: float,
    mean: float,
    most: float,
    deviation: float,
    value: Floats,
    base: Floats,
    ring: Floats,
    bets: Floats,
    said: Floats,
) -> None:
    """Say what is to be said of a subject, whose bets have been settled."""
    alarm = max(said[E_DETECTOR], said[PAGE_HINKLEY], said[ADWIN]) >= 1.0
    rows, total = value[0], value[1]
    for ago in range(1, RECENT):
        rows += ring[(int(base[SEEN]) - ago) % LAG, 0]
        total += ring[(int(base[SEEN]) - ago) % LAG, 1]
    lately = total / rows if rows > 0 else mean
    said[OLD], said[LATELY], said[ERROR] = mean, lately, deviation / math.sqrt(max(rows, 1.0))
    if alarm or base[STANDS] > 0:
        best = np.argmax(bets[:, RUN])
        said[TIME : TIME + 3] = bets[best, BEGAN_TIME : BEGAN_TIME + 3]
        rows = base[ALL] - bets[best, BEGAN_ROWS]
        said[NEW] = (base[TOTAL] - bets[best, BEGAN_SUM]) / rows if rows > 0 else lately
    if base[STANDS] > 0:
        base[STANDS] += 1
        said[STATUS] = ALARM if alarm else STANDING
        if base[STANDS] > RECENT and lately <= most + said[ERROR]:
            said[STATUS], base[STANDS] = CALM, 0.0
        elif base[STANDS] >= settle:
            said[STATUS], base[STANDS] = SETTLED, 0.0
    elif alarm:
        said[STATUS], base[STANDS] = ALARM, 1.0


@compiled
def _bet(value: Floats, place: Floats, most: float, effect: float, needed: float, base: Floats, bets: Floats) -> float:
    """Settle each stake's bets on a summary; return the log of the e-detector. `value` gets no higher than it is."""
    x = value[1] / most - value[0]
    x2 = value[2] / (most * most) - 2.0 * value[1] / most + value[0]
    mean, top = 0.0, CAP * math.exp(needed)
    for k in range(BETS.shape[0]):
        won = (BETS[k] * x - PSI[k] * x2) / effect
        if bets[k, RUN] <= 0.0:
            bets[k, BEGAN_TIME : BEGAN_TIME + 3] = place
            bets[k, BEGAN_ROWS], bets[k, BEGAN_SUM] = base[ALL] - value[0], base[TOTAL] - value[1]
        bets[k, RUN] = max(bets[k, RUN] + won, 0.0)
        bets[k, WEALTH] = min((1.0 + bets[k, WEALTH]) * math.exp(min(won, 100.0)), top)
        mean += bets[k, WEALTH] / BETS.shape[0]
    return math.log(max(mean, 1e-9))


@compiled
def _page_hinkley(value: Floats, most: float, deviation: float, page: Floats) -> float:
    z = (value[1] / value[0] - most) * math.sqrt(value[0]) / deviation
    page[0] = max(page[0] + min(z, FAR) - DRIFT, 0.0)
    found: float = page[0]
    return found


@compiled
def _learn(value: Floats, base: Floats, ring: Floats) -> None:
    """Take the summary that is LAG old into baseline and effects, unless an alarm stands; the first ones at once."""
    seen = int(base[SEEN])
    base[SEEN] += 1.0
    taken = value if seen < WARM else ring[seen % LAG].copy()
    ring[seen % LAG] = value
    if WARM <= seen < WARM + LAG:
        return
    if seen >= FIRST and base[ROWS] > 0 and taken[0] > 0 and base[STANDS] <= 2 * LAG:
        _swing(seen, taken, base)
    if base[STANDS] > 0:
        return
    fade = 1.0 - 1.0 / MEMORY
    for k in range(3):
        base[ROWS + k] = fade * base[ROWS + k] + taken[k]


@compiled
def _swing(seen: int, value: Floats, base: Floats) -> None:
    """Count how far sums of so many summaries are from what is expected, squared, and how far they should be."""
    mean = base[SUM] / base[ROWS]
    variance = max(base[SQUARES] / base[ROWS] - mean * mean, 1e-12)
    for k in range(SPANS.shape[0]):
        at = SPAN + 4 * k
        base[at] += value[1] - value[0] * mean
        base[at + 1] += value[0] * variance
        if (seen + 1) % SPANS[k] == 0:
            fade = 1.0 - SPANS[k] / LONG_MEMORY
            ratio = min(base[at] * base[at] / base[at + 1], CEILING * _ratio(base, at))
            base[at + 2] = fade * base[at + 2] + ratio
            base[at + 3] = fade * base[at + 3] + 1.0
            base[at] = base[at + 1] = 0.0


@compiled
def _ratio(base: Floats, at: int) -> float:
    ratio: float = (PRIOR + base[at + 2]) / (PRIOR + base[at + 3])
    return ratio


@compiled
def _effect(base: Floats) -> float:
    most = 1.0
    for k in range(SPANS.shape[0]):
        most = max(most, _ratio(base, SPAN + 4 * k))
    return most


@compiled
def _adwin(value: Floats, effect: float, needed: float, bound: float, buckets: Floats) -> float:
    """Take a summary as an item; return by how much, of what is needed, the newer part's mean is above the older's.

    `buckets` (LEVELS, BUCKETS + 1, 3) has the oldest first in each level; a level's last row tells how many there are.
    """
    _insert(value, buckets)
    strongest = 0.0
    while True:
        rise, cut = _cut(effect, needed, bound, buckets)
        strongest = max(strongest, rise)
        if not cut:
            return strongest
        _drop(buckets)


@compiled
def _insert(value: Floats, buckets: Floats) -> None:
    carried = value.copy()
    for level in range(LEVELS):
        count = int(buckets[level, BUCKETS, 0])
        if count < BUCKETS:
            buckets[level, count] = carried
            buckets[level, BUCKETS, 0] = count + 1
            return
        merged = buckets[level, 0] + buckets[level, 1]
        for place in range(2, BUCKETS):
            buckets[level, place - 2] = buckets[level, place]
        buckets[level, BUCKETS - 2] = carried
        buckets[level, BUCKETS, 0] = BUCKETS - 1
        carried = merged


@compiled
def _drop(buckets: Floats) -> None:
    """Let the oldest bucket go."""
    for level in range(LEVELS - 1, -1, -1):
        count = int(buckets[level, BUCKETS, 0])
        if count:
            for place in range(1, count):
                buckets[level, place - 1] = buckets[level, place]
            buckets[level, BUCKETS, 0] = count - 1
            return


@compiled
def _cut(effect: float, needed: float, bound: float, buckets: Floats) -> tuple[float, bool]:
    """Return the strongest rise at any cut of the window, and whether it is cut at all: eq. 3.1 of the paper."""
    rows, total, squares = 0.0, 0.0, 0.0
    for level in range(LEVELS):
        for place in range(int(buckets[level, BUCKETS, 0])):
            rows += buckets[level, place, 0]
            total += buckets[level, place, 1]
            squares += buckets[level, place, 2]
    mean = total / rows
    variance = max(squares / rows - mean * mean, 0.0)
    logs = needed + math.log(2.0 * max(math.log(rows), 1.0))
    strongest, cut, before, before_total = 0.0, False, 0.0, 0.0
    for level in range(LEVELS - 1, -1, -1):
        for place in range(int(buckets[level, BUCKETS, 0])):
            before += buckets[level, place, 0]
            before_total += buckets[level, place, 1]
            after = rows - before
            if before > 0 and after > 0:
                rise = (total - before_total) / after - before_total / before
                weight = effect * (1.0 / before + 1.0 / after)
                swing = 2.0 * weight * variance * logs
                if rise * rise >= NEAR * swing:
                    needs = math.sqrt(swing) + 2.0 / 3.0 * weight * bound * logs
                    cut = cut or abs(rise) >= needs
                    strongest = max(strongest, rise / needs)
    return strongest, cut
