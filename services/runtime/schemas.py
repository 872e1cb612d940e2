"""The Arrow schemas of the batches that services hand each other, one after the other a little wider."""

import pyarrow as pa

from services.runtime.frames import TIME, Frame, matrix_type
from services.runtime.stream import Stream

SCORE = pa.struct([("version", pa.int64()), ("score", pa.float64()), ("weight", pa.float64())])
BESIDE = pa.list_(pa.struct([*SCORE, ("state", pa.string()), ("beside", pa.float64())]))


def features_frame(stream: Stream) -> Frame:
    """`features`: the vector of each event, with where the event stands; one message is of one partition."""
    return Frame(pa.schema(_features(stream), _metadata(stream)))


def scored_frame(stream: Stream) -> Frame:
    """`scored`: the vector, what was served for it, and each model's version, score and weight in that.

    `batch` has every version of the batch model that was asked, served or not: also its state, and its weight `beside`
    the online model, were it served. A score is null where there was no answer in time.
    """
    return Frame(pa.schema(_scored(stream), _metadata(stream)))


def examples_frame(stream: Stream) -> Frame:
    """`examples`: a scored row and what was said of it.

    `outcome` is "label", or "timeout" where none came in time, "late" for one that came after that, and "corrected" for
    another that holds instead; `retracts` is what was said before, and holds no longer. `label` is null where nothing
    is known: nobody learns from such a row.
    """
    fields = [
        *_scored(stream),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("label", pa.float64()),
        pa.field("label_time", TIME, nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("retracts", pa.float64()),
    ]
    return Frame(pa.schema(fields, _metadata(stream)))


def labelled(examples: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows whose label is known."""
    label = examples.column("label")
    return examples.filter(label.is_valid()) if label.null_count else examples


def _features(stream: Stream) -> list[pa.Field]:
    return [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("event_time", TIME, nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("features", matrix_type(len(stream.columns), pa.float32()), nullable=False),
    ]


def _scored(stream: Stream) -> list[pa.Field]:
    return [
        *_features(stream),
        pa.field("served", pa.float64(), nullable=False),
        pa.field("online", SCORE),
        pa.field("batch", BESIDE, nullable=False),
    ]


def _metadata(stream: Stream) -> dict[str, str]:
    return {"feature_set": stream.feature_set, "columns": "\n".join(stream.columns)}
