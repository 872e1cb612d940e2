"""Whether a fold of `events` gives the features that were written online: by one digest a partition."""

from collections.abc import Iterable, Iterator
from hashlib import sha256

import msgspec

from services.replay.fold import Refold
from services.replay.online import Row, open_batch, refused, rows_of
from services.runtime.records import Position
from services.runtime.stream import Stream
from services.runtime.transport import History


class Digest(msgspec.Struct, frozen=True):
    """SHA-256 over a partition's rows of `features`, in order: as they were written, and as they come out again."""

    partition: int
    rows: int  # that were written
    online: str
    replayed: str

    @property
    def same(self) -> bool:
        return self.online == self.replayed


def digests(history: History, stream: Stream) -> Iterator[Digest]:
    """Yield the digests of each partition."""
    letters = refused(history, stream)
    for events in history.positions(stream.topic("events")):
        refold = Refold(stream, events.partition, letters.get(events, {}))
        again = (one.row for batch in history.read(events) for one in refold.fold(batch) if one.row is not None)
        written = history.read(Position(stream.topic("features"), events.partition))
        online = (row for batch in written for record in batch for row in rows_of(open_batch(record)))
        rows, digest = _digest(online)
        yield Digest(events.partition, rows, digest, _digest(again)[1])


def _digest(rows: Iterable[Row]) -> tuple[int, str]:
    digest, count = sha256(), 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the last one is the number of rows
        digest.update(repr((row.offset, row.event_id, row.key, row.time)).encode() + row.vector)
    return count, digest.hexdigest()
