"""The compiled part of what is no table of counts: one-hot values, sums of slices, waves of rows, rates, windows.

Arrays are filled, not returned: each one that is handed to Python costs two microseconds.
"""

import math

import numpy as np
from numpy.typing import NDArray

from services.drift.kernels import Floats, Ints, compiled


@compiled
def hottest(vectors: NDArray[np.float32], start: int, end: int, found: Ints, counts: NDArray[np.uint16]) -> None:
    """Fill which column of a one-hot block each row has, counted from its first; how many there are for none.

    Fill how often each was found as well.
    """
    counts[:] = 0
    for i in range(vectors.shape[0]):
        hot = end - start
        for j in range(end - 1, start - 1, -1):
            hot = j - start if vectors[i, j] != 0 else hot
        found[i] = hot
        counts[hot] += 1


@compiled
def tabulate(
    vectors: NDArray[np.float32],
    scores: NDArray[np.float32],
    places: Ints,
    defaults: NDArray[np.float32],
    numbers: NDArray[np.float32],
    columns: NDArray[np.float32],
    counts: Ints,
) -> None:
    """Fill `numbers` (rows, places + scores), the same as `columns` (places + scores, rows), and two `counts` of each.

    Counted is how many are missing, and how many of the first are their default.
    """
    counts[:] = 0
    features = places.shape[0]
    for i in range(vectors.shape[0]):
        for j in range(features):
            numbers[i, j] = vectors[i, places[j]]
            counts[1, j] += numbers[i, j] == defaults[j]
        for j in range(scores.shape[1]):
            numbers[i, features + j] = scores[i, j]
        for j in range(numbers.shape[1]):
            columns[j, i] = numbers[i, j]
            counts[0, j] += math.isnan(numbers[i, j])


@compiled
def sum_slices(numbers: NDArray[np.float32], slices: Ints, sums: Floats) -> None:
    """Add each row, and its numbers but for those that are missing, to the sums (slices, 1 + numbers) of its slice."""
    for i in range(numbers.shape[0]):
        place = slices[i]
        sums[place, 0] += 1.0
        for j in range(numbers.shape[1]):
            number = numbers[i, j]
            sums[place, 1 + j] += 0.0 if math.isnan(number) else number


# Joint drift


@compiled
def mean_waves(
    rows: NDArray[np.float32], center: Floats, spread: Floats, waves: Floats, far: float, mean: Floats
) -> None:
    """Fill the mean of the cosines and the sines of standardised rows along each wave, of length 1 at most."""
    count, width = waves.shape[1], waves.shape[0]
    angles = np.empty(count)
    mean[:] = 0.0
    for row in rows:
        angles[:] = 0.0
        for j in range(width):
            x = (row[j] - center[j]) / spread[j]
            x = 0.0 if math.isnan(x) else min(max(x, -far), far)
            for k in range(count):
                angles[k] += x * waves[j, k]
        for k in range(count):
            cosine, sine = turn(angles[k])
            mean[k] += cosine
            mean[count + k] += sine
    mean /= rows.shape[0] * math.sqrt(count)


@compiled
def turn(angle: float) -> tuple[float, float]:
    """Return cosine and sine to 1e-15, of some thousand turns at most, without a branch: a loop of them is vectorised.

    By polynomials within an eighth of a turn (Moshier, Cephes, 1989; Cody and Waite's reduction), and so the same bits
    whatever C library there is.
    """
    quarter = math.floor(angle * (2.0 / math.pi) + 0.5)
    x = ((angle - quarter * 1.5707963267341256) - quarter * 6.077100506303966e-11) - quarter * 2.0222662487959506e-21
    z = x * x
    odd = 1.58962301576546568060e-10 * z - 2.50507477628578072866e-8
    odd = ((odd * z + 2.75573136213857245213e-6) * z - 1.98412698295895385996e-4) * z + 8.33333333332211858878e-3
    sine = x + x * z * (odd * z - 1.66666666666666307295e-1)
    even = -1.13585365213876817300e-11 * z + 2.08757008419747316778e-9
    even = ((even * z - 2.75573141792967388112e-7) * z + 2.48015872888517045348e-5) * z - 1.38888888888730564116e-3
    cosine = 1.0 - 0.5 * z + z * z * (even * z + 4.16666666666665929218e-2)
    place = quarter - 4.0 * math.floor(quarter * 0.25)
    if place in (1.0, 3.0):
        cosine, sine = sine, cosine
    return -cosine if place in (1.0, 2.0) else cosine, -sine if place >= 2.0 else sine  # noqa: PLR2004 - a half turn


@compiled
def window_gaps(ring: Floats, blocks: int, spans: Ints, before: Floats, rows: int, found: Floats) -> None:
    """Fill the squared distance of the mean of each span's newest places of a ring from the mean before.

    Each is over what it is on average where rows are independent. A place is the mean of so many rows; `before` is the
    sum of places, and last how many.
    """
    mean = before[:-1] / before[-1]
    spread = max(1.0 - (mean * mean).sum(), 1e-3)
    total, taken = np.zeros(mean.shape[0]), 0
    for s in range(spans.shape[0]):
        found[s] = 0.0
        while taken < spans[s]:
            total += ring[(blocks - 1 - taken) % ring.shape[0]]
            taken += 1
        for k in range(mean.shape[0]):
            found[s] += (total[k] / taken - mean[k]) ** 2
        found[s] /= (1.0 / (taken * rows) + 1.0 / (before[-1] * rows)) * spread


# Volume


@compiled
def expect(profile: Floats, start: int, end: int, hour: int, rows: float, memory: float) -> float:
    """Return how many rows were to be expected between two times; then add the `rows` there were, if these are not 0.

    `profile` (2, hours of the day) has rows and hours; an hour of which little is known is like the others. Rows are
    spread evenly over the time. When an hour has been seen for more than `memory` hours, what was before fades.
    """
    day, total, usual = profile.shape[1], 0.0, 0.0
    if profile[1].sum() > 0:
        usual = profile[0].sum() / profile[1].sum()
    shares = np.full(day, float((end - start) // (day * hour)))
    at = end - (end - start) % (day * hour)
    while at < end:
        step = min(hour - at % hour, end - at)
        shares[at // hour % day] += step / hour
        at += step
    for k in range(day):
        total += shares[k] * (profile[0, k] + usual) / (profile[1, k] + 1.0)
    if rows > 0:
        rate = rows / shares.sum()
        for k in range(day):
            fade = min(1.0, memory / (profile[1, k] + shares[k])) if shares[k] > 0 else 1.0
            profile[0, k] = (profile[0, k] + shares[k] * rate) * fade
            profile[1, k] = (profile[1, k] + shares[k]) * fade
    return total


@compiled
def window_means(ring: Floats, count: int, spans: Ints, found: Floats) -> None:
    """Fill the mean of each span's newest places of a ring."""
    total, taken = 0.0, 0
    for s in range(spans.shape[0]):
        while taken < spans[s]:
            total += ring[(count - 1 - taken) % ring.shape[0]]
            taken += 1
        found[s] = total / taken
