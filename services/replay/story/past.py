"""Why a feature has its value: the events that it was made of, found by folding the partition's events once more. Pure.

What is found is what the engine counted, and that is proven each time: given these events alone, it must say the same
number, bit for bit.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.features import engine
from services.replay.story.memories import Made, Memory, Seen, memory
from services.runtime.grammar import Operator
from services.runtime.stream import Stream

Values: TypeAlias = tuple[Any, ...]  # of the fields of a grouping, or their names


class Past:
    """The fold of a partition's accepted events, in order, for the sake of one that is to come, whose fields are `row`.

    `forgotten` is, by grouping, the offset at which the engine forgot what it knew of the event's own group.
    """

    def __init__(self, stream: Stream, row: Any) -> None:  # noqa: ANN401 - a record of the stream's own type
        self._rule, self._seen = stream.pipeline.stream, 0
        self._newest: int | None = None
        self._operators: dict[str, tuple[Values, Operator]] = {}
        self._memories: dict[str, Memory] = {}
        self._groups: dict[Values, dict[Values, int]] = {}  # by grouping: the last event of each group, from 0 on
        for name, operator in stream.pipeline.features.items():
            if (fresh := memory(operator, self._rule.lateness.us)) is not None:
                self._memories[name] = fresh
                self._operators[name] = grouping(operator, stream.key), operator
                self._groups[grouping(operator, stream.key)] = {}
        self._mine = {by: _values(row, by) for by in self._groups}
        self.forgotten: dict[Values, int] = {}

    def fold(self, events: Iterable[Seen]) -> None:
        for event in events:
            joins = self._newest is None or event.time >= self._newest - self._rule.lateness.us
            self._newest = event.time if self._newest is None else max(self._newest, event.time)
            mine = self._note(event)
            for name in self._memories if joins and mine else ():
                if self._operators[name][0] in mine:
                    self._memories[name].add(event)
            self._seen += 1
            if self._seen % engine.LOOK_EVERY == 0 and sum(map(len, self._groups.values())) > self._rule.groups:
                self._forget(event.offset)

    def _note(self, event: Seen) -> set[Values]:
        """Note which event was a group's last; return the groupings by which it is of the group that is asked for."""
        mine = set()
        for by, groups in self._groups.items():
            values = _values(event.row, by)
            groups[values] = self._seen
            if values == self._mine[by]:
                mine.add(by)
        return mine

    def _forget(self, offset: int) -> None:
        """Forget the groups that have gone longest without an event, as `engine.Engine` does."""
        last = np.array([at for groups in self._groups.values() for at in groups.values()])
        too_many = len(last) - self._rule.groups // 2 - 1
        before = int(np.partition(last, too_many)[too_many]) + 1
        for by, groups in self._groups.items():
            if groups.get(self._mine[by], before) < before:
                self._begin_anew(by, offset)
            self._groups[by] = {values: at for values, at in groups.items() if at >= before}

    def _begin_anew(self, grouping: Values, offset: int) -> None:
        self.forgotten[grouping] = offset
        for name, (by, operator) in self._operators.items():
            if by == grouping and (fresh := memory(operator, self._rule.lateness.us)) is not None:
                self._memories[name] = fresh

    def made(self, time: int) -> dict[str, Made]:
        """Return what each feature that knows a past is made of, for an event of this time (µs since 1970)."""
        return {name: found.made(time) for name, found in self._memories.items()}


def grouping(operator: Operator, key: str) -> Values:
    """Return the fields by which an operator groups events."""
    return tuple(getattr(operator, "by", None) or (key,))


def said_again(stream: Stream, name: str, given: Sequence[Seen], event: Seen) -> NDArray[np.float32]:
    """Return a feature's columns as the engine says them of an event, when all that it has seen is what is given."""
    features = {name: stream.pipeline.features[name]}
    alone = msgspec.structs.replace(stream, pipeline=msgspec.structs.replace(stream.pipeline, features=features))
    events = [*given, event]

    def column(field: str) -> list[Any]:
        return [getattr(one.row, field) for one in events]

    vectors, _ = engine.Engine(alone).fold(column, np.array([one.time for one in events], np.int64))
    said: NDArray[np.float32] = vectors[-1]
    return said


def _values(row: Any, by: Values) -> Values:  # noqa: ANN401 - a record of the stream's own type
    return tuple(getattr(row, field) for field in by)
