"""The compiled part of what is no table of counts: one-hot values, sums of slices, waves of rows, rates, windows."""

import math

import numpy as np
from numpy.typing import NDArray

from services.drift.kernels import Floats, Ints, compiled


@compiled
def hottest(vectors: NDArray[np.float32], start: int, end: int) -> Ints:
    """Return which column of a one-hot block each row has, counted from its first; how many there are for none."""
    found = np.full(vectors.shape[0], end - start)
    for i in range(vectors.shape[0]):
        for j in range(start, end):
            if vectors[i, j] != 0:
                found[i] = j - start
                break
    return found


@compiled
def sum_slices(numbers: NDArray[np.float32], slices: Ints, sums: Floats) -> None:
    """Add each row, and its numbers but for those that are missing, to the sums (slices, 1 + numbers) of its slice."""
    for i in range(numbers.shape[0]):
        sums[slices[i], 0] += 1.0
        for j in range(numbers.shape[1]):
            if not math.isnan(numbers[i, j]):
                sums[slices[i], 1 + j] += numbers[i, j]


# Joint drift


@compiled
def mean_waves(rows: NDArray[np.float32], center: Floats, spread: Floats, waves: Floats, far: float) -> Floats:
    """Return the mean of the cosines and the sines of standardised rows along each wave, of length 1 at most."""
    count, width = waves.shape[1], waves.shape[0]
    mean, angles = np.zeros(2 * count), np.empty(count)
    for row in rows:
        angles[:] = 0.0
        for j in range(width):
            x = (row[j] - center[j]) / spread[j]
            x = 0.0 if math.isnan(x) else min(max(x, -far), far)
            for k in range(count):
                angles[k] += x * waves[j, k]
        for k in range(count):
            mean[k] += math.cos(angles[k])
            mean[count + k] += math.sin(angles[k])
    mean /= rows.shape[0] * math.sqrt(count)
    return mean


@compiled
def window_gaps(ring: Floats, blocks: int, spans: Ints, mean: Floats) -> Floats:
    """Return the squared distance of the mean of each span's newest places of a ring from a mean."""
    found, total, taken = np.zeros(spans.shape[0]), np.zeros(mean.shape[0]), 0
    for s in range(spans.shape[0]):
        while taken < spans[s]:
            total += ring[(blocks - 1 - taken) % ring.shape[0]]
            taken += 1
        for k in range(mean.shape[0]):
            found[s] += (total[k] / taken - mean[k]) ** 2
    return found


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
def window_means(ring: Floats, count: int, spans: Ints) -> Floats:
    """Return the mean of each span's newest places of a ring."""
    found, total, taken = np.zeros(spans.shape[0]), 0.0, 0
    for s in range(spans.shape[0]):
        while taken < spans[s]:
            total += ring[(count - 1 - taken) % ring.shape[0]]
            taken += 1
        found[s] = total / taken
    return found
