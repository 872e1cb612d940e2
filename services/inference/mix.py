"""What is served of a batch of rows, from what the models said of them. Pure."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.runtime.models import BATCH, ONLINE, State
from services.runtime.schemas import BESIDE, SCORE

Floats = NDArray[np.float64]


class Scores(msgspec.Struct, frozen=True):
    """What Triton answered for a batch: the version that scored it, and a score per row."""

    version: int
    values: Floats


class Beside(msgspec.Struct, frozen=True):
    """What a version of the batch model adds: its state, and its weight `beside` the online model, were it served.

    Of each row its score, NaN where it gave none, and the weight that it is meant to have in what is served.
    """

    version: int
    state: State
    beside: float
    values: Floats
    weights: Floats


class Mix:
    """Serves the weighted mean. Where a version gave no score the online model has its weight, and the row is degraded.

    A row's bits don't depend on the rows beside it.
    """

    def __init__(self, online: Scores, beside: Sequence[Beside] = ()) -> None:
        self._online, self._beside = online, beside
        silent = [np.isnan(other.values) for other in beside]
        self._weights = [np.where(none, 0.0, other.weights) for other, none in zip(beside, silent, strict=True)]
        self._rest = np.ones(len(online.values))
        self.degraded = np.zeros(len(online.values), np.bool_)
        for other, none, weights in zip(beside, silent, self._weights, strict=True):
            self._rest -= weights
            self.degraded |= none & (other.weights > 0)
        self.served = self._rest * online.values
        for other, weights in zip(beside, self._weights, strict=True):
            self.served += np.where(weights > 0, weights * other.values, 0.0)

    def scores(self) -> list[dict[str, float]]:
        """Return, of each row, what each version said."""
        said = [(f"{ONLINE}@{self._online.version}", self._online.values)]
        return _named([*said, *((f"{BATCH}@{other.version}", other.values) for other in self._beside)], np.isnan)

    def weights(self) -> list[dict[str, float]]:
        """Return, of each row, what counted in what is served; 1 in all."""
        said = [(f"{ONLINE}@{self._online.version}", self._rest)]
        others = zip(self._beside, self._weights, strict=True)
        return _named([*said, *((f"{BATCH}@{other.version}", weights) for other, weights in others)], np.logical_not)

    def columns(self) -> list[pa.Array]:
        """Return the columns `served`, `online` and `batch` of `scored`."""
        values = pa.array(self._online.values)
        version = pa.repeat(pa.scalar(self._online.version, pa.int64()), len(values))
        online = pa.StructArray.from_arrays([version, values, pa.array(self._rest)], fields=list(SCORE))
        return [pa.array(self.served), online, self._batch_column()]

    def _batch_column(self) -> pa.Array:
        """Return a list for each row, with an entry for each version."""
        count, rows = len(self._beside), len(self._online.values)
        starts = pa.array(np.arange(rows + 1, dtype=np.int32) * count)
        if not count:
            return pa.ListArray.from_arrays(starts, pa.array([], BESIDE.value_type))
        places = pa.array(np.tile(np.arange(count), rows))
        entries = [
            pa.array([other.version for other in self._beside], pa.int64()).take(places),
            pa.array(np.column_stack([other.values for other in self._beside]).reshape(-1), from_pandas=True),
            pa.array(np.column_stack(self._weights).reshape(-1)),
            pa.array([other.state for other in self._beside], pa.string()).take(places),
            pa.array([other.beside for other in self._beside], pa.float64()).take(places),
        ]
        return pa.ListArray.from_arrays(starts, pa.StructArray.from_arrays(entries, fields=list(BESIDE.value_type)))


def _named(columns: Sequence[tuple[str, Floats]], nothing: np.ufunc) -> list[dict[str, float]]:
    """Return a dictionary for each row, without what is nothing there."""
    if len(columns) == 1:
        name, values = columns[0]
        return [{name: value} for value in values.tolist()]
    rows: list[dict[str, float]] = [{} for _ in columns[0][1]]
    for name, values in columns:
        for row, value, left_out in zip(rows, values.tolist(), nothing(values).tolist(), strict=True):
            if not left_out:
                row[name] = value
    return rows
