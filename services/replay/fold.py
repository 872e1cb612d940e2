"""One partition of `events`, folded again by the service's own core, and what became of each event."""

from collections.abc import Container, Iterator, Sequence

import msgspec

from services.features.core import FeaturesCore
from services.replay.online import Row, late_source, open_batch, rows_of
from services.runtime.dead_letters import DeadLetter
from services.runtime.records import Outgoing, Record
from services.runtime.stream import Stream

_NEVER = -(2**63)


class Folded(msgspec.Struct, frozen=True, gc=False):
    """An event after the fold: a row of features, or the reason why there is none.

    `behind` says of a late event how far it was behind the newest before it, in microseconds.
    """

    offset: int
    row: Row | None
    reason: str | None = None
    behind: int | None = None


class Refold:
    """Folds a partition's events in order.

    What was refused online is no part of the fold, even if a fix would let it pass now: it is sent through again as a
    record of its own (thalweg dead-letter replay).
    """

    def __init__(self, stream: Stream, partition: int, refused: Container[int]) -> None:
        self._topic, self._late = stream.topic("features"), stream.topic("late")
        self._letters = stream.topic("dead-letter")
        self._refused = refused
        self._core = FeaturesCore(stream, partition)
        self._aside = FeaturesCore(stream, partition)  # only asked whether it would take what was refused
        self._newest = _NEVER

    def fold(self, records: Sequence[Record]) -> Iterator[Folded]:
        """Yield what becomes of each event, in order."""
        kept = [record for record in records if record.offset not in self._refused]
        outgoing = self._core.fold(kept)
        outgoing += self._aside.fold([record for record in records if record.offset in self._refused])
        rows = {row.offset: row for out in outgoing if out.topic == self._topic for row in _rows(out)}
        late = {late_source(out.headers)[1] for out in outgoing if out.topic == self._late}
        reasons = dict(map(_reason, (out for out in outgoing if out.topic == self._letters)))
        for record in records:
            yield self._folded(record.offset, rows.get(record.offset), reasons, late)

    def _folded(self, offset: int, row: Row | None, reasons: dict[int, str], late: set[int]) -> Folded:
        if row is None or offset in self._refused:
            return Folded(offset, None, reasons.get(offset))
        behind = self._newest - row.time if offset in late else None
        self._newest = max(self._newest, row.time)
        return Folded(offset, row, None, behind)


def _rows(out: Outgoing) -> Iterator[Row]:
    return rows_of(open_batch(Record(out.topic, out.partition or 0, 0, out.key, out.value)))


def _reason(out: Outgoing) -> tuple[int, str]:
    letter = msgspec.json.decode(out.value, type=DeadLetter)
    return letter.offset, f"{letter.reason}: {letter.message}"
