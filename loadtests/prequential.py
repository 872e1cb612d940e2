"""A stream's real events, scored by its online model before each was learned: what load tests of drift begin with.

The stream folder's River model reads the vectors of the features service's core, on one partition, in the order of the
source, and learns from a label when that comes, hours later where the source says so. One pass takes a minute, so it is
kept in `$XDG_CACHE_HOME/thalweg` (`~/.cache/thalweg`), by the fingerprint of what it depends on.
"""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from infra.local.replayer import records
from infra.local.stack import REPOSITORY
from services.features.core import FeaturesCore
from services.learner.model import build_model, fingerprint
from services.runtime.frames import micros, rows
from services.runtime.records import Record
from services.runtime.river_score import score
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream

Floats: TypeAlias = NDArray[np.float64]
SCHEMAS = REPOSITORY / "schemas"
BATCH = 2000


class Prequential(NamedTuple):
    """Rows in the order in which their labels came: vectors, scores, labels, and both times in µs since 1970."""

    vectors: NDArray[np.float32]
    scores: Floats
    labels: Floats
    times: NDArray[np.int64]
    label_times: NDArray[np.int64]

    def pick(self, places: NDArray[np.int64]) -> "Prequential":
        return Prequential(
            self.vectors[places],
            self.scores[places],
            self.labels[places],
            self.times[places],
            self.label_times[places],
        )


def prequential(stream: Stream) -> Prequential:
    """Return the rows of a stream that have a label, from the cache if it has them."""
    name = hashlib.sha256(fingerprint(stream).encode()).hexdigest()[:16]
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thalweg" / f"{stream.name}-{name}.npz"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_name(f".{os.getpid()}-{kept.name}")
        np.savez(draft, *learned(stream))
        draft.rename(kept)
    with np.load(kept) as arrays:
        vectors, scores, labels, times, label_times = (arrays[name] for name in sorted(arrays.files))
    return Prequential(vectors, scores, labels, times, label_times)


def learned(stream: Stream) -> Prequential:
    """Play the source to the model: each event is scored as it happens, and learned once its label is there."""
    story = list(records(SCHEMAS, stream.name, None))
    vectors, times = _vectors(stream, [record for _, kind, record in story if kind == "event"])
    model, columns, field = build_model(stream.pipeline.online.model), stream.columns, stream.pipeline.label.field
    places: dict[object, int] = {}
    scores = np.full(len(vectors), np.nan)
    found: list[tuple[int, bool, float]] = []
    for seconds, kind, record in story:
        if kind == "event":
            place = places[record[stream.pipeline.stream.id]] = len(places)
            scores[place] = score(model, dict(zip(columns, vectors[place].tolist(), strict=True)))
        else:
            place = places[record[stream.pipeline.stream.id]]
            model.learn_one(dict(zip(columns, vectors[place].tolist(), strict=True)), bool(record[field]))
            found.append((place, bool(record[field]), seconds))
    order = np.array([place for place, _, _ in found], np.int64)
    labels, said = np.array([label for _, label, _ in found], np.float64), np.array([at for _, _, at in found])
    return Prequential(vectors[order], scores[order], labels, times[order], (said * 1e6).astype(np.int64))


def _vectors(stream: Stream, events: list[dict[str, object]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    core, frame, topic = FeaturesCore(stream, 0), features_frame(stream), stream.topic("features")
    log = [
        Record(stream.topic("events"), 0, offset, str(event[stream.key]).encode(), msgspec.json.encode(event))
        for offset, event in enumerate(events)
    ]
    found, times = [], []
    for first in range(0, len(log), BATCH):
        for out in core.fold(log[first : first + BATCH]):
            if out.topic == topic:
                batch = frame.decode(Record(topic, 0, 0, None, out.value, headers=out.headers))
                found.append(np.asarray(rows(batch.column("features")), np.float32))
                times.append(micros(batch.column("event_time")))
    assert sum(map(len, times)) == len(events), "the source's own records are refused"
    return np.concatenate(found), np.concatenate(times)
