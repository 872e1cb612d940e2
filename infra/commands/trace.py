"""`thalweg trace EVENT_ID`: what became of an event, why, and what learned from it, whether or not it was traced."""

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.console import Console

from infra.commands.connection import Progress, add_log, add_span, connect, span
from infra.commands.trace_shown import shown
from infra.local.stack import read_running
from services.replay.story.facts import Span, Story
from services.replay.story.hops import placed
from services.replay.story.telling import story
from services.replay.versions import Versions
from services.runtime.artifacts import Artifacts
from services.runtime.history import KafkaHistory

ABOUT = """\
EVENT_ID is the event's own id, or its place on the log, such as flights.events/0/17. The event is looked for from the
newest predictions back; then its partition is folded again up to it. Features are told with the events that they were
made of: the engine, given these alone, must say the same bits. Scores are made again with the recorded versions, to
1e-6. Times are those at which the broker got the records. Lines with ○ are derived from the log, spans with ● were
traced live: they are asked of the console of a run that is up here, or of --console URL with --token (that for
reading). Without a console, or of an event that was not sampled, all the rest is told as well. --from and --to are
times at which the broker got the event's prediction, and shorten the search."""
PATIENCE_S = 5.0
WIDE = 100  # columns from which on there is room for the waterfall


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("trace", help="an event's whole story, whether or not it was traced", epilog=ABOUT)
    parser.add_argument("event", metavar="EVENT_ID", help="its id, or its place: topic/partition/offset")
    add_log(parser)
    add_span(parser, "look among what was predicted")
    parser.add_argument("--causes", type=int, default=3, metavar="N", help="events to name for each feature (3)")
    parser.add_argument("--store", default="", metavar="URL", help="where the trainer's table is (in the run's data)")
    parser.add_argument("--console", default="", metavar="URL", help="whom to ask for live spans (this run's console)")
    parser.add_argument("--token", default="", metavar="T", help="the console's token for reading (this run's)")
    parser.add_argument("--json", action="store_true", help="for a program to read")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from infra.commands.trained import Table  # noqa: PLC0415 - deltalake, which no other command shall wait for

    stream, settings = connect(given)
    table = Table(stream, settings.data, given.store)
    with closing(KafkaHistory(settings)) as history, closing(Progress()) as progress:
        examples = stream.topic("examples")
        versions = Versions(stream, Artifacts(settings.data, stream.name), lambda: history.read_topic(examples))
        parts = given.event, progress, span(given), table.trainings(), table.first_with
        told = _with_live(story(stream, history, versions, *parts), given)
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        Console(highlight=False, file=sys.stdout).print(shown(told, given.causes, wide=Console().width >= WIDE))
    return 0


def _with_live(told: Story, given: argparse.Namespace) -> Story:
    """Add the spans of its trace, if it has one and somebody keeps it; say so if they should be there and are not."""
    running = read_running(given.run_dir, given.stream)
    url = given.console or (running.services.get("console", "") if running else "")
    if told.trace_id is None or not url:
        return told
    token = given.token or (_token(running.data) if running and not given.console else "")
    try:
        spans = _spans(url, token, told.trace_id)
    except (httpx.HTTPError, msgspec.MsgspecError) as error:
        note = f"no live spans: {url} has none to tell of trace {told.trace_id}: {error}"
        return msgspec.structs.replace(told, notes=[*told.notes, note])
    hops, left = placed(told.hops, spans)
    return msgspec.structs.replace(told, hops=hops, spans=left)


class _Trace(msgspec.Struct):
    spans: list[Span]


def _spans(url: str, token: str, trace_id: str) -> list[Span]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = httpx.get(f"{url.rstrip('/')}/api/traces/{trace_id}", headers=headers, timeout=PATIENCE_S)
    answer.raise_for_status()
    return msgspec.json.decode(answer.content, type=_Trace).spans


def _token(data: str) -> str:
    """Return the token for reading of the console of the run that is up here."""
    try:
        held = msgspec.json.decode((Path(data) / "console" / "tokens.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return ""
    return str(held.get("reading", "")) if isinstance(held, dict) else ""
