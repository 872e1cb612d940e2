"""What a run that is up is doing: each service's own word, and from the broker how far behind each group is."""

import datetime as dt
import ssl
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec

from infra.local import door
from infra.local.advice import advice
from infra.local.lag import behind as records_behind
from infra.local.stack import Running
from services.runtime.errors import ConfigError
from services.runtime.health import Report
from services.runtime.labelled import Hour, Labelled

INPUTS = {  # what each service's consumer group reads
    "features": ("events",),
    "inference": ("features",),
    "labels": ("scored", "labels"),
    "learner": ("examples",),
    "trainer": ("examples",),
    "rollout": ("examples",),
    "drift": ("scored", "examples", "summaries"),
}
WORDS = {"label": "in time", "timeout": "never came", "corrected": "corrections", "unmet": "without a prediction"}
PATIENCE_S = 3.0
SHOWN = 4  # hours


class State(msgspec.Struct, frozen=True):
    """One process: its report, or None if it gave no answer.

    `behind` counts, by topic, the records that its group has not committed; None if the broker does not say.
    """

    ready: bool
    report: Report | None
    behind: Mapping[str, int | None]


def read_status(stream: str, running: Running) -> dict[str, State]:
    """Ask every process and, meanwhile, the broker."""
    settings, trusting = running.settings(stream), running.trusting
    with ThreadPoolExecutor(16) as pool:
        reports = {name: pool.submit(ask, url, trusting) for name, url in running.services.items()}
        lags = {
            (service, kind): pool.submit(records_behind, settings, f"{stream}.{service}", f"{stream}.{kind}")
            for service, kinds in INPUTS.items()
            for kind in kinds
        }
        found = {where: future.result() for where, future in lags.items()}
        return {name: _state(name, future.result(), found) for name, future in reports.items()}


def _state(name: str, report: Report | None, lags: Mapping[tuple[str, str], int | None]) -> State:
    service = name.partition("-")[0]
    return State(
        report is not None and report.ready, report, {kind: lags[service, kind] for kind in INPUTS.get(service, ())}
    )


def ask(url: str, trusting: ssl.SSLContext | None = None, patience_s: float = PATIENCE_S) -> Report | None:
    """Return what a process says of itself; None if it gives no answer, or has a certificate that does not hold."""
    try:
        return msgspec.json.decode(door.get(f"{url}/readyz", trusting, patience_s).content, type=Report)
    except (ConfigError, httpx.HTTPError, msgspec.DecodeError):
        return None


def show(states: Mapping[str, State]) -> str:
    """Lay the states out for a person, a line each; below them how mature the labels are, and what to do next."""
    lines = [("service", "status", "partitions", "folded", "behind", "")]
    lines += [(name, *_columns(state)) for name, state in states.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    found = [state.report.labelled for state in states.values() if state.report and state.report.labelled]
    return "\n".join([*table, *quality_lines(found), *advice({name: state.report for name, state in states.items()})])


def quality_lines(found: Sequence[Labelled]) -> list[str]:
    """Say what labels came to, a line each process that tells, and how mature those of the newest hours are."""
    return [*map(_quality, found), *_maturity([hour for one in found for hour in one.hours])]


def _quality(labelled: Labelled) -> str:
    """Say what the labels of one process came to, and how good what was served was by those that hold."""
    totals = ", ".join(f"{count} {WORDS.get(outcome, outcome)}" for outcome, count in labelled.totals.items() if count)
    if labelled.log_loss is None or labelled.accuracy is None:
        return f"labels: {totals or 'none yet'}"
    served = f"log loss {labelled.log_loss:.4f}, accuracy {labelled.accuracy:.4f}"
    return f"labels: {totals}; what was served, by the {labelled.n} that hold: {served}"


def _maturity(hours: Iterable[Hour]) -> list[str]:
    """Say of the newest hours of events, a line each, how many of their predictions have their label."""
    by_start: dict[int, list[Hour]] = {}
    for hour in hours:
        by_start.setdefault(hour.start_s, []).append(hour)
    newest = sorted(by_start, reverse=True)[:SHOWN]
    return [_labelled(start, by_start[start]) for start in newest]


def _labelled(start_s: int, parts: Sequence[Hour]) -> str:
    predicted, labelled = sum(part.predicted for part in parts), sum(part.labelled for part in parts)
    wait_s = max(parts, key=lambda part: part.labelled).median_wait_s  # of several instances, the one that saw most
    median = "" if wait_s is None else f", median wait {_long(wait_s)}"
    hour = dt.datetime.fromtimestamp(start_s, dt.UTC).strftime("%Y-%m-%d %H:00")
    return f"of the {predicted} predictions of {hour}, {labelled / max(predicted, 1):.0%} have their label{median}"


def _long(seconds: float) -> str:
    """Say how long in two units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02}" if hours else f"{minutes} min {rest:02} s"


def _columns(state: State) -> tuple[str, str, str, str, str]:
    report = state.report
    behind = ", ".join(f"{topic} {'?' if count is None else count}" for topic, count in state.behind.items()) or "-"
    if report is None:
        return "silent", "?", "?", behind, f"no answer to its probe within {PATIENCE_S:g} s"
    since = "" if report.since_s is None else f", {report.since_s:.0f} s already"
    reason = report.busy or "" if report.waiting_for is None else f"waits for {report.waiting_for}{since}"
    if report.partitions is None:
        return report.status, "-", "-", behind, reason
    return report.status, ",".join(map(str, report.partitions)) or "none", str(report.folded), behind, reason
