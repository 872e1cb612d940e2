"""`thalweg models events VERSION`: which examples, and which events, a version has learned from."""

import argparse
import re
from collections.abc import Sequence
from contextlib import closing

import msgspec

from infra.commands.connection import Progress, connect
from infra.commands.trace_shown import moment
from services.replay.story.examples import batches
from services.replay.story.lessons import Lessons, Range, batch_lessons, online_lessons
from services.replay.versions import version_name
from services.runtime.errors import Stop
from services.runtime.history import KafkaHistory
from services.runtime.models import ONLINE
from services.runtime.settings import Settings
from services.runtime.stream import Stream

SHOWN = 12  # ranges of a partition

ABOUT = """\
A version of the online model is the fold of the first N examples with a label, N being its number. One of the batch
model was trained on what the trainer's table had then; how far that was, the table says, as long as that version of it
is kept. The events are those of the source's partitions, as ranges of offsets: labels come in any order, so there are
gaps. Where the online model was begun anew since (see `renew`), it keeps nothing of what came before that."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", type=_name, metavar="V", help="such as online@1840 or batch@7")
    parser.add_argument("--ids", action="store_true", help="name the events too")
    parser.add_argument("--store", default="", metavar="URL", help="where the trainer's table is (in the run's data)")


def _name(text: str) -> str:
    if not re.fullmatch(r"(online|batch)@\d+", text):
        raise argparse.ArgumentTypeError(f"expected a version such as online@1840 or batch@7, got {text!r}")
    return text


def run(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    with closing(KafkaHistory(settings)) as history, closing(Progress()) as progress:
        found = _lessons(given, stream, settings, history, progress)
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print("\n".join(_lines(found, stream)))
    return 0


def _lessons(
    given: argparse.Namespace, stream: Stream, settings: Settings, history: KafkaHistory, progress: Progress
) -> Lessons:
    model, number = version_name(given.version)
    examples = batches(history, stream, progress)
    if model == ONLINE:
        return online_lessons(number, examples, ids=given.ids)
    from infra.commands.trained import Table  # noqa: PLC0415 - deltalake, which no other command shall wait for

    trainings = Table(stream, settings.data, given.store).trainings()
    mine = next((one for one in trainings if one.version == given.version), None)
    if mine is None:
        known = ", ".join(one.version for one in trainings) or "none"
        raise Stop(
            f"{given.version} has no card of {stream.feature_set} in {settings.data} (--run-dir); there are: {known}"
        )
    return batch_lessons(mine, examples, ids=given.ids)


def _lines(found: Lessons, stream: Stream) -> Sequence[str]:
    if found.records is None or found.start is None or found.end is None:
        return [f"{found.version} has learned from nothing"]
    corrections = f", {found.corrections} of them corrections" if found.corrections else ""
    examples = f"{stream.topic('examples')}/0, offsets {_range(found.records)} (of the last {found.of_last} rows)"
    lines = [
        f"{found.version} learned from {found.rows:,} examples{corrections}: {examples}",
        f"{found.events:,} events, of {moment(found.start)} to {moment(found.end)}",
    ]
    for source in found.sources:
        shown = ", ".join(map(_range, source.offsets[:SHOWN]))
        more = f", … and {len(source.offsets) - SHOWN} ranges more (--json)" if len(source.offsets) > SHOWN else ""
        span = f"{moment(source.start)} to {moment(source.end)}"
        lines.append(f"{stream.topic('events')}/{source.partition}: {source.events:,} events, {span}: {shown}{more}")
    return [*lines, *(found.ids or [])]


def _range(one: Range) -> str:
    return str(one.first) if one.first == one.last else f"{one.first}-{one.last}"
