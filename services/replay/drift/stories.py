"""The fold of `alerts` that remembers how each went: raised, grown, graver, resolved."""

from collections.abc import Iterable

import msgspec

from services.runtime.alerts import Alert, Severity, decode_alert
from services.runtime.records import Record

GRAVEST: dict[Severity, int] = {"critical": 0, "warning": 1}


class Turn(msgspec.Struct, frozen=True):
    """One record of an alert, without what explains it. `wall` is the broker's clock, `time` the event's; µs."""

    wall: int
    time: int
    event: str
    severity: Severity
    statistic: str
    strength: float
    reason: str
    offset: int


class Story:
    """An alert: its newest record, and what it came through. A record that is read twice counts once."""

    def __init__(self, alert: Alert) -> None:
        self.newest = alert
        self._turns: dict[int, Turn] = {}

    def fold(self, alert: Alert, wall: int) -> None:
        parts = alert.event, alert.severity, alert.statistic, alert.strength, alert.reason, alert.at.offset
        self._turns.setdefault(alert.number, Turn(wall, alert.at.time, *parts))
        if alert.number > self.newest.number:
            self.newest = alert

    @property
    def turns(self) -> list[Turn]:
        return [self._turns[number] for number in sorted(self._turns)]

    @property
    def id(self) -> str:
        return self.newest.id

    @property
    def since(self) -> int:
        return self.newest.since.time

    @property
    def stands(self) -> bool:
        return self.newest.event != "resolved"

    @property
    def end(self) -> int | None:
        """The event time at which it was resolved."""
        return None if self.stands else self.newest.at.time

    @property
    def strongest(self) -> float:
        return max(turn.strength for turn in self._turns.values())

    @property
    def rank(self) -> tuple[bool, int, int]:
        """First what stands, then what is grave, then what is new."""
        return not self.stands, GRAVEST[self.newest.severity], -self.since


class Stories:
    """All alerts of a stream, by id, in the order in which they were raised."""

    def __init__(self) -> None:
        self._of: dict[str, Story] = {}

    def fold(self, record: Record) -> None:
        alert = decode_alert(record.value)
        self._of.setdefault(alert.id, Story(alert)).fold(alert, record.timestamp * 1000)

    def all(self) -> list[Story]:
        return list(self._of.values())

    def find(self, text: str) -> list[Story]:
        """Return the alert of this id, or else all whose ids begin so."""
        if text in self._of:
            return [self._of[text]]
        return [story for name, story in self._of.items() if name.startswith(text)]


def ranked(stories: Iterable[Story]) -> list[Story]:
    return sorted(stories, key=lambda story: story.rank)
