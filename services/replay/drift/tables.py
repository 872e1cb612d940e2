"""Tables: what the pictures show, as numbers."""

from collections.abc import Iterable, Sequence

from services.replay.drift.curves import SERVED
from services.replay.drift.distributions import bars
from services.replay.drift.markup import Child, Markup, join, tag
from services.replay.drift.report import Mark, Report
from services.replay.drift.words import NONE, loss, moment, number, share
from services.runtime.alerts import Explained

_KINDS = {"#": "n", "@": "when"}


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Child]]) -> Markup:
    """Return a table; a head that begins with a `#` is of a column of numbers, with a `@` of one of times."""
    kinds = [_KINDS.get(head[:1]) for head in heads]
    cells = [tag("th", head.lstrip("#@"), scope="col", class_=kind) for head, kind in zip(heads, kinds, strict=True)]
    body = [tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True))) for row in rows]
    head = tag("thead", tag("tr", *cells))
    return tag("div", tag("table", tag("caption", caption), head, tag("tbody", *body)), class_="scroll")


def folded(name: str, content: Markup) -> Markup:
    return tag("details", tag("summary", name), content)


def versions(marks: Sequence[Mark]) -> Markup:
    heads = ("@event time", "@broker's clock", "version", "from", "to", "by", "why")
    return table("Every decision on a version of the batch model, oldest first", heads, map(_step, marks))


def _step(mark: Mark) -> Sequence[str]:
    step = mark.step
    share_of = f", {step.share:.0%} of the keys" if step.share else ""
    evidence = ", ".join(f"{name} {number(value)}" for name, value in step.evidence.items())
    why = f"{step.reason} ({evidence})" if evidence else step.reason
    reached = "before all events" if mark.time is None else moment(mark.time)
    return reached, moment(step.time * 1000), mark.version, step.before or NONE, step.state + share_of, step.actor, why


def models(report: Report) -> Markup:
    totals = [(name, *report.curves.total(name)) for name in report.curves.models]
    rows = [(name, f"{count:,}", loss(mean)) for name, count, mean in totals]
    return table("What each model lost on the events that it answered", ("model", "#labelled", "#log loss"), rows)


def over_time(report: Report) -> Markup:
    curves = report.curves
    names = [name for name in curves.models if name != SERVED]
    columns = [curves.sums("scored")[:, 0], curves.coverage(), curves.mean("labelled"), curves.mean(SERVED)]
    columns += [curves.mean(name) for name in names]
    rows = [
        (moment(time), f"{events:,.0f}", share(part), number(wait), *map(loss, losses))
        for time, events, part, wait, *losses in zip(curves.times.tolist(), *(c.tolist() for c in columns), strict=True)
    ]
    heads = ("@from", "#events", "#labelled", "#mean delay, s", *(f"#{name}" for name in (SERVED, *names)))
    return table("Volume, labels, and log loss of each model, by time of the event", heads, rows)


def bins(explained: Explained) -> Markup | None:
    rows = [(bar.name, share(bar.before), share(bar.after)) for bar in bars(explained.before, explained.after)]
    return table(explained.name, ("value", "#before", "#after"), rows) if rows else None


def all_bins(features: Sequence[Explained]) -> Markup:
    return join(*(bins(explained) for explained in features))
