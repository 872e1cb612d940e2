"""The lanes of the timeline: a bar for each alert, a mark for each step of a version, labels where there is room."""

from collections.abc import Sequence

from services.replay.drift.axes import Axis
from services.replay.drift.markup import Markup, join, tag
from services.replay.drift.report import Mark
from services.replay.drift.stories import Story
from services.replay.drift.summary import CHANGED, subject
from services.replay.drift.words import counted, moment
from services.runtime.models import State

LANE, LANES, LETTER = 26, 8, 6.3
ROW, ROWS = 16, 4
TOLD: tuple[State, ...] = ("champion", "retired", "canary", "shadow", "registered")  # what is labelled first
SIGNS = {
    "champion": "M-5 0L0 -5L5 0L0 5Z",
    "canary": "M-5 4L0 -5L5 4Z",
    "shadow": "M-4 -4H4V4H-4Z",
    "registered": "M-4 0A4 4 0 1 1 4 0A4 4 0 1 1 -4 0Z",
    "retired": "M-4 -4L4 4M-4 4L4 -4",
}


class Rows:
    """Rows in which spans of a line are laid so that none lies on another."""

    def __init__(self, most: int) -> None:
        self._rows: list[list[tuple[float, float]]] = []
        self._most = most

    def place(self, start: float, end: float) -> int | None:
        """Return the first row that has room, or None."""
        for at, row in enumerate(self._rows):
            if all(end < other[0] or start > other[1] for other in row):
                row.append((start, end))
                return at
        if len(self._rows) == self._most:
            return None
        self._rows.append([(start, end)])
        return len(self._rows) - 1

    @property
    def count(self) -> int:
        return len(self._rows)


def alert_lanes(stories: Sequence[Story], axis: Axis, top: float, right: float) -> tuple[Markup, float]:
    """Draw the alerts that there is room for, the gravest first; return them and how high they are."""
    rows, drawn = Rows(LANES), list[Markup | None]()
    for story in stories:
        start, end = axis.within(story.since), axis.within(axis.high if story.end is None else story.end)
        text = _name(story)
        wide = len(text) * LETTER
        left = min(start, right - wide)
        row = rows.place(left - 4, max(end, left + wide) + 8)
        if row is not None:
            drawn.append(_bar(story, text, (start, max(end, start + 3)), left, top + row * LANE))
    height = rows.count * LANE
    if len(drawn) < len(stories):
        more = f"and {counted(len(stories) - len(drawn), 'more alert')}, in the table below"
        drawn.append(tag("text", more, x=axis.start, y=top + height + 10, class_="note"))
        height += 16
    return join(*drawn), height


def _name(story: Story) -> str:
    alert = story.newest
    names = [explained.name for explained in alert.features] or [alert.subject]
    sign = "▲" if alert.severity == "critical" else "△"
    return f"{sign} {CHANGED[alert.kind]}: {', '.join(names[:3])}" + (f", {alert.slice}" if alert.slice else "")


def _bar(story: Story, text: str, span: tuple[float, float], left: float, y: float) -> Markup:
    start, end = span
    until = "stands" if story.end is None else f"resolved {moment(story.end)}"
    state = "standing" if story.stands else "over"
    said = tag("title", f"{story.id}: {subject(story.newest)}, since {moment(story.since)}, {until}")
    bar = tag("rect", x=start, y=y + 16, width=end - start, height=6, rx=3, class_="bar")
    name = tag("text", text, x=left, y=y + 11, class_="label")
    return tag("g", said, bar, name, class_=f"alert {story.newest.severity} {state}")


def hairlines(stories: Sequence[Story], axis: Axis, top: float, bottom: float) -> Markup:
    """Mark where each alert's change began and, paler, while any stood."""
    shades = [
        tag("rect", x=start, y=top, width=max(end - start, 1), height=bottom - top, class_="shade")
        for start, end in _stood(stories, axis)
    ]
    lines = [
        tag("line", x1=x, x2=x, y1=top, y2=bottom, class_=f"alert since {story.newest.severity}")
        for story in stories
        for x in (axis.within(story.since),)
    ]
    return join(*shades, *lines)


def _stood(stories: Sequence[Story], axis: Axis) -> list[list[float]]:
    """Return the stretches in which an alert stood, none of which lies on another."""
    spans = ((story.since, axis.high if story.end is None else story.end) for story in stories)
    merged = list[list[float]]()
    for start, end in sorted((axis.within(start), axis.within(end)) for start, end in spans):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


def version_marks(marks: Sequence[Mark], axis: Axis, top: float, right: float) -> tuple[Markup, float]:
    """Draw the steps of versions; where labels have no room the sign stands alone, with its title."""
    rows, drawn = Rows(ROWS), list[Markup]()
    for mark in sorted(marks, key=lambda mark: TOLD.index(mark.step.state)):
        x = axis.within(mark.time or 0)
        text = f"{mark.version} {mark.step.state}"
        wide = len(text) * LETTER + 16
        row = rows.place(x - 7, x + wide) if x + wide < right + 100 else rows.place(x - wide, x + 7)
        drawn.append(
            _sign(mark, text if row is not None else "", x, top + (row or 0) * ROW, flip=x + wide >= right + 100)
        )
    return join(*drawn), max(rows.count, 1) * ROW


def _sign(mark: Mark, text: str, x: float, y: float, *, flip: bool) -> Markup:
    said = f"{mark.version} {mark.step.state} at {moment(mark.time or 0)}, by {mark.step.actor}: {mark.step.reason}"
    sign = tag("path", d=SIGNS[mark.step.state], transform=f"translate({x:.1f} {y + 7:.1f})")
    anchor, beside = ("end", x - 9) if flip else ("start", x + 9)
    name = tag("text", text, x=beside, y=y + 11, class_="label", text_anchor=anchor) if text else None
    return tag("g", tag("title", said), sign, name, class_=f"version {mark.step.state}")
