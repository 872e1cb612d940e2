"""What differs between a row or a prediction as it was written and as it comes out of the fold. Pure."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np

from services.inference.core import Prediction
from services.replay.online import Layout, Predicted, Row

TOLERANCE = 1e-6
Told: TypeAlias = tuple[str, str, str]  # the field, its value online, and replayed


def row_differs(online: Row, replayed: Row, written: Layout, made: Layout) -> Iterator[Told]:
    """Yield what differs: every field, and vectors bit for bit, by the names of their columns."""
    for field in ("event_id", "key"):
        was, again = getattr(online, field), getattr(replayed, field)
        if was != again:
            yield field, repr(was), repr(again)
    if online.time != replayed.time:
        yield "event_time", time_text(online.time), time_text(replayed.time)
    if written.columns != made.columns or online.vector != replayed.vector:
        yield from _vector_differs(_by_name(online, written), _by_name(replayed, made))


def _by_name(row: Row, layout: Layout) -> dict[str, np.float32]:
    return dict(zip(layout.columns, np.frombuffer(row.vector, np.float32), strict=True))


def _vector_differs(online: Mapping[str, np.float32], replayed: Mapping[str, np.float32]) -> Iterator[Told]:
    for column in [*replayed, *(column for column in online if column not in replayed)]:
        was, again = online.get(column), replayed.get(column)
        if was is None or again is None:
            yield column, _number(was), _number(again)
        elif was.tobytes() != again.tobytes():
            yield column, *_told_apart(was, again)


def _number(value: np.float32 | None) -> str:
    return "no such column" if value is None else str(value)


def _told_apart(was: np.float32, again: np.float32) -> tuple[str, str]:
    """Return the two values, with their bits where they read the same."""
    if str(was) != str(again):
        return str(was), str(again)
    return f"{was} (bits {was.view(np.uint32):08x})", f"{again} (bits {again.view(np.uint32):08x})"


def prediction_differs(found: Predicted, row: Row, feature_set: str, partition: int) -> Iterator[Told]:
    """Yield what of a prediction, other than its scores, is not as its event's row says."""
    said = found.said
    expected = (
        ("the record's key", found.key, row.key.encode()),
        ("event_id", said.event_id, row.event_id),
        ("key", said.key, row.key),
        ("source.partition", said.source.partition, partition),
        ("features", said.features, feature_set),
    )
    if not (said.weights.keys() <= said.scores.keys() and abs(sum(said.weights.values()) - 1) <= TOLERANCE):
        yield "weights", repr(said.weights), f"1 in all, of {sorted(said.scores)}"
    for field, was, again in expected:
        if was != again:
            yield field, repr(was), repr(again)
    if found.time != row.time:
        yield "event_time", time_text(found.time), time_text(row.time)


def scores_differ(said: Prediction, field: str, scores: Mapping[str, float]) -> Iterator[Told]:
    """Yield which scores, and whether the prediction of `field` made of them, are off by more than `TOLERANCE`."""
    for version, score in scores.items():
        if not abs(said.scores[version] - score) <= TOLERANCE:
            yield f"scores.{version}", repr(said.scores[version]), repr(score)
    mix = sum(weight * scores.get(version, float("nan")) for version, weight in said.weights.items())
    served = said.prediction.get(field, float("nan"))
    if not abs(served - mix) <= TOLERANCE:
        yield f"prediction.{field}", repr(served), repr(mix)


def time_text(micros: int) -> str:
    return f"{np.datetime64(micros, 'us')}Z"
