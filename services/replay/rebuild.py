"""Rebuilds what is downstream of `events` under another prefix, with the services' own cores and in bounded memory.

Events and labels of all partitions are read in the order in which the broker got them, so that what waits in the join
is about what waited online, and `examples` is in an order from which one can learn.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import groupby, islice
from operator import attrgetter

import msgspec
import numpy as np
import pyarrow as pa

from services.features.core import FeaturesCore
from services.inference.core import InferenceCore
from services.inference.mix import Beside, Mix
from services.inference.mix import Scores as Answer
from services.labels.core import LabelsCore
from services.replay.online import open_batch, refused
from services.replay.scores import Score, Scores
from services.replay.verify import Span, Tell
from services.runtime.frames import micros
from services.runtime.records import Outgoing, Position, Record
from services.runtime.schemas import features_frame
from services.runtime.stream import Stream
from services.runtime.transport import History

KINDS = ("features", "scored", "predictions", "examples")
SLICE = 2000  # records that are in memory, and in a transaction, at once


class Rebuild:
    """Folds the log of `stream` into the topics of `prefix`; of the kinds that are wanted, in the span that is."""

    def __init__(self, stream: Stream, prefix: str, scores: Scores, span: Span, kinds: Sequence[str] = KINDS) -> None:
        self._stream, self._scores, self._span, self._kinds = stream, scores, span, kinds
        self._target = msgspec.structs.replace(stream, name=prefix)
        self._frame = features_frame(stream)
        self._inference = InferenceCore(self._target)
        self._features: dict[int, FeaturesCore] = {}
        self._labels: dict[int, LabelsCore] = {}
        self._wanted = {self._target.topic(kind): kind for kind in kinds}
        self.counts: Counter[str] = Counter()

    def run(self, history: History, write: Callable[[list[Outgoing]], None], tell: Tell) -> None:
        """Read up to where the log ends now, and write as it goes."""
        letters = refused(history, self._stream)
        events, labels = (history.positions(self._stream.topic(kind)) for kind in ("events", "labels"))
        ends = {position: history.bounds(position)[1] for position in events}
        records = _in_order(history, [*events, *labels])
        while batch := list(islice(records, SLICE)):
            kept = [record for record in batch if record.offset not in letters.get(record.position, {})]
            self.counts["left out"] += len(batch) - len(kept)
            write([out for out in self._fold(kept) if out.topic in self._wanted])
            last = batch[-1]
            if last.position in ends:
                tell(last.position, last.offset + 1, ends[last.position])

    def _fold(self, records: Sequence[Record]) -> Iterator[Outgoing]:
        for partition, found in _by_partition(records):
            events = [record for record in found if record.topic == self._stream.topic("events")]
            labels = [record for record in found if record.topic != self._stream.topic("events")]
            outgoing = [*self._events(partition, events)]
            yield from outgoing
            yield from self._examples(partition, outgoing, labels)

    def _events(self, partition: int, events: Sequence[Record]) -> Iterator[Outgoing]:
        core = self._features.setdefault(partition, FeaturesCore(self._target, partition))
        for out in core.fold(events):
            if out.topic == self._target.topic("features"):
                batch = self._in_span(self._frame.decode(_written(out, partition)))
                if batch.num_rows:
                    yield msgspec.structs.replace(out, value=self._frame.encode(batch.columns))
                    yield from self._scored(partition, batch)

    def _in_span(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        times = micros(batch.column("event_time"))
        return batch.filter(pa.array((times >= self._span.start) & (times < self._span.end)))

    def _scored(self, partition: int, batch: pa.RecordBatch) -> Iterator[Outgoing]:
        self.counts["features"] += batch.num_rows
        if set(self._kinds) == {"features"}:
            return
        scores = self._scores(partition, batch)
        self.counts["scored"] += len(scores)
        for _, run in groupby(scores, attrgetter("models")):
            yield from self._inference.write(partition, *_answered(batch, list(run)))

    def _examples(self, partition: int, outgoing: Sequence[Outgoing], labels: Sequence[Record]) -> Iterator[Outgoing]:
        if "examples" not in self._kinds:
            return
        core = self._labels.setdefault(partition, LabelsCore(self._target, partition))
        scored = [_written(out, partition) for out in outgoing if out.topic == self._target.topic("scored")]
        for out in core.fold([*scored, *labels]):
            if out.topic == self._target.topic("examples"):
                self.counts["examples"] += open_batch(_written(out, 0)).num_rows
                yield out


def _answered(batch: pa.RecordBatch, run: Sequence[Score]) -> tuple[pa.RecordBatch, Mix]:
    """Return the rows that the same models scored, and what they said, as inference has it from Triton."""
    online = Answer(run[0].version, np.array([score.score for score in run]))
    return batch.take(pa.array([score.row for score in run])), Mix(online, [*_beside(run)])


def _beside(run: Sequence[Score]) -> Iterator[Beside]:
    for place, first in enumerate(run[0].batch):
        said = [score.batch[place] for score in run]
        values, weights = (np.array([one[field] for one in said], np.float64) for field in ("score", "weight"))
        yield Beside(first["version"], first["state"], first["beside"], values, weights)


def _written(out: Outgoing, partition: int) -> Record:
    return Record(out.topic, partition, 0, out.key, out.value, 0, out.headers)


def _in_order(history: History, positions: Iterable[Position]) -> Iterator[Record]:
    """Yield the records of all partitions, each in order, merged by the times at which the broker got them."""

    def read(position: Position) -> Iterator[Record]:
        return (record for batch in history.read(position) for record in batch)

    return merge(*map(read, positions), key=attrgetter("timestamp"))


def _by_partition(records: Sequence[Record]) -> Iterator[tuple[int, list[Record]]]:
    for partition, found in groupby(sorted(records, key=attrgetter("partition")), attrgetter("partition")):
        yield partition, list(found)
