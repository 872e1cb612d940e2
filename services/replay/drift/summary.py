"""What an on-call engineer reads first: whether something is wrong, since when, what it costs, what was done."""

from typing import Literal, NamedTuple

from services.replay.drift.curves import SERVED
from services.replay.drift.report import Report
from services.replay.drift.stories import Story
from services.replay.drift.words import counted, lasting, loss, moment, named
from services.runtime.alerts import Alert, Kind

CHANGED: dict[Kind, str] = {
    "features": "features changed",
    "joint": "features changed together",
    "predictions": "predictions changed",
    "loss": "the loss rose",
    "calibration": "probabilities are off",
    "estimate": "the estimated loss rose",
    "missing": "values are missing",
    "range": "values are out of range",
    "coverage": "labels are fewer or later",
    "volume": "the volume changed",
}


class Summary(NamedTuple):
    tone: Literal["calm", "warning", "critical"]
    headline: str
    sentence: str


def summary(report: Report) -> Summary:
    if not report.watched:
        return Summary("calm", "Nobody watched", f"There is no topic {report.stream}.alerts: drift does not run here.")
    standing = report.standing
    if standing:
        gravest = standing[0]
        critical = sum(story.newest.severity == "critical" for story in standing)
        what = "critical alert" if critical == len(standing) else "alert"
        grave = f", {critical} critical" if 0 < critical < len(standing) else ""
        headline = f"{counted(len(standing), what)} standing{grave}"
        return Summary(gravest.newest.severity, headline, _standing(report, gravest))
    served = loss(report.curves.total(SERVED)[1])
    if report.stories:
        return Summary("calm", "Nothing stands", f"{_resolved(report)} The served log loss was {served} on the whole.")
    if report.empty:
        return Summary("calm", "No events", "Nothing was scored in this time, and no alert was raised.")
    events, labelled = report.labelled()
    seen = f"{counted(events, 'event')}, {labelled:,} labelled"
    return Summary("calm", "Nothing drifted", f"No alert was raised over {seen}; the served log loss was {served}.")


def _standing(report: Report, story: Story) -> str:
    alert, around, lately = story.newest, report.around(story), report.lately()
    told = [f"Since {moment(story.since)} {subject(alert)}."]
    if lately.loss is not None:
        before = f", {loss(around.before.loss)} before" if around.before.loss is not None else ""
        told.append(f"Served log loss: {loss(lately.loss)} now{before}.")
    told.append(f"Done last: {_sentence(alert.done[-1])}" if alert.done else "Nothing was done about it yet.")
    if report.orders.held:
        told.append("Automatic action is on hold.")
    return " ".join(told)


def _resolved(report: Report) -> str:
    last = max(report.stories, key=lambda story: story.end or 0)
    stood = lasting((last.end or 0) - last.since)
    count = counted(len(report.stories), "alert")
    was = "was" if len(report.stories) == 1 else "were"
    return f"{count} {was} raised and resolved; the last ({subject(last.newest)}) lasted {stood}."


def subject(alert: Alert) -> str:
    """Say what an alert is of, in a clause: features changed: vic_price, vic_demand and transfer."""
    names = [explained.name for explained in alert.features]
    of = named(names) if names else "" if alert.subject == "stream" else alert.subject
    place = f" where {alert.slice}" if alert.slice else ""
    return f"{CHANGED[alert.kind]}{place}{f': {of}' if of else ''}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
