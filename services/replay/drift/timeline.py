"""The timeline: alerts, versions, losses, volume and labels over event time, one above the other."""

from collections.abc import Callable

from services.replay.drift.axes import Axis, time_ticks
from services.replay.drift.buckets import Floats
from services.replay.drift.curves import SERVED
from services.replay.drift.lanes import alert_lanes, hairlines, version_marks
from services.replay.drift.lines import Panel, loss_lines, losses, one_line, volume
from services.replay.drift.markup import Markup, join, tag
from services.replay.drift.report import Report
from services.replay.drift.summary import summary
from services.replay.drift.words import counted, lasting, loss, moment, share

WIDTH, LEFT, RIGHT = 1040, 54, 132
HEAD, GAP = 20, 20  # above a panel for its name, and under it
HOURS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def timeline(report: Report) -> Markup:
    """Draw it whole. Without events there are alerts and versions alone."""
    curves, x = report.curves, Axis(report.start, report.end, LEFT, WIDTH - RIGHT)
    lanes, below = _lanes(report, x)
    times, panels, top = curves.times + curves.width // 2, list[Markup](), below
    for name, height, draw in _panels(report) if len(times) else ():
        panel = Panel(x, top + HEAD, height, times, curves.width)
        panels.append(join(_head(name, panel.top - 8), draw(panel)))
        top = panel.bottom + GAP
    bottom = top - GAP
    shades = hairlines(report.stories, x, below + 6, bottom) if panels else None
    hits = _hits(report, x, below, bottom) if panels else None
    content = join(_times(report, x, below, bottom), lanes, shades, *panels, hits)
    return tag(
        "svg",
        tag("title", f"Drift of {report.stream} over event time"),
        tag("desc", _said(report)),
        content,
        viewBox=f"0 0 {WIDTH} {bottom + 24:g}",
        role="img",
        class_="timeline",
    )


def _lanes(report: Report, x: Axis) -> tuple[Markup, float]:
    right = WIDTH - 8
    bars, high = alert_lanes(report.stories, x, HEAD, right)
    none = None if report.stories else tag("text", "none", x=LEFT, y=HEAD + 12, class_="note")
    top = HEAD + (high or 18) + 8
    marks, low = version_marks(report.versions, x, top + HEAD, x.end)
    empty = None if report.versions else tag("text", "no change", x=LEFT, y=top + HEAD + 10, class_="note")
    heads = join(_head("Alerts", HEAD - 8), _head("Versions", top + HEAD - 8))
    return join(heads, bars, none, marks, empty), top + HEAD + low + 12


def _panels(report: Report) -> list[tuple[str, float, Callable[[Panel], Markup]]]:
    curves, lines = report.curves, loss_lines(report.curves)
    waited, unit = _in_units(report)
    every = lasting(curves.width)
    return [
        ("Log loss, nats an event", 210, lambda panel: losses(panel, lines, curves.mean(SERVED))),
        (f"Events, each {every}", 56, lambda panel: volume(panel, curves.sums("scored")[:, 0])),
        ("Labelled, share of events", 44, lambda panel: one_line(panel, curves.coverage(), 1)),
        (f"Label delay, mean, {unit}", 44, lambda panel: one_line(panel, waited)),
    ]


def _in_units(report: Report) -> tuple[Floats, str]:
    waited = report.curves.mean("labelled")
    typical = report.curves.delays.quantile(0.5) or 0
    size, unit = next(((size, unit) for size, unit in HOURS if typical >= 2 * size), HOURS[-1])
    return waited / size, unit


def _head(text: str, y: float) -> Markup:
    return tag("text", text, x=LEFT, y=y, class_="head")


def _times(report: Report, x: Axis, top: float, bottom: float) -> Markup:
    drawn = list[Markup]()
    for time, text in time_ticks(report.start, report.end):
        drawn.append(tag("line", x1=x(time), x2=x(time), y1=top, y2=bottom + 5, class_="grid"))
        drawn.append(tag("text", text, x=x(time), y=bottom + 19, class_="note", text_anchor="middle"))
    return join(*drawn)


def _hits(report: Report, x: Axis, top: float, bottom: float) -> Markup:
    """Lay an unseen column over each bucket that says its numbers where the pointer is."""
    curves = report.curves
    told = zip(curves.times.tolist(), curves.sums("scored")[:, 0], curves.coverage(), curves.mean(SERVED), strict=True)
    return join(
        *(
            tag(
                "rect",
                tag(
                    "title",
                    f"{moment(time)}: {events:,.0f} events, {share(part)} labelled, served log loss {loss(lost)}",
                ),
                x=x.within(time),
                y=top,
                width=max(x.within(time + curves.width) - x.within(time), 1),
                height=bottom - top,
                class_="hit",
            )
            for time, events, part, lost in told
        )
    )


def _said(report: Report) -> str:
    known = summary(report)
    spans = [f"{story.id} since {moment(story.since)}" for story in report.stories[:5]]
    alerts = f" Alerts: {'; '.join(spans)}." if spans else ""
    return f"{known.headline}. {known.sentence}{alerts} {counted(len(report.versions), 'step')} of versions are marked."
