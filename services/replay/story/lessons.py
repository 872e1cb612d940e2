"""What a version has learned from: the examples, and the events that they are of, as ranges of offsets.

A version of the online model is the fold of the first N examples with a label; one of the batch model was trained on
what the table had then, of each event what was said last.
"""

from collections.abc import Iterable
from typing import TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.replay.story.examples import Batch
from services.replay.story.facts import Training
from services.runtime.errors import Stop
from services.runtime.frames import micros
from services.runtime.models import ONLINE

Ints: TypeAlias = NDArray[np.int64]


class Range(msgspec.Struct, frozen=True):
    """Offsets from `first` to `last`, both of them in it."""

    first: int
    last: int


class Source(msgspec.Struct, frozen=True):
    """The events of one partition: how many, which offsets, and from which event time (µs) to which."""

    partition: int
    events: int
    offsets: list[Range]
    start: int
    end: int


class Lessons(msgspec.Struct, frozen=True):
    """What a version learned from.

    `records` of `examples` hold them, of the last of which `of_last` rows count; `rows` were learned, of which
    `corrections` say anew what was learned of an event before. Times are of events, in µs.
    """

    version: str
    rows: int
    corrections: int
    records: Range | None
    of_last: int
    events: int
    start: int | None
    end: int | None
    sources: list[Source]
    ids: list[str] | None = None


class _Rows:
    """The rows with a label, in the order of the log."""

    def __init__(self, *, ids: bool) -> None:
        self._parts: list[tuple[Ints, Ints, Ints, NDArray[np.bool_]]] = []
        self._ids: list[str] | None = [] if ids else None
        self.first: int | None = None
        self.last = self.of_last = self.count = 0

    def take(self, batch: Batch, most: int | None = None) -> None:
        """Take the rows of a message, those with a label up to so many."""
        record, rows = batch
        known = np.asarray(rows.column("label").is_valid())
        if most is not None:
            known &= np.cumsum(known) <= most
        kept = rows.filter(pa.array(known))
        if not kept.num_rows:
            return
        self.first = record.offset if self.first is None else self.first
        self.last, self.of_last = record.offset, kept.num_rows
        self.count += kept.num_rows
        partitions, offsets = (np.asarray(kept.column(name), np.int64) for name in ("partition", "offset"))
        again: NDArray[np.bool_] = np.asarray(kept.column("retracts").is_valid())
        self._parts.append((partitions, offsets, micros(kept.column("event_time")), again))
        if self._ids is not None:
            self._ids += kept.column("event_id").to_pylist()

    def told(self, version: str, since: int | None = None) -> Lessons:
        """Say it: each event once, those from an event time on if there is a `since`."""
        if not self._parts:
            return Lessons(version, 0, 0, None, 0, 0, None, None, [], None if self._ids is None else [])
        partitions, offsets, times, again = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        chosen = np.ones(len(times), np.bool_) if since is None else times >= since
        sources = list(_sources(partitions[chosen], offsets[chosen], times[chosen]))
        ids = None if self._ids is None else [name for name, kept in zip(self._ids, chosen, strict=True) if kept]
        where = None if self.first is None else Range(self.first, self.last)
        return Lessons(
            version,
            int(chosen.sum()),
            int(again[chosen].sum()),
            where,
            self.of_last,
            sum(source.events for source in sources),
            min((source.start for source in sources), default=None),
            max((source.end for source in sources), default=None),
            sources,
            None if ids is None else [*dict.fromkeys(ids)],
        )


def online_lessons(version: int, examples: Iterable[Batch], *, ids: bool = False) -> Lessons:
    """Return what `online@version` learned from: the first examples with a label, as many as its number says."""
    rows = _Rows(ids=ids)
    for batch in examples if version else ():
        rows.take(batch, version - rows.count)
        if rows.count == version:
            break
    if rows.count < version:
        raise Stop(f"{ONLINE}@{version} is not there yet: `examples` holds {rows.count} with a label")
    return rows.told(f"{ONLINE}@{version}")


def batch_lessons(training: Training, examples: Iterable[Batch], *, ids: bool = False) -> Lessons:
    """Return what a version of the batch model was trained on; Stop if it is not known how far its table had come."""
    if training.reached is None:
        raise Stop(
            f"{training.version} was trained on version {training.table_version} of the table of examples, which is"
            " kept no longer, or is elsewhere (--store, --run-dir): how far it had come is not known"
        )
    rows = _Rows(ids=ids)
    for record, batch in examples:
        if record.offset >= training.reached:
            break
        rows.take((record, batch))
    return rows.told(training.version, training.since if training.window == "after" else None)


def _sources(partitions: Ints, offsets: Ints, times: Ints) -> Iterable[Source]:
    for partition in np.unique(partitions).tolist():
        mine = partitions == partition
        places, spans = np.unique(offsets[mine]), times[mine]
        yield Source(partition, len(places), _ranges(places), int(spans.min()), int(spans.max()))


def _ranges(offsets: Ints) -> list[Range]:
    """Return ascending offsets as ranges without a gap."""
    cuts = np.flatnonzero(np.diff(offsets) > 1)
    firsts, lasts = offsets[np.append(0, cuts + 1)], offsets[np.append(cuts, len(offsets) - 1)]
    return [Range(*pair) for pair in zip(firsts.tolist(), lasts.tolist(), strict=True)]
