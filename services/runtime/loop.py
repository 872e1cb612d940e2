"""The transactional loop: read a batch, fold it, commit outputs and offsets together; on restart, fold muted.

A partition that comes to this process is *restored*: its newest snapshot that is not ahead of the committed offsets is
loaded, and the records between the two are folded again with their output thrown away, since it was committed once.
Only when every input of the partition has arrived at its committed offset does it go live. A transaction that could
not be committed restores everything that is assigned in the same way.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Executor

from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import Retry, Unusable
from services.runtime.health import COMMIT, ENDED, FOLD, READ, RESTORE, SNAPSHOT, STOP, Health
from services.runtime.records import Outgoing, Position, Record
from services.runtime.saving import Saver
from services.runtime.snapshots import Snapshot, Snapshots
from services.runtime.stage import Stage
from services.runtime.tracing import Tracing, Untraced
from services.runtime.transport import Sink, Source
from services.runtime.work import Work

log = logging.getLogger(__name__)
GATHERED_BYTES = 8 << 20


class Loop:
    """Drives one stage over the partitions that the source assigns to it.

    `topics` are co-partitioned: partition p of each of them belongs to the stage's partition p. `batch` bounds what is
    in memory and in a transaction; a slow stage therefore slows its reading, and nothing else grows. What a stage has
    no room for stays in the log, unread, until it has. What is there is folded at once, unless `gather_s` says for how
    many seconds more is gathered: for a stage that pays by the batch.
    """

    def __init__(
        self,
        topics: Sequence[str],
        stage: Stage,
        source: Source,
        sink: Sink,
        snapshots: Snapshots,
        *,
        batch: int = 2000,
        poll_s: float = 0.2,
        gather_s: float = 0.0,
        snapshot_every_s: float = 10.0,
        clock: Clock | None = None,
        writer: Executor | None = None,
        health: Health | None = None,
        work: Work | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._stage, self._source, self._sink, self._snapshots = stage, source, sink, snapshots
        self._topics, self._batch, self._poll_s, self._gather_s = list(topics), batch, poll_s, gather_s
        self._clock, self._tracing = clock or SystemClock(), tracing or Untraced()
        self._next: dict[Position, int] = {}  # the first offset not folded yet
        self._muted: dict[Position, int] = {}  # still restoring: the committed offset to fold up to, in silence
        self._full: set[Position] = set()  # not read on, as the stage has no room
        self._left: set[Position] = set()  # what went during the poll at hand; it may be back already
        self._ahead = False  # cores may have folded what was not committed: not to be snapshot, only to be restored
        self._owed = False  # a batch was read and is not committed yet
        self._joined = False  # the group gave this member its share, be it empty
        self._health = health or Health("", self._clock)
        self._work = work or Work(self._health.metrics)
        metrics = self._health.metrics
        self._saver = Saver(snapshots, stage, self._offsets, self._clock, snapshot_every_s, writer, metrics)
        self._wait, self._room = self._health.wait(), self._health.wait()
        self._stopping = False
        self.folded = 0  # records folded and committed

    def stop(self) -> None:
        """End `run` after the batch at hand; safe to call from a signal handler."""
        self._stopping = True

    def run(self, count: int | None = None, timeout: float | None = None) -> int:
        """Run until stopped, or until `count` records were committed or `timeout` seconds have passed."""
        self._source.subscribe(self._topics, self)
        end = None if timeout is None else self._clock.now() + timeout
        while not self._stopping and (count is None or self.folded < count):
            began = self._clock.now()
            if end is not None and began >= end:
                break
            try:
                if self._ahead:
                    self._restore(list(self._next))
                self._step()
                if not self._owed:
                    self._wait.over()
            except Retry as error:
                self._ahead = True
                self._work.failed(error)
                self._wait.pause(str(error), began)
        return self.folded

    def close(self) -> None:
        """Leave: snapshot what moved, unless an error came between a fold and its commit, and leave the group."""
        self._save({position.partition for position in self._next})
        self._health.enter(STOP)
        self._source.close()  # what is revoked by that may be saved once more
        self._saver.close()
        self._sink.close()
        self._tracing.close()
        self._health.enter(ENDED)

    def _step(self) -> None:
        self._left.clear()
        self._hold_back()
        self._health.enter(READ)
        polled = self._source.poll(self._batch, self._poll_s)
        if polled and self._gather_s:
            polled = self._gather(polled)
        self._health.enter(FOLD)
        self._ahead = True
        records = self._live(self._current(polled))
        self._owed = self._owed or bool(records)
        with self._tracing.batch(records) as batch:
            outgoing = self._fold(records) if records else []
            if not self._muted:
                outgoing += self._stage.extra()
            if records or outgoing:
                self._commit(records, batch.stamped(outgoing))
        self._ahead = False
        self._saver.save_due()

    def _fold(self, records: Sequence[Record]) -> list[Outgoing]:
        with self._work.process:
            return self._stage.fold(_by_partition(records))

    def _gather(self, polled: list[Record]) -> list[Record]:
        """Read on for a while, as long as the batch has room; what has to be restored meanwhile ends it."""
        end = self._clock.now() + self._gather_s
        size = sum(len(record.value) for record in polled)
        while self._clock.now() < end and not (self._stopping or self._muted):
            if len(polled) >= self._batch or size >= GATHERED_BYTES:
                break
            self._health.enter(READ)
            more = self._source.poll(self._batch - len(polled), self._poll_s)
            size += sum(len(record.value) for record in more)
            polled += more
        return polled

    def _current(self, polled: Sequence[Record]) -> Sequence[Record]:
        """Leave out what was read of partitions that went in the same poll; one that is back is read again."""
        stale = {record.position for record in polled} & self._left
        if not stale:
            return polled
        self._source.seek({position: self._next[position] for position in stale if position in self._next})
        return [record for record in polled if record.position not in stale]

    def _commit(self, records: Sequence[Record], outgoing: Sequence[Outgoing]) -> None:
        last = _last(records)
        offsets = {position: record.offset + 1 for position, record in last.items()}
        self._health.enter(COMMIT)
        with self._work.commit:
            self._sink.commit(outgoing, offsets)
        self._next |= offsets
        for position, record in last.items():
            self._saver.moved(position.partition)
            self._health.unread.read(position, record.timestamp)
        self._work.committed(records, outgoing)
        self.folded += len(records)
        self._health.folded = self.folded
        self._owed = False

    def _hold_back(self) -> None:
        """Read on only what the stage has room for; say what it lacks room for."""
        full = {
            Position(topic, partition): why
            for partition in self._live_partitions()
            for topic, why in self._stage.full(partition).items()
        }
        if full.keys() != self._full:
            self._read_all_but(set(full))
        if full:
            self._room.note("; ".join(f"{_names([position])}: {why}" for position, why in sorted(full.items())))
        else:
            self._room.over()

    def _read_all_but(self, full: set[Position]) -> None:
        room = self._full - full
        self._source.seek({position: self._next[position] for position in room})
        self._source.resume(list(room))
        self._source.pause(list(full - self._full))
        self._full = full

    def _live_partitions(self) -> set[int]:
        return {p.partition for p in self._next} - {p.partition for p in self._muted}

    # Partitions come and go

    def assigned(self, positions: Sequence[Position]) -> None:
        log.info("assigned %s", _names(positions))
        self._work.rebalanced()
        self._next |= dict.fromkeys(positions, 0)  # known, should restoring them have to be tried again
        self._restore(positions)
        self._joined = True
        self._tell()  # there may be none

    def revoked(self, positions: Sequence[Position]) -> None:
        log.info("revoked %s", _names(positions))
        self._save({position.partition for position in positions})
        self.lost(positions)

    def lost(self, positions: Sequence[Position]) -> None:
        self._left |= set(positions)
        for position in positions:
            self._next.pop(position, None)
            self._muted.pop(position, None)
            self._full.discard(position)
            self._saver.forget(position.partition)
            self._stage.close(position.partition)
        self._owed = False  # whoever has it next reads it again
        self._joined = bool(self._next)
        self._tell()

    def _tell(self) -> None:
        """Tell the health which partitions are here, and how many records of each are still folded in silence."""
        left: dict[int, int] = {}
        for position, offset in self._muted.items():
            left[position.partition] = left.get(position.partition, 0) + offset - self._next[position]
        partitions = tuple(sorted({position.partition for position in self._next}))
        self._health.own(partitions if self._joined else None, left)

    def _save(self, partitions: set[int]) -> None:
        if not self._ahead:
            self._health.enter(SNAPSHOT)
            self._saver.save(partitions)

    def _offsets(self, partition: int) -> dict[str, int]:
        return {p.topic: offset for p, offset in self._next.items() if p.partition == partition}

    # Restoring: a snapshot and a muted fold

    def _restore(self, positions: Sequence[Position]) -> None:
        if not positions:
            return
        self._health.enter(RESTORE)
        self._sink.settle()
        committed = self._source.committed(positions)
        for partition in sorted({position.partition for position in positions}):
            self._restore_partition(
                {p: offset for p, offset in committed.items() if p.partition == partition}, partition
            )
        self._joined = True
        self._tell()

    def _restore_partition(self, committed: dict[Position, int], partition: int) -> None:
        snapshot = self._open(partition, {p.topic: offset for p, offset in committed.items()})
        seen = snapshot.header.offsets if snapshot else {}
        start = {p: seen.get(p.topic, 0) if self._stage.stateful else offset for p, offset in committed.items()}
        self._next |= start
        for position, offset in committed.items():
            self._muted.pop(position, None)
            if start[position] < offset:
                self._muted[position] = offset
        self._source.seek(start)
        self._source.resume(list(start))
        self._full -= start.keys()

    def _open(self, partition: int, committed: dict[str, int]) -> Snapshot | None:
        """Open it with the newest snapshot from which the stage can go on, or with none; return that."""
        for snapshot in self._snapshots.usable(partition, committed):
            try:
                self._stage.open(partition, snapshot.state)
            except Unusable as reason:
                self._pass_over(f"that of {snapshot.header.offsets}, {reason}")
            else:
                self._pass_over()
                return snapshot
        self._pass_over()
        self._stage.open(partition, None)
        return None

    def _pass_over(self, *reasons: str) -> None:
        for reason in (*self._snapshots.take_refused(), *reasons):
            log.warning("snapshot passed over: %s", reason)

    def _live(self, records: Sequence[Record]) -> list[Record]:
        """Fold in silence what was committed before, and return the records of partitions that are live."""
        if not self._muted:
            return list(records)
        restoring = {position.partition for position in self._muted}
        live = [record for record in records if record.partition not in restoring]
        for partition in sorted(restoring & {record.partition for record in records}):
            self._fold_muted(partition, [record for record in records if record.partition == partition])
        return live

    def _fold_muted(self, partition: int, records: Sequence[Record]) -> None:
        old = [record for record in records if record.offset < self._muted.get(record.position, 0)]
        if old:
            self._stage.fold({partition: old})
        for record in old:
            self._next[record.position] = record.offset + 1
            self._saver.moved(partition)
        arrived = [p for p, offset in self._muted.items() if p.partition == partition and self._next[p] >= offset]
        for position in arrived:
            del self._muted[position]
        self._tell()
        self._hold_or_release(partition, arrived)

    def _hold_or_release(self, partition: int, arrived: Sequence[Position]) -> None:
        """Let inputs that have arrived wait, at their committed offset, for the others of their partition."""
        mine = [position for position in self._next if position.partition == partition]
        self._source.seek({position: self._next[position] for position in mine if position not in self._muted})
        if any(position in self._muted for position in mine):
            self._source.pause([position for position in mine if position not in self._muted])
        elif arrived:
            self._source.resume(mine)
            log.info("restored partition %d up to %s", partition, self._offsets(partition))


def _by_partition(records: Sequence[Record]) -> dict[int, list[Record]]:
    batches: dict[int, list[Record]] = {}
    for record in records:
        batches.setdefault(record.partition, []).append(record)
    return batches


def _last(records: Sequence[Record]) -> dict[Position, Record]:
    """Return the last record of each position. Tuples are hashed by C, so it is cheap for many records."""
    found = {(record.topic, record.partition): record for record in records}
    return {Position(*place): record for place, record in found.items()}


def _names(positions: Sequence[Position]) -> str:
    return ", ".join(f"{position.topic}[{position.partition}]" for position in sorted(positions)) or "nothing"
