"""Which of rollout's decisions had the event in their evidence: its own fold of `examples`, once more.

The evidence on a version is of the rows that it and its rival both answered, since that comparison began. It counts
them, and they come in the order of the log, so a row is in it if no more than that many came since.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa

from services.replay.story.facts import Decided
from services.rollout.core import CoreState, RolloutCore
from services.rollout.judging import Decision
from services.rollout.reading import Message, Reader
from services.rollout.versions import VersionState
from services.runtime.models import BATCH, Moved, decode_event
from services.runtime.records import Record
from services.runtime.schemas import labelled
from services.runtime.stream import Stream


class Decisions:
    """The fold of `examples` for one event, at `offset` in its partition of `events`."""

    def __init__(self, stream: Stream, partition: int, offset: int) -> None:
        self._core, self._reader = RolloutCore(stream), Reader(stream)
        self._partition, self._offset = partition, offset
        self._since: dict[tuple[int, int | None], int] = {}  # by version and rival: rows since, its own included
        self._rivals: dict[int, int | None] = {}
        self.found: list[tuple[Decision, int | None]] = []

    def fold(self, record: Record, batch: pa.RecordBatch) -> None:
        place = _row(batch, self._partition, self._offset)
        if place is not None or self._since:
            message = self._reader.read(batch)
            self._count(message, place)
        for decision in self._core.fold([record]):
            version = self._version(decision.version)
            if version.comparison is None or (version.reigned and version.state != "champion"):
                continue  # one that goes since another has settled, whose evidence it is
            rival = version.comparison.rival
            since = self._since.get((decision.version, rival))
            if since is not None and since <= decision.evidence["examples"]:
                self.found.append((decision, rival))

    def _count(self, message: Message, place: int | None) -> None:
        for version, said in message.said.items():
            for rival in [None, *message.said]:
                other = message.online if rival is None else message.said[rival].mixed
                both = ~(np.isnan(said.mixed) | np.isnan(other))
                if (version, rival) in self._since:
                    self._since[version, rival] += int(both.sum())
                elif place is not None and both[place]:
                    self._since[version, rival] = int(both[place:].sum())

    def _version(self, number: int) -> VersionState:
        return msgspec.msgpack.decode(self._core.snapshot(), type=CoreState).versions[number]

    def written(self, models: Sequence[Record]) -> list[Decided]:
        """Return those that came to be a record of `models`, as a decision that no longer held did not."""
        moves = [(record, said) for record in models if isinstance(said := decode_event(record.value), Moved)]
        return [
            Decided(
                f"{BATCH}@{decision.version}",
                decision.state,
                decision.reason,
                record.offset,
                record.timestamp,
                int(decision.evidence["examples"]),
                "online alone" if rival is None else f"{BATCH}@{rival}",
            )
            for decision, rival in self.found
            for record, said in moves
            if (said.version, said.state, said.reason) == (decision.version, decision.state, decision.reason)
        ]


def _row(batch: pa.RecordBatch, partition: int, offset: int) -> int | None:
    """Return which of the rows that count, those with a first label, is the event's; None if none is."""
    kept = labelled(batch.filter(batch.column("retracts").is_null()))
    mine = (np.asarray(kept.column("offset")) == offset) & (np.asarray(kept.column("partition")) == partition)
    return int(np.flatnonzero(mine)[0]) if mine.any() else None
