"""What the page tells of each alert: what, since when, how strong, by which features and slices, what was done."""

from collections.abc import Sequence

from services.replay.drift.distributions import picture, told
from services.replay.drift.markup import Markup, join, tag
from services.replay.drift.report import Part, Report
from services.replay.drift.stories import Story
from services.replay.drift.summary import subject
from services.replay.drift.tables import all_bins, folded, table
from services.replay.drift.words import lasting, loss, moment, number
from services.runtime.alerts import Explained, Place

SIGNS = {"critical": "▲", "warning": "△"}
TOLD = 40  # alerts that are told in full; all are in the table
DRAWN = 9  # features with pictures
METER = 120  # px


def overview(report: Report) -> Markup:
    """Return all alerts, a row each."""
    heads = ("", "alert", "what", "@since", "@until", "#strength", "#loss before", "#loss since")
    return table(
        "Standing first, then by severity, newest first", heads, [_row(report, story) for story in report.stories]
    )


def _row(report: Report, story: Story) -> Sequence[Markup | str]:
    alert, around = story.newest, report.around(story)
    name = tag("code", story.id)
    if story in report.stories[:TOLD]:
        name = tag("a", name, href=f"#{anchor(story)}")
    strength = f"{alert.statistic} {number(alert.strength)}"
    until = "stands" if story.end is None else moment(story.end)
    losses = loss(around.before.loss), loss(around.during.loss)
    return _badge(story), name, subject(alert), moment(story.since), until, strength, *losses


def anchor(story: Story) -> str:
    return f"alert-{story.id}".replace(" ", "_")


def _badge(story: Story) -> Markup:
    alert = story.newest
    state = "silenced" if alert.silenced else "stands" if story.stands else "resolved"
    words = tag("span", f"{SIGNS[alert.severity]} {alert.severity}", class_="badge")
    return tag("span", words, f" {state}", class_=alert.severity)


def article(report: Report, story: Story) -> Markup:
    alert = story.newest
    head = subject(alert)
    parts = [
        tag("h3", head[:1].upper() + head[1:]),
        tag("p", _badge(story), " · ", tag("code", story.id), class_="soft"),
        tag("p", alert.reason),
        _facts(report, story),
        _features(alert.features),
        _slices(alert.slices),
        _done(report, story),
        _course(story),
    ]
    return tag("article", *parts, id=anchor(story), class_=alert.severity)


def _facts(report: Report, story: Story) -> Markup:
    alert, around = story.newest, report.around(story)
    seen = story.turns[0]
    facts = [
        _fact("Changed", moment(story.since), _place(alert.since)),
        _fact("Seen", moment(seen.time), f"{lasting(max(seen.time - story.since, 0))} later"),
        _fact("Resolved", moment(story.end), f"stood {lasting(max(story.end - story.since, 0))}")
        if story.end
        else None,
        _fact("Strength", f"{alert.statistic} {number(alert.strength)}", _most(story)),
        _fact("Lost by it", f"{alert.lost:+.3f} nats an event", "as the monitor tells")
        if alert.lost is not None
        else None,
        _fact("Served log loss", _losses(around.before, around.during, around.after), _counts(around)),
        _fact("Train from", moment(alert.retrain_from), "on examples of the new world") if alert.retrain_from else None,
    ]
    return tag("dl", *facts, class_="facts")


def _fact(name: str, value: str, more: str | None) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value, tag("small", more) if more else None))


def _place(place: Place) -> str:
    return f"{place.topic}[{place.partition}] at offset {place.offset:,}"


def _most(story: Story) -> str | None:
    return f"at its strongest {number(story.strongest)}" if story.strongest > story.newest.strength else None


def _losses(*parts: Part) -> str:
    return " → ".join(loss(part.loss) for part in parts if part.labelled) or "no labels"


def _counts(parts: Sequence[Part]) -> str:
    names = ("before", "since", "after")
    return ", ".join(f"{part.labelled:,} {name}" for part, name in zip(parts, names, strict=True) if part.labelled)


def _features(features: Sequence[Explained]) -> Markup | None:
    if not features:
        return None
    key = tag("p", tag("i", class_="b"), "before", tag("i", class_="a"), "after", class_="key")
    drawn = [_feature(rank, explained) for rank, explained in enumerate(features[:DRAWN], 1)]
    rest = features[DRAWN:]
    names = ", ".join(f"{explained.name} ({explained.statistic} {number(explained.value)})" for explained in rest)
    more = tag("p", f"Also, in order: {names}", class_="soft") if rest else None
    numbers = folded("The distributions as numbers", all_bins(features)) if any(map(picture, features)) else None
    return join(
        tag("h4", "Features that explain it, first what explains most"),
        key,
        tag("div", *drawn, class_="grid3"),
        more,
        numbers,
    )


def _feature(rank: int, explained: Explained) -> Markup:
    head = tag("p", f"{rank}. ", tag("b", explained.name), f"  {explained.statistic} {number(explained.value)}")
    drawn = picture(explained)
    under = told(explained) if drawn else "no distributions on record"
    return tag("figure", head, drawn, tag("figcaption", under))


def _slices(slices: Sequence[Explained]) -> Markup | None:
    if not slices:
        return None
    most = max(abs(one.value) for one in slices) or 1
    rows = [(one.name, f"{one.statistic} {number(one.value)}", _meter(abs(one.value) / most)) for one in slices]
    return join(tag("h4", "Slices, worst first"), table("By how much each explains", ("slice", "#strength", ""), rows))


def _meter(part: float) -> Markup:
    return tag("span", class_="meter", style=f"width:{part * METER:.0f}px")


def _done(report: Report, story: Story) -> Markup:
    steps = [
        f"{mark.version} {mark.step.state} at {moment(mark.step.time * 1000)} (broker's clock), by {mark.step.actor}:"
        f" {mark.step.reason}"
        for mark in report.followed(story)
    ]
    told = [tag("li", line) for line in [*story.newest.done, *steps]]
    return join(tag("h4", "What was done"), tag("ol", *told) if told else tag("p", "Nothing yet."))


def _course(story: Story) -> Markup | None:
    if len(story.turns) == 1:
        return None
    rows = [
        (moment(turn.time), turn.event, turn.severity, f"{turn.statistic} {number(turn.strength)}", turn.reason)
        for turn in story.turns
    ]
    heads = ("@event time", "record", "severity", "#strength", "reason")
    return join(tag("h4", "How it went"), table("Each record of the alert", heads, rows))
