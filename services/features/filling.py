"""The compiled loop that makes vectors of what the folds have read."""

import math

import numpy as np
from numpy.typing import NDArray

from services.features.kernels import Floats, Ints, compiled

COPY, RATIO, ROOT, PRESENT, SCALED, ONE_HOT, CIRCLE = range(7)
LARGEST = 3.4028234663852886e38  # of float32
_BLOCK = 64  # events whose vectors stay in the processor's nearest cache while they are filled


@compiled
def fill(
    program: Ints, constants: Floats, times: Ints, places: Ints, read: Floats, vectors: NDArray[np.float32]
) -> None:
    """Fill the vectors (events, columns), zeros before: a missing number becomes its feature's default.

    `program` has a row (kind, first column, a, b) a feature, where a and b are rows of `read`, or a row of `places`
    for `ONE_HOT`, or a period and a shift in microseconds for `CIRCLE`; `constants` a row (default, divisor). `places`
    (fields, events) says which of its columns is 1, or -1 for none.
    """
    for start in range(0, vectors.shape[0], _BLOCK):
        stop = min(start + _BLOCK, vectors.shape[0])
        for feature in range(program.shape[0]):
            kind, column, a, b = program[feature]
            if kind == ONE_HOT:
                _fill_one_hot(places[a, start:stop], vectors[start:stop, column:])
            elif kind == CIRCLE:
                _fill_circle(times[start:stop], a, b, vectors[start:stop, column:])
            else:
                numbers = read[a, start:stop], read[b, start:stop]
                _fill_number(kind, *numbers, constants[feature], vectors[start:stop, column])


@compiled
def _fill_one_hot(places: Ints, out: NDArray[np.float32]) -> None:
    for i in range(places.shape[0]):
        if places[i] >= 0:
            out[i, places[i]] = 1.0


@compiled
def _fill_circle(times: Ints, period: int, shift: int, out: NDArray[np.float32]) -> None:
    """Put each time on a circle that goes round once a `period`: its sine, its cosine."""
    for i in range(times.shape[0]):
        angle = 2.0 * math.pi * ((times[i] + shift) % period) / period
        out[i, 0] = math.sin(angle)
        out[i, 1] = math.cos(angle)


@compiled
def _fill_number(kind: int, x: Floats, filled: Floats, constants: Floats, out: NDArray[np.float32]) -> None:
    default, divisor = constants
    if kind == COPY:
        for i in range(x.shape[0]):
            out[i] = _narrow(x[i], default)
    elif kind == SCALED:
        for i in range(x.shape[0]):
            out[i] = _narrow(x[i] / divisor, default)
    elif kind == PRESENT:
        for i in range(x.shape[0]):
            out[i] = _narrow(x[i], default) if filled[i] > 0 else default
    elif kind == RATIO:
        for i in range(x.shape[0]):
            out[i] = _narrow(x[i] / filled[i], default) if filled[i] > 0 else default
    else:
        for i in range(x.shape[0]):
            out[i] = _narrow(math.sqrt(max(x[i], 0.0) / filled[i]), default) if filled[i] > 0 else default


@compiled
def _narrow(x: float, default: float) -> float:
    """Fit a number into float32: an endless one becomes the largest, a missing one the default."""
    return default if math.isnan(x) else min(max(x, -LARGEST), LARGEST)
