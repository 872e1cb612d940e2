"""`thalweg verify`: the log is folded again, and what was written online must be the same."""

import argparse
from collections import Counter
from contextlib import closing
from typing import Any

from infra.commands.connection import Progress, add_log, add_span, connect, span
from services.replay.findings import Findings
from services.replay.verify import verify
from services.replay.versions import Versions
from services.runtime.artifacts import Artifacts
from services.runtime.history import KafkaHistory
from services.runtime.stream import Stream

ABOUT = """\
Folds all of `events` again and compares: features bit for bit; predictions field by field, and their scores to 1e-6
with the versions that they name; late and refused events. Every event has one prediction or one dead letter. Names
what differs, the first of each partition first, and exits with 1 then. --from and --to are event times: they bound
what is compared, not what is folded, as a state depends on all that came before. Refused events have no time that
could be trusted and are always compared. A version whose artifact is not in --run-dir is folded again from `examples`.
On a run that is up, what its services have not committed yet is counted as waiting."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("verify", help="fold the log again and compare it with what was written", epilog=ABOUT)
    add_log(parser)
    add_span(parser, "compare the events")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    with closing(KafkaHistory(settings)) as history, closing(Progress()) as progress:
        examples = stream.topic("examples")
        versions = Versions(stream, Artifacts(settings.data, stream.name), lambda: history.read_topic(examples))
        found = []
        for partition in verify(stream, history, versions, span(given), progress):
            progress.close()
            _say_partition(partition)
            found.append(partition)
    return 0 if _conclude(stream, found, versions) else 1


def _say_partition(found: Findings) -> None:
    counts = found.counts
    print(
        f"partition {found.events.partition}: {counts['rows']} rows of features and {counts['predictions']} predictions"
        f" compared, {counts['late']} late, {counts['refused']} refused: {_verdict(found.differing)}",
        flush=True,
    )
    for difference in found.differences:
        print(f"  {difference}")
    if (unnamed := found.differing.total() - len(found.differences)) > 0:
        print(f"  … and {unnamed} more")
    _say_late(found)


def _verdict(differing: Counter[str]) -> str:
    if not differing:
        return "the same"
    return "DIFFERENT, " + ", ".join(f"{count} in {kind}" for kind, count in differing.items())


def _say_late(found: Findings) -> None:
    for late in found.late:
        print(f"  late: {late.event_id} ({late.event}) came {late.behind / 1e6:g} s behind the newest event before it")
    if found.counts["late"] > len(found.late):
        print(f"  … and {found.counts['late'] - len(found.late)} more, up to {found.furthest_behind / 1e6:g} s behind")


def _conclude(stream: Stream, found: list[Findings], versions: Versions) -> bool:
    counts = sum((partition.counts for partition in found), Counter[str]())
    differing = sum((partition.differing for partition in found), Counter[str]())
    written = {partition.feature_set for partition in found} - {stream.feature_set}
    for other in written:
        print(f"written by feature set {other}, folded by {stream.feature_set}: verify with the stream folder of then")
    if counts["waiting"] or counts["unscored"]:
        print(f"waiting: {counts['waiting']} events for their features, {counts['unscored']} rows for their prediction")
    if counts["late"]:
        rule = stream.pipeline.stream.lateness.text
        print(f"late: {counts['late']} events, more than {rule} behind: they have a row, and no window counts them")
    if counts["accepted now"]:
        print(f"{counts['accepted now']} refused events would be accepted now: thalweg dead-letter replay sends them")
    if versions.refolded:
        print(f"{len(versions.refolded)} versions made again from `examples`: {next(iter(versions.refolded.values()))}")
    print(
        f"{counts['rows']} events, {counts['predictions']} predictions, {len(versions.used)} versions:"
        f" {_verdict(differing)}"
    )
    return not differing and not written
