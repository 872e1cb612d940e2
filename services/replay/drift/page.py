"""The report as one page: HTML that needs nothing else, and no script."""

from services.replay.drift.alert_page import TOLD, article, overview
from services.replay.drift.curves import SERVED
from services.replay.drift.markup import Child, Markup, join, tag
from services.replay.drift.report import Report
from services.replay.drift.style import STYLE
from services.replay.drift.summary import Summary, summary
from services.replay.drift.tables import folded, models, over_time, versions
from services.replay.drift.timeline import timeline
from services.replay.drift.words import NONE, counted, lasting, loss, moment, roughly, share
from services.runtime.models import BATCH, ONLINE

SIGNS = {"calm": "✓", "warning": "△", "critical": "▲"}


def page(report: Report) -> str:
    """Return the whole page."""
    title = f"Drift of {report.stream}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width,initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    parts = [_header(report, title), _pictured(report), *_alerts(report), *_versions(report), _numbers(report)]
    body = tag("body", tag("main", *parts, _footer(report)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _header(report: Report, title: str) -> Markup:
    written = f"written {moment(report.now)}"
    period = written if report.empty else f"{moment(report.start)} to {moment(report.end)}, event time; {written}"
    return tag(
        "header", tag("h1", title), tag("p", period, class_="period"), _status(summary(report)), _figures(report)
    )


def _status(found: Summary) -> Markup:
    headline = tag("strong", f"{SIGNS[found.tone]} {found.headline}")
    return tag("div", headline, tag("p", found.sentence), class_=f"status {found.tone}", role="status")


def _figures(report: Report) -> Markup:
    curves = report.curves
    events, labelled = report.labelled()
    median, late = (curves.delays.quantile(part) for part in (0.5, 0.9))
    delay = NONE if median is None else roughly(median * 1e6)
    told = [
        ("Events", f"{events:,}", None),
        ("Labelled", share(labelled / events) if events else NONE, f"{labelled:,} events"),
        ("Label delay", delay, None if late is None else f"median; 90 % within {roughly(late * 1e6)}"),
        ("Served log loss", loss(curves.total(SERVED)[1]), "nats an event"),
        ("Alerts", f"{len(report.standing)} standing", f"of {len(report.stories)} raised"),
        ("Serving", *_serving(report)),
    ]
    return tag("dl", *(fact(*one) for one in told), class_="figures")


def _serving(report: Report) -> tuple[str, str | None]:
    champion, online = report.lineup.champion, report.lineup.online
    beside = None if online is None else f"{ONLINE}@{online}"
    if champion is None:
        return beside or "nothing yet", None
    return f"{BATCH}@{champion}", f"beside {beside}" if beside else None


def fact(name: str, value: Child, more: Child = None) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value, tag("small", more) if more else None))


def _pictured(report: Report) -> Markup | None:
    if report.empty and not report.stories:
        return None
    caption = (
        "Bars: alerts, from where the change began to where it was resolved, hollow once they are. Dashed: where a"
        " change began. Lines: mean log loss over the last while; pale behind them, what was served, bucket by bucket."
        f" A bucket is {lasting(report.curves.width)}."
    )
    drawn = tag("figure", tag("div", timeline(report), class_="scroll"), tag("figcaption", caption))
    return tag("section", tag("h2", "Over time"), drawn)


def _alerts(report: Report) -> list[Markup]:
    if not report.stories:
        return [tag("section", tag("h2", "Alerts"), tag("p", summary(report).sentence))]
    told = [article(report, story) for story in report.stories[:TOLD]]
    rest = len(report.stories) - len(told)
    more = tag("p", f"{counted(rest, 'alert')} more in the table alone.", class_="soft") if rest > 0 else None
    return [tag("section", tag("h2", "Alerts"), _orders(report), overview(report), *told, more)]


def _orders(report: Report) -> Markup | None:
    hold = report.orders.hold
    told = [f"Automatic action is on hold, by {hold.actor}: {hold.reason}."] if hold is not None and hold.held else []
    told += [
        f"{silence.subject}{f' ({silence.kind})' if silence.kind else ''} is silent until {moment(silence.until)},"
        f" by {silence.actor}: {silence.reason}."
        for silence in report.orders.silences(report.now)
    ]
    return join(*(tag("p", line) for line in told)) if told else None


def _versions(report: Report) -> list[Markup]:
    if not report.marks:
        return [tag("section", tag("h2", "Versions"), tag("p", "No version of the batch model was registered."))]
    return [tag("section", tag("h2", "Versions"), versions(report.marks))]


def _numbers(report: Report) -> Markup:
    return tag(
        "section", tag("h2", "Numbers"), models(report), folded("Over time, bucket by bucket", over_time(report))
    )


def _footer(report: Report) -> Markup:
    made = f"Made from the log of {report.stream} by thalweg drift report, at {moment(report.now)}."
    bound = "Losses are of an event's first label; a bucket holds all events whose time is within it."
    return tag("footer", tag("p", f"{made} {bound}"))
