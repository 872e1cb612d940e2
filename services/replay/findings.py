"""What a verification found: differences, the first of them whole and all of them counted, and late events."""

from collections import Counter

import msgspec

from services.runtime.dead_letters import place_name
from services.runtime.records import Position

SHOWN = 10  # differences, and late events, that a partition names


class Difference(msgspec.Struct, frozen=True):
    """One thing that differs. `event` and `record` are topic/partition/offset; no `record` where none was written."""

    kind: str
    field: str
    online: str
    replayed: str
    event: str
    event_id: str | None
    record: str | None

    def __str__(self) -> str:
        whose = f"{self.event_id} ({self.event})" if self.event_id else self.event
        where = f" in {self.record}" if self.record else ""
        return f"{self.kind}: {self.field} of {whose}{where}: online {self.online}, replayed {self.replayed}"


class Late(msgspec.Struct, frozen=True):
    """An event that came too late for the windows; `behind` the newest event before it by so many microseconds."""

    event: str
    event_id: str
    behind: int


class Findings:
    """What was found in one partition of `events`."""

    def __init__(self, events: Position) -> None:
        self.events = events
        self.counts: Counter[str] = Counter()
        self.differing: Counter[str] = Counter()  # by topic
        self.differences: list[Difference] = []  # the first of them, in the order of the log
        self.late: list[Late] = []  # the first of them
        self.furthest_behind = 0
        self.feature_set = ""  # that wrote `features`

    def differ(
        self,
        topic: str,
        offset: int,
        event_id: str | None,
        place: int | None,
        field: str,
        online: str,
        replayed: str,
    ) -> None:
        """Note a difference of the event at `offset`, in the record at `place` of the topic."""
        kind = topic.rpartition(".")[2]
        self.differing[kind] += 1
        if len(self.differences) < SHOWN:
            record = None if place is None else place_name(topic, self.events.partition, place)
            difference = Difference(kind, field, online, replayed, self._event(offset), event_id, record)
            self.differences.append(difference)

    def come_late(self, offset: int, event_id: str, behind: int) -> None:
        self.counts["late"] += 1
        self.furthest_behind = max(self.furthest_behind, behind)
        if len(self.late) < SHOWN:
            self.late.append(Late(self._event(offset), event_id, behind))

    def _event(self, offset: int) -> str:
        return place_name(self.events.topic, self.events.partition, offset)
