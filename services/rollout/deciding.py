"""The rollout's stage: the core's decisions become records where they still hold, and what is registered has its turn.

What holds is in `models`, which others write too: a person, and inference's guards. It is read to its end before
anything is written. A decision goes out in the transaction of the examples that it is made of, so it is made once.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from services.rollout.core import RolloutCore
from services.rollout.judging import Decision
from services.runtime.clock import Clock
from services.runtime.errors import Retry
from services.runtime.models import BATCH, Lineup, Moved, State, Weighed, decode_event
from services.runtime.records import Outgoing, Record
from services.runtime.stage import Batches, restore
from services.runtime.stream import Stream
from services.runtime.waiting import Wait

log = logging.getLogger(__name__)
ACTOR = "rollout"
URGENT = 3  # versions that alerts have asked for, compared at a time


class Models(Protocol):
    """The records of `models`, in order, each once."""

    def new(self) -> Sequence[Record]:
        """Return what has come."""

    def rest(self) -> Sequence[Record]:
        """Return what is new, up to where the topic ends now; Retry while that can't be had."""


class Deciding:
    """Decides for the one partition of `examples`; whoever has it not writes nothing."""

    stateful = True

    def __init__(self, stream: Stream, models: Models, clock: Clock, wait: Wait) -> None:
        self._stream, self._models, self._clock, self._wait = stream, models, clock, wait
        self._rule, self._topic = stream.pipeline.rollout, stream.topic("models")
        self._lineup = Lineup(stream.feature_set)
        self._cores: dict[int, RolloutCore] = {}
        self._weights: dict[int, float] = {}  # as they went out last
        self._due = clock.now()

    def open(self, partition: int, state: bytes | None) -> None:
        core = RolloutCore(self._stream)
        if state is not None:
            restore(core.restore, state)
        self._cores[partition] = core
        self._weights = {}

    def close(self, partition: int) -> None:
        self._cores.pop(partition, None)

    def full(self, partition: int) -> Mapping[str, str]:
        del partition
        return {}

    def snapshot(self, partition: int) -> bytes:
        return self._cores[partition].snapshot()

    def states(self) -> list[State]:
        """Return the state of each version that `models` tells of, as far as it was read."""
        return [candidate.state for candidate in list(self._lineup.candidates.values())]

    def fold(self, batches: Batches) -> list[Outgoing]:
        decisions = [decision for p, records in batches.items() for decision in self._cores[p].fold(records)]
        return self._decided(decisions) if decisions else []

    def _decided(self, decisions: Sequence[Decision]) -> list[Outgoing]:
        self._note(self._models.rest())
        ahead, outgoing = copy.deepcopy(self._lineup), list[Outgoing]()
        for decision in decisions:
            found = ahead.candidates.get(decision.version)
            if found is not None and found.state == decision.before:
                outgoing += self._written(self._moves(ahead, decision), ahead)
            else:
                state = found.state if found else "unknown"
                log.info("left undone, as it is %s by now: %s", state, decision)
        return outgoing

    def _moves(self, lineup: Lineup, decision: Decision) -> list[Moved]:
        version, state, evidence = decision.version, decision.state, decision.evidence
        if state == "retired":
            return lineup.withdraw(version, ACTOR, decision.reason, evidence)
        share = self._rule.canary if state == "canary" else 0.0
        return [Moved(BATCH, version, state, ACTOR, decision.reason, share, evidence)]

    def _written(self, moves: Sequence[Moved], ahead: Lineup) -> list[Outgoing]:
        """Return the records of these moves, and fold them into the lineup that is to be."""
        keys = ahead.keys(moves)
        for moved in moves:
            log.info("%s@%d to %s: %s", moved.model, moved.version, moved.state, moved.reason)
            ahead.fold(moved)
        values = map(msgspec.json.encode, moves)
        return [Outgoing(self._topic, value, key, 0) for key, value in zip(keys, values, strict=True)]

    def _note(self, records: Sequence[Record]) -> None:
        for record in records:
            self._lineup.fold(decode_event(record.value))

    # What is due beside the fold

    def extra(self) -> list[Outgoing]:
        if not self._cores or self._clock.now() < self._due:
            return []
        self._due = self._clock.now() + self._rule.weigh_every.seconds
        try:
            turns = self._turns()
        except Retry as error:
            self._wait.note(str(error))
            turns = []
        else:
            self._wait.over()
        return [*turns, *self._weighed()]

    def _turns(self) -> list[Outgoing]:
        """Give a registered version its turn as a shadow, once no other challenger has it, or has to give way."""
        self._note(self._models.new())
        if not turns(self._lineup):
            return []
        self._note(self._models.rest())
        return self._written(turns(self._lineup), copy.deepcopy(self._lineup))

    def _weighed(self) -> list[Outgoing]:
        weights = {number: weight for core in self._cores.values() for number, weight in core.weights().items()}
        if weights == self._weights:
            return []
        self._weights = weights
        evidence = {number: odds for core in self._cores.values() for number, odds in core.evidence().items()}
        value = msgspec.json.encode(Weighed(BATCH, weights, evidence))
        return [Outgoing(self._topic, value, b"weights", 0)]


def turns(lineup: Lineup) -> list[Moved]:
    """Return the records by which a registered version becomes a shadow, and those that it goes before retire.

    It is the newest, when no other is compared. But one that an alert has asked for goes before others, be they newer
    or compared already: they are of the world before the change, or of it for the most part. It is compared beside
    those of other alerts, up to `URGENT`.
    """
    waiting = lineup.of("registered")
    challengers = [number for number in lineup.of("shadow", "canary") if not lineup.candidates[number].reigned]
    urgent = [number for number in waiting if lineup.candidates[number].registered.alert is not None]
    way = [number for number in challengers if lineup.candidates[number].registered.alert is None]
    if not waiting or (challengers and not (urgent and len(challengers) - len(way) < URGENT)):
        return []
    chosen = (urgent or waiting)[-1]
    came = lineup.candidates[chosen].registered
    gone = f"gives way to {BATCH}@{chosen}, which is for alert {came.alert}"
    late = f"{BATCH}@{chosen} is newer, and came before its turn"
    beside = "beside those of other alerts" if len(challengers) > len(way) else "and no other challenger is compared"
    return [
        *(Moved(BATCH, number, "retired", ACTOR, gone) for number in way),
        *(Moved(BATCH, number, "retired", ACTOR, late) for number in waiting if number < chosen),
        Moved(BATCH, chosen, "shadow", ACTOR, f"registered by {came.by}, {beside}"),
    ]
