"""Examples that have something to learn, on a made-up stream, for tests of the learner and of what it publishes."""

import pickle
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from river import compose, linear_model, optim, preprocessing

from services.learner.core import LearnerCore
from services.runtime.frames import matrix, times
from services.runtime.grammar import Duration, LabelRule, OnlineRule, Pipeline, StreamRule, Value
from services.runtime.records import Record
from services.runtime.river_score import score
from services.runtime.schemas import BESIDE, SCORE, examples_frame
from services.runtime.stream import Stream

COLUMNS = ("x", "y", "z")
MODEL: list[Any] = [
    "preprocessing.StandardScaler",
    {"linear_model.LogisticRegression": {"optimizer": {"optim.AdaGrad": {"lr": 0.2}}}},
]
PIPELINE = Pipeline(
    StreamRule("binary", "key", "at", "id"),
    {name: Value(of=name) for name in COLUMNS},
    LabelRule("late", "at", Duration("1h")),
    OnlineRule(MODEL, Duration("5s")),
)
STREAM = Stream("made", {"properties": {}}, {"properties": {}}, PIPELINE, COLUMNS, "made:0")
FRAME = examples_frame(STREAM)
EXAMPLES = 300


def by_hand() -> Any:
    """Return the same model, put together without us."""
    return compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(optim.AdaGrad(lr=0.2)))


def drawn() -> tuple[NDArray[np.float32], list[bool]]:
    """Return examples that have something to learn."""
    rng = np.random.default_rng(1)
    vectors = (rng.standard_normal((EXAMPLES, 3)) * [1, 50, 1e-3] + [0, 400, 0]).astype(np.float32)
    return vectors, ((vectors[:, 1] - 400) / 50 + rng.standard_normal(EXAMPLES) / 2 > 0).tolist()


VECTORS, LABELS = drawn()


def record(rows: slice, number: int = 0, *, corrects: bool = False) -> Record:
    """Return a record of `examples` that holds these; if it corrects, with the other label and this one retracted."""
    vectors, labels = VECTORS[rows], LABELS[rows]
    n, epoch = len(vectors), times(np.zeros(len(vectors), np.int64))
    columns = [
        pa.array([f"e{place}" for place in range(n)]),
        pa.array(["k"] * n),
        epoch,
        pa.array(range(n), pa.int64()),
        matrix(vectors),
        pa.array([0.5] * n),
        pa.array([{"version": 0, "score": 0.5, "weight": 1.0}] * n, SCORE),
        pa.array([[]] * n, BESIDE),
        pa.array([0] * n, pa.int32()),
        pa.array([float(label != corrects) for label in labels]),
        epoch,
        pa.array(["corrected" if corrects else "label"] * n),
        pa.array([float(label) if corrects else None for label in labels], pa.float64()),
    ]
    return Record("made.examples", 0, number, None, FRAME.encode(columns), headers=FRAME.headers)


def unknown(found: Record) -> Record:
    """Return the record with nothing known of every second row, from the first on: its label never came."""
    batch = FRAME.decode(found)
    odd = np.arange(batch.num_rows) % 2 == 1
    places = {name: place for place, name in enumerate(batch.schema.names)}
    columns = list(batch.columns)
    columns[places["label"]] = pc.if_else(pa.array(odd), batch.column("label"), None)
    columns[places["outcome"]] = pc.if_else(pa.array(odd), batch.column("outcome"), "timeout")
    return msgspec.structs.replace(found, value=FRAME.encode(columns))


def named(vector: NDArray[np.float32]) -> dict[str, float]:
    return dict(zip(COLUMNS, vector.tolist(), strict=True))


def scores(artifact: bytes) -> list[float]:
    """Return what an artifact says of every example."""
    model = pickle.loads(artifact)  # noqa: S301 - made by this test
    return [score(model, named(vector)) for vector in VECTORS]


def whole() -> LearnerCore:
    core = LearnerCore(STREAM)
    core.fold([record(slice(None))])
    return core
