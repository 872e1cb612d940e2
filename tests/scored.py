"""Messages of `scored` as inference writes them, from arrays."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from services.runtime.frames import matrix, times
from services.runtime.records import Record
from services.runtime.schemas import BESIDE, SCORE, scored_frame
from services.runtime.stream import Stream

MINUTE = 60_000_000  # µs


class Scored:
    """Makes messages of one partition; their offsets count from 0."""

    def __init__(self, stream: Stream, partition: int = 0) -> None:
        self._stream, self._partition, self._frame = stream, partition, scored_frame(stream)
        self._messages = self._rows = 0

    def message(
        self,
        vectors: NDArray[np.generic],
        served: ArrayLike,
        at: Sequence[int] | None = None,
        champion: int | None = None,
    ) -> Record:
        """Return the next message: an event a minute, unless `at` says when; with the champion that answered."""
        rows = len(vectors)
        at = at or [(self._rows + row) * MINUTE for row in range(rows)]
        scores = pa.array(np.asarray(served, np.float64))
        names = pa.array([f"e{self._rows + row}" for row in range(rows)], pa.string())
        online = pa.StructArray.from_arrays(
            [pa.array([1] * rows, pa.int64()), scores, pa.array([0.5] * rows)], fields=list(SCORE)
        )
        said = (
            []
            if champion is None
            else [{"version": champion, "score": 0.25, "weight": 0.5, "state": "champion", "beside": 0.5}]
        )
        columns = [
            names,
            names,
            times(np.array(at, np.int64)),
            pa.array(np.arange(self._rows, self._rows + rows)),
            matrix(np.asarray(vectors, np.float32)),
            scores,
            online,
            pa.array([said] * rows, BESIDE),
        ]
        self._messages, self._rows = self._messages + 1, self._rows + rows
        topic = self._stream.topic("scored")
        value = self._frame.encode(columns)
        return Record(topic, self._partition, self._messages - 1, None, value, headers=self._frame.headers)
