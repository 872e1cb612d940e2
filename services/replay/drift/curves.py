"""What `scored` and `examples` add up to over event time: volume, losses of each model, label coverage and delay.

An example counts with its first label, as where rollout decides. Memory is bounded by the buckets and the versions.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.replay.drift.buckets import Buckets, Floats, Ints
from services.replay.drift.sketch import Delays
from services.replay.online import open_batch
from services.replay.verify import Span
from services.runtime.frames import micros
from services.runtime.models import BATCH, ONLINE
from services.runtime.quality import SMALLEST
from services.runtime.records import Record

MOST = 400  # buckets of event time
MOST_WALL = 4000
SERVED = "served"
SCORED = ("event_time", "served")
EXAMPLES = (*SCORED, "online", "batch", "label", "label_time", "outcome", "retracts")
REAL = pa.array(["label", "late", "corrected"])  # outcomes that somebody said; "timeout" is a rule's


class Curves:
    """The fold of both topics. `first` and `last` are event times (µs); without events the last is before the first."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span or Span()
        self._buckets = Buckets(MOST)
        self._wall = Buckets(MOST_WALL, np.maximum)
        self.delays = Delays()
        self.first, self.last = 2**63 - 1, -(2**63)

    def fold_scored(self, records: Sequence[Record]) -> None:
        batch, written = _together(records, SCORED)
        times = micros(batch.column("event_time"))
        if not len(times):
            return
        self._wall.fold("", written, times.astype(np.float64)[:, None])
        within = self._within(times)
        self._extend(times[within])
        rows = np.column_stack([np.ones(len(times)), _floats(batch.column("served"))])
        self._buckets.fold("scored", times[within], rows[within])

    def fold_examples(self, records: Sequence[Record]) -> None:
        batch, _ = _together(records, EXAMPLES)
        first = batch.filter(pc.and_(batch.column("retracts").is_null(), batch.column("label").is_valid()))
        first = first.filter(pa.array(self._within(micros(first.column("event_time")))))
        times, labels = micros(first.column("event_time")), _floats(first.column("label"))
        self._extend(times)
        online = _floats(first.column("online").field("score"))
        for name, scores in ((SERVED, _floats(first.column("served"))), (ONLINE, online)):
            self._lost(name, times, scores, labels)
        self._versions(first.column("batch"), times, labels)
        self._said(first, times)

    def _extend(self, times: Ints) -> None:
        if len(times):
            self.first = min(self.first, int(times.min()))
            self.last = max(self.last, int(times.max()))

    def _within(self, times: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return (times >= self._span.start) & (times < self._span.end)

    def _versions(self, column: pa.ListArray, times: Ints, labels: Floats) -> None:
        entries, places = pc.list_flatten(column), np.asarray(pc.list_parent_indices(column))
        if not len(entries):
            return
        versions, scores = _floats(entries.field("version")), _floats(entries.field("score"))
        for version in np.unique(versions):
            mine = versions == version
            self._lost(f"{BATCH}@{version:.0f}", times[places[mine]], scores[mine], labels[places[mine]])

    def _lost(self, name: str, times: Ints, scores: Floats, labels: Floats) -> None:
        answered = ~np.isnan(scores)
        right = np.where(labels > 0, scores, 1 - scores)[answered]
        losses = -np.log(np.maximum(right, SMALLEST))
        self._buckets.fold(name, times[answered], np.column_stack([np.ones(len(losses)), losses]))

    def _said(self, first: pa.RecordBatch, times: Ints) -> None:
        real = np.asarray(pc.is_in(first.column("outcome"), REAL).to_numpy(zero_copy_only=False), np.bool_)
        waited = (micros(first.column("label_time")) - times)[real] / 1e6
        self._buckets.fold("labelled", times[real], np.column_stack([np.ones(len(waited)), waited]))
        self.delays.fold(waited)

    # What it adds up to

    @property
    def width(self) -> int:
        return self._buckets.width

    @property
    def times(self) -> Ints:
        return self._buckets.times()

    @property
    def models(self) -> list[str]:
        """Name what answered: what was served, the online model, the versions of the batch model in order."""
        versions = [name for name in self._buckets.names if name.startswith(f"{BATCH}@")]
        there = [name for name in (SERVED, ONLINE) if name in self._buckets.names]
        return [*there, *sorted(versions, key=lambda name: int(name.partition("@")[2]))]

    def sums(self, name: str) -> Floats:
        """Return a row for each bucket: how many, and the sum of what is told of them.

        Of a model its losses, of "labelled" how long each waited (s), of "scored" what was served.
        """
        return self._buckets.rows(name, 2)

    def mean(self, name: str) -> Floats:
        counts, sums = self.sums(name).T
        return ratio(sums, counts)

    def total(self, name: str, start: float = -np.inf, end: float = np.inf) -> tuple[int, float | None]:
        """Return how many there are in the buckets that begin within [start, end), and their mean."""
        within = (self.times >= start) & (self.times < end)
        count, total = self.sums(name)[within].sum(axis=0)
        return int(count), float(total / count) if count else None

    def coverage(self) -> Floats:
        """Return which share of each bucket's events has a label that somebody gave."""
        events, labels = self.sums("scored")[:, 0], self.sums("labelled")[:, 0]
        return ratio(labels, events)

    def event_time(self, wall: int) -> int | None:
        """Return how far event time had come at a time of the broker's clock (both µs); None before all events."""
        walls, reached = self._wall.times(), self._wall.rows("", 1)[:, 0]
        if not len(walls) or wall < walls[0]:
            return None
        return int(np.interp(wall, walls + self._wall.width, np.maximum.accumulate(reached)))


def ratio(parts: Floats, wholes: Floats) -> Floats:
    """Return parts / wholes, NaN where there is no whole."""
    found: Floats = np.divide(parts, wholes, out=np.full(len(wholes), np.nan), where=wholes > 0)
    return found


def _together(records: Sequence[Record], names: Sequence[str]) -> tuple[pa.RecordBatch, Ints]:
    """Return these columns of all messages as one batch, and of each row when its message was written (µs).

    Messages of one row, as at few events a second, would cost as much each as one of thousands.
    """
    batches = [open_batch(record).select(names).replace_schema_metadata(None) for record in records]
    written = np.repeat([record.timestamp * 1000 for record in records], [batch.num_rows for batch in batches])
    return pa.concat_batches(batches), written


def _floats(column: pa.Array) -> Floats:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
