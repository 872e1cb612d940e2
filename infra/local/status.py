"""What a run that is up is doing: each service's own word, and from the broker how far behind each group is."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec

from infra.local.lag import behind as records_behind
from infra.local.stack import Running
from services.runtime.health import Report

INPUTS = {  # what each service's consumer group reads
    "features": ("events",),
    "inference": ("features",),
    "labels": ("scored", "labels"),
    "learner": ("examples",),
}
PATIENCE_S = 3.0


class State(msgspec.Struct, frozen=True):
    """One process: its report, or None if it gave no answer.

    `behind` counts, by topic, the records that its group has not committed; None if the broker does not say.
    """

    ready: bool
    report: Report | None
    behind: Mapping[str, int | None]


def read_status(stream: str, running: Running) -> dict[str, State]:
    """Ask every process and, meanwhile, the broker."""
    with ThreadPoolExecutor(16) as pool:
        reports = {name: pool.submit(_ask, url) for name, url in running.services.items()}
        lags = {
            (service, kind): pool.submit(records_behind, running.broker, f"{stream}.{service}", f"{stream}.{kind}")
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


def _ask(url: str) -> Report | None:
    try:
        return msgspec.json.decode(httpx.get(f"{url}/readyz", timeout=PATIENCE_S).content, type=Report)
    except (httpx.HTTPError, msgspec.DecodeError):
        return None


def show(states: Mapping[str, State]) -> str:
    """Lay the states out for a person, a line each."""
    lines = [("service", "status", "partitions", "folded", "behind", "")]
    lines += [(name, *_columns(state)) for name, state in states.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _columns(state: State) -> tuple[str, str, str, str, str]:
    report = state.report
    behind = ", ".join(f"{topic} {'?' if count is None else count}" for topic, count in state.behind.items()) or "-"
    if report is None:
        return "silent", "?", "?", behind, f"no answer to its probe within {PATIENCE_S:g} s"
    since = "" if report.since_s is None else f", {report.since_s:.0f} s already"
    reason = "" if report.waiting_for is None else f"waits for {report.waiting_for}{since}"
    if report.partitions is None:
        return report.status, "-", "-", behind, reason
    return report.status, ",".join(map(str, report.partitions)) or "none", str(report.folded), behind, reason
