"""What follows from the log's numbers: which alerts the span has, when versions changed, what was lost meanwhile."""

from typing import NamedTuple

from services.replay.drift.curves import SERVED, Curves
from services.replay.drift.stories import Stories, Story, ranked
from services.replay.verify import Span
from services.runtime.chronicle import Chronicle, Step
from services.runtime.commands import Orders
from services.runtime.models import BATCH

LATELY = 40  # "now" is the newest 1/40 of the time


class Mark(NamedTuple):
    """A version's step, and the event time that had been reached when it was written (µs); None: before all events."""

    time: int | None
    step: Step

    @property
    def version(self) -> str:
        return f"{BATCH}@{self.step.version}"


class Part(NamedTuple):
    """Labelled events of a stretch of time, and the log loss that was served for them."""

    labelled: int
    loss: float | None


class Around(NamedTuple):
    """Before an alert's change for as long as it stood, while it stood, and after; to the bucket."""

    before: Part
    during: Part
    after: Part


class Report:
    """`stories` are the alerts that touch the span, ranked; None where nobody watches this log."""

    def __init__(
        self,
        stream: str,
        span: Span,
        now: int,
        stories: Stories | None,
        chronicle: Chronicle,
        orders: Orders,
        curves: Curves,
    ) -> None:
        self.stream, self.now, self.orders, self.curves = stream, now, orders, curves
        self.watched, self._span = stories is not None, span
        self.stories = ranked(story for story in stories.all() if self._touches(story)) if stories else []
        self.marks = [Mark(curves.event_time(step.time * 1000), step) for step in chronicle.steps]
        self.lineup = chronicle.lineup

    def _touches(self, story: Story) -> bool:
        end = story.end
        return story.since < self._span.end and (end is None or end >= self._span.start)

    @property
    def standing(self) -> list[Story]:
        return [story for story in self.stories if story.stands]

    @property
    def empty(self) -> bool:
        return self.curves.first > self.curves.last

    @property
    def start(self) -> int:
        """When the first event happened; without events where the alerts begin."""
        if not self.empty:
            return self.curves.first
        return min((story.since for story in self.stories), default=0)

    @property
    def end(self) -> int:
        if not self.empty:
            return self.curves.last + 1
        return max((story.newest.at.time for story in self.stories), default=self.start) + 1

    @property
    def versions(self) -> list[Mark]:
        """The steps that were taken while events of the span flowed; not that a successor made a champion a shadow."""
        within = [mark for mark in self.marks if mark.time is not None and self.start <= mark.time <= self.end]
        return [mark for mark in within if (mark.step.before, mark.step.state) != ("champion", "shadow")]

    def around(self, story: Story) -> Around:
        end = self.end if story.end is None else story.end
        stood = max(end - story.since, self.curves.width)
        cuts = (story.since - stood, story.since, end, end + stood)
        return Around(*(Part(*self.curves.total(SERVED, *cuts[at : at + 2])) for at in range(3)))

    def lately(self) -> Part:
        """Return the same for the newest part of the span: what is served now."""
        return Part(
            *self.curves.total(SERVED, self.end - max((self.end - self.start) // LATELY, 3 * self.curves.width))
        )

    def followed(self, story: Story) -> list[Mark]:
        """Return the steps of versions that were registered or moved for an alert: they name it."""
        ours = {mark.step.version for mark in self.marks if story.id in f"{mark.step.actor} {mark.step.reason}"}
        return [mark for mark in self.marks if mark.step.version in ours]

    def labelled(self) -> tuple[int, int]:
        """Return how many events there were, and how many have a label."""
        return self.curves.total("scored")[0], self.curves.total("labelled")[0]
