"""The inference core: what consumers read, to the letter, and what the services after it read."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from services.inference.core import InferenceCore
from services.inference.mix import Mix, Scores
from services.runtime.errors import Stop
from services.runtime.frames import matrix, micros, rows, times
from services.runtime.grammar import Duration, LabelRule, OnlineRule, Pipeline, StreamRule, Value
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import examples_frame, features_frame, scored_frame
from services.runtime.stream import Stream

PIPELINE = Pipeline(
    StreamRule("binary", "key", "at", "id"),
    {"x": Value(of="x"), "y": Value(of="y")},
    LabelRule("late", "at", Duration("1h")),
    OnlineRule(["linear_model.LogisticRegression"]),
)
STREAM = Stream("made", {"properties": {}}, {"properties": {}}, PIPELINE, ("x", "y"), "made:5f3c")
FRAME = features_frame(STREAM)
IDS = ["2013-a", 'b"é', "c"]
KEYS = ["JFK", "Ål", "JFK"]
MICROS = [1_357_394_520_000_000, -1, 1_357_394_520_250_000]
OFFSETS = [9131, 9133, 9140]
VECTORS = np.array([[0.1, -0.0], [1e-45, 3.4e38], [7, 8]], np.float32)
SCORES = Scores(1840, np.array([0.37, 0.1 + 0.2, 1e-300]))


def features(rows: slice = slice(None), number: int = 0) -> Record:
    columns = [
        pa.array(IDS[rows]),
        pa.array(KEYS[rows]),
        times(np.array(MICROS[rows], np.int64)),
        pa.array(OFFSETS[rows], pa.int64()),
        matrix(VECTORS[rows]),
    ]
    return Record("made.features", 2, number, None, FRAME.encode(columns), headers=FRAME.headers)


def write(records: Sequence[Record], scores: Scores = SCORES) -> tuple[list[Outgoing], Outgoing]:
    """Return the predictions and the scored batch."""
    core = InferenceCore(STREAM)
    *predictions, scored = core.write(2, core.read(records), Mix(scores))
    return predictions, scored


def test_a_prediction_reads_as_the_contract_says() -> None:
    """Exactly these fields: the event's id, key and time, the prediction and its provenance."""
    predictions, _ = write([features()])
    assert json.loads(predictions[0].value) == {
        "event_id": "2013-a",
        "key": "JFK",
        "event_time": "2013-01-05T14:02:00Z",
        "prediction": {"late": 0.37},
        "scores": {"online@1840": 0.37},
        "weights": {"online@1840": 1.0},
        "source": {"partition": 2, "offset": 9131},
        "features": "made:5f3c",
        "degraded": False,
        "trace_id": None,
    }
    order = "event_id key event_time prediction scores weights source features degraded trace_id"
    assert list(json.loads(predictions[0].value)) == order.split()


def test_there_is_a_prediction_an_event() -> None:
    """One record each, in order, keyed by the stream's key, on the event's own partition."""
    predictions, _ = write([features()])
    assert [(out.topic, out.partition, out.key) for out in predictions] == [
        ("made.predictions", 2, key.encode()) for key in KEYS
    ]
    said = [json.loads(out.value) for out in predictions]
    assert [one["event_id"] for one in said] == IDS
    assert [one["key"] for one in said] == KEYS
    assert [one["source"]["offset"] for one in said] == OFFSETS
    assert [one["prediction"]["late"] for one in said] == SCORES.values.tolist()
    assert [one["scores"]["online@1840"] for one in said] == SCORES.values.tolist()


def test_times_are_rfc_3339_in_utc() -> None:
    """Whole seconds have no fraction, others their microseconds, and all a Z, before 1970 as after."""
    said = [json.loads(out.value)["event_time"] for out in write([features()])[0]]
    assert said == ["2013-01-05T14:02:00Z", "1969-12-31T23:59:59.999999Z", "2013-01-05T14:02:00.250000Z"]


def test_the_scored_batch_is_the_features_and_what_was_said() -> None:
    """Row by row: the vector bit for bit, what was served, and the model's version, score and weight."""
    _, scored = write([features()])
    frame = scored_frame(STREAM)
    assert (scored.topic, scored.partition, scored.headers) == ("made.scored", 2, frame.headers)
    batch = frame.decode(Record(scored.topic, 2, 0, None, scored.value, headers=scored.headers))
    assert batch.schema.equals(frame.schema, check_metadata=True)
    assert batch.column("event_id").to_pylist() == IDS
    assert batch.column("key").to_pylist() == KEYS
    assert micros(batch.column("event_time")).tolist() == MICROS
    assert batch.column("offset").to_pylist() == OFFSETS
    assert rows(batch.column("features")).tobytes() == VECTORS.tobytes()
    assert batch.column("served").to_pylist() == SCORES.values.tolist()
    assert batch.column("online").to_pylist() == [
        {"version": 1840, "score": value, "weight": 1.0} for value in SCORES.values.tolist()
    ]


def test_messages_of_a_partition_are_joined_in_order() -> None:
    """However the rows are cut into messages, one empty: the vectors, the predictions and the batch are the same."""
    whole, cut = [features()], [features(slice(1), 0), features(slice(1, 1), 1), features(slice(1, None), 2)]
    core = InferenceCore(STREAM)
    assert core.vectors(core.read(cut)).tobytes() == core.vectors(core.read(whole)).tobytes() == VECTORS.tobytes()
    assert write(cut) == write(whole)


def test_vectors_are_what_triton_takes() -> None:
    """A (rows, columns) array of float32; of no rows it still has the columns."""
    core = InferenceCore(STREAM)
    for vectors, n in ((core.vectors(core.read([features()])), 3), (core.no_vectors(), 0)):
        assert (vectors.shape, vectors.dtype) == ((n, 2), np.float32)


def test_a_score_too_few_is_an_error() -> None:
    """Rows and scores are matched one to one or not at all."""
    with pytest.raises(ValueError, match="shorter"):
        write([features()], Scores(1, np.array([0.5, 0.5])))


def test_features_of_another_set_stop_the_service() -> None:
    """A batch that was written for another schema is not scored: Stop, and it names the place."""
    record = features(number=5)
    other = Record(record.topic, 2, 5, None, record.value, headers=examples_frame(STREAM).headers)
    with pytest.raises(Stop, match=r"made\.features\[2\]@5"):
        InferenceCore(STREAM).read([other])
