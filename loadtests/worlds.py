"""A stream's real rows as columns: shuffled, changed, sent through the real feature engine, scored, made messages.

What is changed is a field of the events, before the features are made, so what is derived from it changes too. Scores
are those of a logistic regression that was fitted to the stream in its natural order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.local.replayer import records
from infra.local.stack import REPOSITORY
from services.features.engine import Engine
from services.runtime.frames import matrix, times
from services.runtime.records import Record
from services.runtime.schemas import BESIDE, SCORE, scored_frame
from services.runtime.stream import Stream, load_stream

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Column: TypeAlias = "NDArray[np.object_] | Floats"
Model: TypeAlias = Callable[[NDArray[np.float32]], Floats]
SCHEMAS = REPOSITORY / "schemas"
BATCH = 2000
FAR = 5.0  # deviations at which the model's inputs are clipped
NEWTON_STEPS = 8


@dataclass(frozen=True)
class World:
    """Events in their order: the fields that features read, event times (µs), labels (NaN where there is none)."""

    stream: Stream
    columns: dict[str, Column]
    at: Ints
    labels: Floats

    def __len__(self) -> int:
        return len(self.at)

    def take(self, rows: Ints, at: Ints) -> "World":
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, columns=columns, at=at, labels=self.labels[rows])

    def with_column(self, name: str, column: Column) -> "World":
        return replace(self, columns=self.columns | {name: column})

    @property
    def numbers(self) -> list[str]:
        return [name for name, column in self.columns.items() if column.dtype != object]


def load(name: str, events: int | None = None) -> World:
    stream = load_stream(SCHEMAS, name)
    rule, label = stream.pipeline.stream, stream.pipeline.label
    fields = _fields(stream)
    ids, rows, at, labels = [], [], [], {}
    for when, kind, record in records(SCHEMAS, name, events):
        if kind == "event":
            ids.append(record[rule.id])
            rows.append([record[field] for field in fields])
            at.append(round(when * 1e6))
        else:
            labels[record[rule.id]] = float(record[label.field])
    values = zip(*rows, strict=True)
    columns = {field: _column(list(found)) for field, found in zip(fields, values, strict=True)}
    return World(stream, columns, np.array(at, np.int64), np.array([labels.get(one, np.nan) for one in ids]))


def _fields(stream: Stream) -> list[str]:
    """Return the fields of the event that features read."""
    operators = stream.pipeline.features.values()
    read = [field for one in operators for field in (getattr(one, "of", None), *(getattr(one, "by", None) or ()))]
    return list(dict.fromkeys([*(field for field in read if field), stream.key]))


def _column(values: list[object]) -> Column:
    return np.array(values, object if isinstance(values[0], str) else np.float64)


def shuffled(world: World, seed: int, events: int) -> World:
    """Return so many events in random order, and with the gaps between them in random order: nothing ever changes."""
    rng = np.random.default_rng(seed)
    gaps = rng.permutation(np.diff(world.at))
    rows = np.concatenate([rng.permutation(len(world)) for _ in range(-(-events // len(world)))])[:events]
    return world.take(rows, world.at[0] + np.cumsum(np.resize(gaps, events)))


def vectors(world: World) -> NDArray[np.float32]:
    """Return the feature vectors, as the engine makes them, event after event."""
    engine = Engine(world.stream)
    lists = {name: _nullable(column) for name, column in world.columns.items()}
    found = []
    for start in range(0, len(world), BATCH):
        part = slice(start, start + BATCH)
        cut = {name: values[part] for name, values in lists.items()}
        found.append(engine.fold(cut.__getitem__, world.at[part])[0])
    return np.concatenate(found)


def _nullable(column: Column) -> list[object]:
    """Return a column's values, None where a number is missing."""
    values: list[object] = column.tolist()
    if column.dtype != object and np.isnan(column.astype(np.float64)).any():
        return [None if value != value else value for value in values]  # noqa: PLR0124 - NaN alone is not itself
    return values


def fit(x: NDArray[np.float32], labels: Floats) -> Model:
    """Fit a logistic regression to the rows with a label, by Newton's method."""
    known = ~np.isnan(labels)
    mean, deviation = x[known].mean(axis=0), x[known].std(axis=0) + 1e-9

    def inputs(rows: NDArray[np.float32]) -> Floats:
        return np.column_stack([np.ones(len(rows)), np.clip((rows - mean) / deviation, -FAR, FAR)])

    z, y = inputs(x[known]), labels[known]
    weights = np.zeros(z.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-z @ weights))
        hessian = (z * (p * (1 - p))[:, None]).T @ z + np.eye(len(weights))
        weights += np.linalg.solve(hessian, z.T @ (y - p))
    return lambda rows: 1 / (1 + np.exp(-inputs(rows) @ weights))


def messages(world: World, x: NDArray[np.float32], served: Floats, rows: int = BATCH) -> Iterator[Record]:
    """Yield messages of `scored` as inference would write them, of one partition; only the online model answers."""
    frame = scored_frame(world.stream)
    for number, start in enumerate(range(0, len(x), rows)):
        end = min(start + rows, len(x))
        size = end - start
        names, score = pa.array(["event"] * size, pa.string()), pa.array(served[start:end])
        online = [pa.array(np.ones(size, np.int64)), score, pa.array(np.ones(size))]
        batch = pa.ListArray.from_arrays(pa.array(np.zeros(size + 1, np.int32)), pa.array([], BESIDE.value_type))
        columns = [names, names, times(world.at[start:end]), pa.array(np.arange(start, end)), matrix(x[start:end])]
        value = frame.encode([*columns, score, pa.StructArray.from_arrays(online, fields=list(SCORE)), batch])
        yield Record(world.stream.topic("scored"), 0, number, None, value, headers=frame.headers)
