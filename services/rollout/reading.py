"""A message of `examples` as arrays: what each model said of its rows, and which versions there were at the newest.

An example counts with its first label: corrections are left out here.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.runtime.frames import rows
from services.runtime.models import State
from services.runtime.schemas import labelled
from services.runtime.stream import Stream

Array: TypeAlias = NDArray[np.float64]
NONE = "none"  # the value of a one-hot feature of which no column is hot


class Said(NamedTuple):
    """What a version said of each row, and its mix with the online model, or NaN; and whether it was a canary."""

    scores: Array
    mixed: Array
    canary: NDArray[np.bool_]


class Newest(NamedTuple):
    """The newest event of a partition of `events` that a message has: its offset, and the versions' states then."""

    offset: int
    states: dict[int, State]


class Message(NamedTuple):
    """The rows with a first label: it is 0 or 1, what each model said and what was served, each sliced feature's value.

    `newest` is of all rows, by partition.
    """

    labels: Array
    online: Array
    served: Array
    said: dict[int, Said]
    values: dict[str, list[str]]
    newest: dict[int, Newest]


class Reader:
    """Reads the batches of one stream."""

    def __init__(self, stream: Stream) -> None:
        self._hot = {name: _columns(stream, name) for name in stream.pipeline.rollout.slices}

    def read(self, batch: pa.RecordBatch) -> Message:
        kept = labelled(batch.filter(batch.column("retracts").is_null()))
        vectors = np.asarray(rows(kept.column("features")))
        return Message(
            np.asarray(kept.column("label"), np.float64),
            _floats(kept.column("online").field("score")),
            _floats(kept.column("served")),
            _said(kept.column("batch"), _floats(kept.column("online").field("score"))),
            {name: _hot(vectors[:, place], values) for name, (place, values) in self._hot.items()},
            _newest(batch),
        )


def has_versions(batch: pa.RecordBatch) -> bool:
    """Say whether any version of the batch model was asked for any row."""
    return len(pc.list_flatten(batch.column("batch"))) > 0


def _columns(stream: Stream, name: str) -> tuple[slice, list[str]]:
    """Return where a one-hot feature stands in the vector, and the value of each of its columns."""
    columns = stream.pipeline.features[name].columns(name)
    start = stream.columns.index(columns[0])
    return slice(start, start + len(columns)), [column.removeprefix(f"{name}=") for column in columns]


def _hot(block: NDArray[np.generic], values: Sequence[str]) -> list[str]:
    named = [*values, NONE]
    hot = np.where(block.any(axis=1), block.argmax(axis=1), len(values))
    return [named[place] for place in hot.tolist()]


def _floats(column: pa.Array) -> Array:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _said(column: pa.ListArray, online: Array) -> dict[int, Said]:
    """Return what each version said, the oldest first."""
    entries, places = pc.list_flatten(column), np.asarray(pc.list_parent_indices(column))
    if not len(entries):
        return {}
    versions, scores, beside = (_floats(entries.field(name)) for name in ("version", "score", "beside"))
    versions, mixed = versions.astype(np.int64), (1 - beside) * online[places] + beside * scores
    canary = np.asarray(pc.equal(entries.field("state"), "canary").to_numpy(zero_copy_only=False), np.bool_)
    found = {}
    for version in np.unique(versions).tolist():
        mine = versions == version
        rows_of = places[mine]
        nothing = np.full(len(column), np.nan)
        said = Said(nothing, nothing.copy(), np.zeros(len(column), np.bool_))
        said.scores[rows_of], said.mixed[rows_of], said.canary[rows_of] = scores[mine], mixed[mine], canary[mine]
        found[version] = said
    return found


def _newest(batch: pa.RecordBatch) -> dict[int, Newest]:
    partitions, offsets = np.asarray(batch.column("partition")), np.asarray(batch.column("offset"))
    found = {}
    for partition in np.unique(partitions).tolist():
        mine = np.flatnonzero(partitions == partition)
        row = int(mine[offsets[mine].argmax()])
        states = {entry["version"]: entry["state"] for entry in batch.column("batch")[row].as_py()}
        found[partition] = Newest(int(offsets[row]), states)
    return found
