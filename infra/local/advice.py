"""What to do next about a run that is empty or broken, from what its processes say of themselves. Pure."""

from collections.abc import Iterator, Mapping

from services.runtime.health import Report

WAITED_FOR = {  # a word of what is waited for; logs are in the run's folder
    "broker": "the broker gives no answer: see logs/tansu.log, logs/kafka.log or the cluster's own log",
    "Triton": "Triton gives no answer: see logs/triton.log",
}
BY_ITSELF = "; what waits goes on by itself once it is back"
SILENT = (
    "{0} gives no answer, it has died or hangs: see logs/{0}.log; "
    "`thalweg up` starts what dies again, `thalweg doctor` looks closer"
)
EMPTY = (
    "nothing has come in since these started: send an event (README), "
    "or stop this run and play recorded ones (./infra/demo --keep)"
)


def advice(reports: Mapping[str, Report | None]) -> Iterator[str]:
    """Yield what to do, a line each; nothing where all is well. A process that gave no answer has no report."""
    said = [report for report in reports.values() if report is not None]
    waits = " ".join(report.waiting_for or "" for report in said)
    found = [words + BY_ITSELF for word, words in WAITED_FOR.items() if word in waits]
    found += [SILENT.format(name) for name, report in reports.items() if report is None]
    if not found and "features" in reports and not any(report.folded for report in said):
        found.append(EMPTY)
    yield from (f"next: {words}" for words in found)
