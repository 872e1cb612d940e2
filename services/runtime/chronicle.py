"""What `models` tells of the past: every decision on a version of the batch model, and who served at a time. Pure."""

import msgspec

from services.runtime.models import Lineup, Moved, Published, Registered, State, decode_event
from services.runtime.records import Record


class Step(msgspec.Struct, frozen=True):
    """A version came to another state. `time` is the broker's, in milliseconds since 1970.

    One that is registered has no state before. What was promoted over it makes a champion a shadow. `alert` is the id
    of the alert that the version was trained for, if it was.
    """

    time: int
    version: int
    before: State | None
    state: State
    actor: str
    reason: str
    share: float = 0.0
    evidence: dict[str, float] = {}
    alert: str | None = None


class Chronicle:
    """The fold of `models` that remembers. `online_since` is when the online version that is live was published."""

    def __init__(self, feature_set: str) -> None:
        self.lineup = Lineup(feature_set)
        self.steps: list[Step] = []
        self.online_since: int | None = None

    def fold(self, record: Record) -> None:
        event, known = decode_event(record.value), self.lineup.candidates
        champion = self.lineup.champion
        if isinstance(event, Published):
            self.online_since = record.timestamp
        if isinstance(event, Registered) and event.version not in known:
            reason = f"trained on {event.examples:,} examples"
            self.steps.append(
                Step(record.timestamp, event.version, None, "registered", event.by, reason, alert=event.alert)
            )
        if isinstance(event, Moved) and event.version in known:
            self._move(record.timestamp, event, champion)
        self.lineup.fold(event)
        self.steps = [step for step in self.steps if step.version in known]  # of this feature set

    def _move(self, time: int, moved: Moved, champion: int | None) -> None:
        before = self.lineup.candidates[moved.version].state
        if moved.state == "champion" and champion not in (None, moved.version):
            reason = f"{moved.model}@{moved.version} took its place"
            alert = self._alert(champion)
            self.steps.append(Step(time, champion, "champion", "shadow", moved.actor, reason, alert=alert))
        parts = moved.state, moved.actor, moved.reason, moved.share, moved.evidence, self._alert(moved.version)
        self.steps.append(Step(time, moved.version, before, *parts))

    def _alert(self, version: int | None) -> str | None:
        return None if version is None else self.lineup.candidates[version].registered.alert

    def since(self, version: int) -> Step:
        """Return the step by which a version came to the state that it has."""
        return next(step for step in reversed(self.steps) if step.version == version)
