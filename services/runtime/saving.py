"""When snapshots are taken, and by whom written: between two batches, and beside those that follow.

Taking a state holds up the loop, so it is one partition at a time, with a rest after each that keeps the whole below a
fifth of the loop's time. Digest, disk and network are the business of a thread. A store that fails costs no record:
the older snapshots stand, and it is tried again an interval later.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from time import perf_counter

from services.runtime.clock import Clock
from services.runtime.errors import Retry
from services.runtime.metrics import Histogram, Metrics
from services.runtime.snapshots import Snapshots
from services.runtime.stage import Stage
from services.runtime.work import saving

log = logging.getLogger(__name__)
REST = 4  # times as long as taking a snapshot took


class Saver:
    """Saves the partitions of one loop. `offsets` says how far a partition's state has come; nothing if it has none."""

    def __init__(
        self,
        snapshots: Snapshots,
        stage: Stage,
        offsets: Callable[[int], dict[str, int]],
        clock: Clock,
        every_s: float,
        writer: Executor | None,
        metrics: Metrics | None = None,
    ) -> None:
        self._snapshots, self._stage, self._offsets, self._clock = snapshots, stage, offsets, clock
        self._every_s = every_s
        self._writer = writer or ThreadPoolExecutor(1, "snapshots")
        self._due: dict[int, float] = {}  # partitions that moved since their last snapshot: when the next is due
        self._unsaved: dict[int, float] = {}  # since when a partition has folded what no snapshot holds
        self._writing: tuple[int, Future[None], float] | None = None  # the last as in `_unsaved`
        self._took: Mapping[bool, Histogram] = saving(metrics or Metrics(), self.age)
        self._rested = 0.0  # when the next may be taken

    def moved(self, partition: int) -> None:
        if self._stage.stateful:
            now = self._clock.now()
            self._due.setdefault(partition, now + self._every_s)
            self._unsaved.setdefault(partition, now)

    def forget(self, partition: int) -> None:
        self._due.pop(partition, None)
        self._unsaved.pop(partition, None)

    def age(self) -> float:
        """Return for how long there has been a fold that no snapshot holds; may be asked on any thread."""
        since = list(self._unsaved.values())
        if (writing := self._writing) is not None and not (writing[1].done() and writing[1].exception() is None):
            since.append(writing[2])
        return self._clock.now() - min(since) if since else 0.0

    def save_due(self) -> None:
        """Take the snapshot that has been due longest, unless one is being written or the loop needs its rest."""
        now = self._clock.now()
        due = [partition for partition, at in self._due.items() if at <= now]
        if due and now >= self._rested and (self._writing is None or self._writing[1].done()):
            self.settle()
            self._take(min(due, key=self._due.__getitem__))
            self._rested = now + (1 + REST) * (self._clock.now() - now)

    def save(self, partitions: Collection[int]) -> None:
        """Write what moved, now. If the store fails the rest is left: who comes next folds a little more."""
        written = self.settle()
        for partition in sorted(self._due.keys() & set(partitions)):
            if written:
                self._take(partition)
                written = self.settle()

    def settle(self) -> bool:
        """Wait for the snapshot that is being written, and say whether that went well; if not it is due again."""
        if self._writing is None:
            return True
        (partition, writing, since), self._writing = self._writing, None
        try:
            writing.result()
        except Retry as error:
            log.warning("no snapshot of partition %d, nothing is lost, older ones stand: %s", partition, error)
            if self._offsets(partition):
                self.moved(partition)
                self._unsaved[partition] = since
            return False
        return True

    def close(self) -> None:
        self.settle()
        self._writer.shutdown()

    def _take(self, partition: int) -> None:
        del self._due[partition]
        since, began = self._unsaved.pop(partition), perf_counter()
        state = self._stage.snapshot(partition)
        if state is not None:
            save = partial(self._snapshots.write, partition, self._offsets(partition))
            job = self._writer.submit(state, save) if callable(state) else self._writer.submit(save, state)
            self._writing = partition, job, since
            job.add_done_callback(lambda done: self._took[done.exception() is None].observe(perf_counter() - began))
