"""Examples that models of known worth scored, on a made-up stream with slices, for tests of drift."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.runtime.frames import matrix, times
from services.runtime.grammar import DriftRule, Duration, LabelRule, OneHot, OnlineRule, Pipeline, StreamRule, Value
from services.runtime.records import Record
from services.runtime.schemas import BESIDE, SCORE, examples_frame
from services.runtime.stream import Stream

Floats: TypeAlias = NDArray[np.float64]
FEATURES = {"x": Value(of="x"), "carrier": OneHot(of="carrier", values=["A", "B", "C"])}
PIPELINE = Pipeline(
    StreamRule("binary", "key", "at", "id"),
    FEATURES,
    LabelRule("late", "at", Duration("1h"), "unknown"),
    OnlineRule(["linear_model.LogisticRegression"]),
    drift=DriftRule(slices=["carrier"]),
)
COLUMNS = ("x", "carrier=A", "carrier=B", "carrier=C")
STREAM = Stream("made", {"properties": {}}, {"properties": {}}, PIPELINE, COLUMNS, "made:0")
FRAME = examples_frame(STREAM)
START, SECOND = 1_357_000_000_000_000, 1_000_000  # µs


class Examples(NamedTuple):
    """Rows of `examples`; `batch` is what version 7 says, NaN where it was not asked; `carriers` 3 is of none."""

    served: Floats
    online: Floats
    batch: Floats
    labels: Floats
    carriers: NDArray[np.int64]
    outcomes: Sequence[str]
    delays: Floats

    def record(self, rows: slice, offset: int) -> Record:
        """Return a message that holds these rows."""
        places = np.arange(len(self.labels))[rows]
        n, at = len(places), START + places * SECOND
        vectors = np.zeros((n, 4), np.float32)
        hot = self.carriers[rows] < 3
        vectors[np.flatnonzero(hot), 1 + self.carriers[rows][hot]] = 1
        said, labels = [self.outcomes[place] for place in places], self.labels[rows]
        asked = [
            [] if np.isnan(p) else [{"version": 7, "score": p, "weight": 0.5, "state": "champion", "beside": 0.5}]
            for p in self.batch[rows].tolist()
        ]
        columns = [
            pa.array([f"e{place}" for place in places]),
            pa.array(["k"] * n),
            times(at),
            pa.array(places, pa.int64()),
            matrix(vectors),
            pa.array(self.served[rows]),
            pa.array([{"version": 1, "score": p, "weight": 0.5} for p in self.online[rows].tolist()], SCORE),
            pa.array(asked, BESIDE),
            pa.array([0] * n, pa.int32()),
            pa.array(
                [None if one == "timeout" else y for one, y in zip(said, labels.tolist(), strict=True)], pa.float64()
            ),
            times(at + (self.delays[rows] * SECOND).astype(np.int64)),
            pa.array(said),
            pa.array(
                [1 - y if one == "corrected" else None for one, y in zip(said, labels.tolist(), strict=True)],
                pa.float64(),
            ),
        ]
        return Record("made.examples", 0, offset, None, FRAME.encode(columns), headers=FRAME.headers)


def drawn(seed: int, count: int, *, flipped: slice | None = None) -> Examples:
    """Return examples whose scores are their true chances, but where labels are flipped; outcomes of all kinds."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.5, 2, count)
    chance = 1 / (1 + np.exp(-odds))
    labels = (rng.random(count) < chance).astype(np.float64)
    if flipped is not None:
        labels[flipped] = 1 - labels[flipped]
    batch = np.where(rng.random(count) < 0.7, 1 / (1 + np.exp(-odds + rng.normal(0, 0.3, count))), np.nan)
    outcomes = rng.choice(["label", "timeout", "late", "corrected"], count, p=[0.9, 0.06, 0.02, 0.02]).tolist()
    online = 1 / (1 + np.exp(-odds + rng.normal(0, 0.3, count)))
    return Examples(chance, online, batch, labels, rng.integers(0, 4, count), outcomes, rng.exponential(600, count))
