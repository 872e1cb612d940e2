"""The panels of the timeline under its lanes: losses as lines with their names at their ends, volume, labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.replay.drift.axes import Axis, ticks
from services.replay.drift.buckets import Floats, Ints
from services.replay.drift.curves import Curves, ratio
from services.replay.drift.markup import Markup, join, tag

SMOOTHED = 40  # a line is the mean of the last 1/40 of the time
TORN = 6  # a line is torn where so many buckets are missing
APART = 14  # from one name to the next
VERSIONS = 5  # drawn: those that answered most


class Line(NamedTuple):
    """A line, with the class that gives it its colour and dashes; NaN where there is nothing."""

    name: str
    values: Floats
    class_: str


class Panel(NamedTuple):
    """Where a panel stands, what its times are (µs, the middle of each bucket), and how wide a bucket is."""

    x: Axis
    top: float
    height: float
    times: Ints
    width: int

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def y(self, low: float, high: float) -> Axis:
        return Axis(low, high if high > low else low + 1, self.bottom, self.top)


def loss_lines(curves: Curves) -> list[Line]:
    """Return a line for each model: those of the batch model that answered most, oldest first, and what was served."""
    models = curves.models
    versions = sorted(models[2:], key=lambda name: -curves.total(name)[0])[:VERSIONS]
    kept = [name for name in models[1:2] + models[2:] if name in (*models[1:2], *versions)]
    lines = [Line(name, smoothed(curves, name), f"m{at}") for at, name in enumerate(kept)]
    return [*lines, *(Line(name, smoothed(curves, name), "served") for name in models[:1])]


def smoothed(curves: Curves, name: str) -> Floats:
    """Return the mean loss over the buckets of the last while, none of them later."""
    counts, sums = curves.sums(name).T
    while_ = max(len(counts) // SMOOTHED, 1)
    n, total = (np.convolve(part, np.ones(while_))[: len(counts)] for part in (counts, sums))
    return np.where(counts > 0, ratio(total, n), np.nan)


def losses(panel: Panel, lines: Sequence[Line], raw: Floats) -> Markup:
    """Draw them, and behind them what was served bucket by bucket."""
    known = np.concatenate([line.values[~np.isnan(line.values)] for line in lines] or [np.zeros(0)])
    if not len(known):
        return tag("text", "no labelled events yet", x=panel.x.start, y=panel.top + 20, class_="note")
    low, high = float(known.min()), float(known.max())
    room = (high - low) * 0.15 or 0.1
    y = panel.y(max(low - room, 0), high + room)
    return join(
        scale(panel, y),
        tag("path", d=path(panel, raw, y), class_="line raw"),
        *(
            tag("path", tag("title", line.name), d=path(panel, line.values, y), class_=f"line {line.class_}")
            for line in lines
        ),
        *_names(lines, panel, y),
    )


def _names(lines: Sequence[Line], panel: Panel, y: Axis) -> list[Markup]:
    """Write each name at its line's end, moved down where it would stand on another."""
    ends = [
        (y(float(found[-1])), line, float(found[-1]))
        for line in lines
        if len(found := line.values[~np.isnan(line.values)])
    ]
    drawn, last = list[Markup](), -np.inf
    for place, line, value in sorted(ends, key=lambda end: end[0]):
        last = max(place, last + APART)
        text = f"{line.name} {value:.3f}"
        drawn.append(tag("text", text, x=panel.x.end + 8, y=last + 4, class_=f"label {line.class_}"))
    return drawn


def volume(panel: Panel, counts: Floats) -> Markup:
    y = panel.y(0, float(counts.max(initial=0)))
    half = panel.width / 2
    steps = [
        f"M{panel.x.within(time - half):.1f} {y(0):.1f}V{y(count):.1f}H{panel.x.within(time + half):.1f}V{y(0):.1f}Z"
        for time, count in zip(panel.times.tolist(), counts.tolist(), strict=True)
    ]
    return join(scale(panel, y, 2), tag("path", d="".join(steps), class_="volume"))


def one_line(panel: Panel, values: Floats, high: float | None = None) -> Markup:
    known = values[~np.isnan(values)]
    y = panel.y(0, high or float(known.max(initial=0)) * 1.1)
    return join(scale(panel, y, 2), tag("path", d=path(panel, values, y), class_="line plain"))


def scale(panel: Panel, y: Axis, most: int = 4) -> Markup:
    """Draw the lines of round numbers, and write the numbers left of them."""
    places = ticks(y.low, y.high, most)
    lines = [tag("line", x1=panel.x.start, x2=panel.x.end, y1=y(at), y2=y(at), class_="grid") for at in places]
    words = [
        tag("text", f"{at:,g}", x=panel.x.start - 8, y=y(at) + 4, class_="note", text_anchor="end") for at in places
    ]
    return join(*lines, *words)


def path(panel: Panel, values: Floats, y: Axis) -> str:
    """Return a line's path, torn where nothing is known for long; a point alone is a short dash."""
    parts, last = list[str](), -np.inf
    for time, value in zip(panel.times.tolist(), values.tolist(), strict=True):
        if np.isnan(value):
            continue
        move = "M" if time - last > TORN * panel.width else "L"
        parts.append(f"{move}{panel.x(time):.1f} {y.within(value):.1f}" + ("h1" if move == "M" else ""))
        last = time
    return "".join(parts)
