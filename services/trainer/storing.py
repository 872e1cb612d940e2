"""The trainer's stage: `examples` folded into the table. The fold's state is the table, which no snapshot repeats.

A snapshot says only how far the table had come. A restart folds on from there, and what is in the table already adds
nothing to it; where the table is a new one no snapshot fits, and it is filled from the beginning of the log.
"""

import logging
from collections.abc import Mapping

from services.runtime.errors import Retry, Stop
from services.runtime.health import Step
from services.runtime.records import Outgoing
from services.runtime.stage import Batches
from services.runtime.waiting import Wait
from services.trainer.store import ExampleStore

log = logging.getLogger(__name__)
STORE = Step("the store of examples")
FORMAT = 1  # of the state: one of another is folded again


def opened(store: ExampleStore, wait: Wait) -> str:
    """Wait until the store is there, and return the identity of its table."""
    while True:
        try:
            identity = store.identity
        except Retry as error:
            wait.pause(str(error))
        else:
            wait.over()
            return identity


class Storing:
    """One batch is one Delta commit. The table is tidied after about every `tidy_every` versions of it."""

    stateful = True

    def __init__(self, store: ExampleStore, tidy_every: int) -> None:
        self._store, self._tidy_every = store, tidy_every
        self._positions: dict[int, int] = {}  # up to which offset the table has each partition, at least

    def open(self, partition: int, state: bytes | None) -> None:
        """Stop if the table lacks what it had when the snapshot was taken."""
        position = self._store.position(partition)
        if state is not None and position < int(state):
            raise Stop(
                f"{self._store.place} has examples up to offset {position}, and had them up to {int(state)}. Put back"
                " the newer table, or move this one away and start again: a new one is filled from the log"
            )
        self._positions[partition] = position

    def close(self, partition: int) -> None:
        self._positions.pop(partition, None)

    def fold(self, batches: Batches) -> list[Outgoing]:
        before = self._store.version()
        for partition, records in batches.items():
            self._store.append(partition, records)
            self._positions[partition] = max(self._positions[partition], records[-1].offset + 1)
        if before // self._tidy_every != self._store.version() // self._tidy_every:
            self._tidy()
        return []

    def _tidy(self) -> None:
        try:
            self._store.tidy()
        except Retry as error:
            log.warning("table not compacted, nothing is lost, it is tried again later: %s", error)

    def extra(self) -> list[Outgoing]:
        return []

    def full(self, partition: int) -> Mapping[str, str]:
        del partition
        return {}

    def snapshot(self, partition: int) -> bytes:
        return str(self._positions[partition]).encode()
