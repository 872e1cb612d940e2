"""`thalweg drift report|list|show|silence|hold|release`: what drift has seen, and to steer it."""

import argparse
import re
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import msgspec

from infra.commands.connection import Progress, add_log, add_span, connect, span
from infra.commands.drift_shown import Shown, lines_alert, lines_list
from infra.commands.models import actor
from services.replay.drift.page import page
from services.replay.drift.reading import exists, read_alerts, read_orders, read_report
from services.replay.drift.summary import summary
from services.replay.drift.words import moment
from services.runtime.alerts import Kind
from services.runtime.commands import Command, Hold, Silence, command_key
from services.runtime.history import KafkaHistory
from services.runtime.records import Outgoing
from services.runtime.stream import Stream
from services.runtime.transactions import Transactions

ABOUT = """\
The service drift watches all that is scored and labelled, and writes alerts: what changed, since when, how strongly,
which features and slices explain it. What is done about them by itself, a hold stops."""
ABOUT_REPORT = """\
Reads alerts, models, scored and examples once, from the beginning, in bounded memory, and writes one HTML page that
needs nothing else: for a mail, an archive or a printer. --from and --to are event times: alerts that stood then, and
events of that time. A run that is up goes on; the page says what was there when it was read."""
ABOUT_SILENCE = """\
Alerts of these subjects are still recorded, and nobody is told of them. WHAT is a subject such as stream, online or
nsw_demand, with * and ? for any, or a kind such as missing. A silence of 0s ends the one that was there."""
ABOUT_HOLD = """\
While held, nothing is trained or rolled out because of an alert. Alerts are raised, and people told, as ever."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SEE = "thalweg drift list --all names them"
KINDS: tuple[str, ...] = get_args(Kind)


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("drift", help="what has changed, and since when: report, list, silence", epilog=ABOUT)
    actions = parser.add_subparsers(required=True, metavar="report|list|show|silence|hold|release")
    report = _action(actions, "report", _report, "write one page of all that drift has seen", ABOUT_REPORT)
    add_span(report, "of events")
    report.add_argument("--out", type=Path, metavar="FILE", help="where to write it (drift-<stream>.html)")
    listing = _action(actions, "list", _list, "the alerts that stand")
    listing.add_argument("--all", action="store_true", help="those that are resolved as well")
    showing = _action(actions, "show", _show, "one alert: what explains it, before and after, what was done")
    showing.add_argument("id", metavar="ID", help="as in the list; its beginning is enough")
    for action in (listing, showing):
        action.add_argument("--json", action="store_true", help="for a program to read")
    silence = _action(actions, "silence", _silence, "tell nobody of some alerts for a while", ABOUT_SILENCE)
    silence.add_argument("what", type=_text, metavar="WHAT", help=f"a subject, or a kind: {', '.join(KINDS)}")
    silence.add_argument("--for", dest="lasting", required=True, type=_seconds, metavar="TIME", help="such as 2h or 3d")
    hold = _action(actions, "hold", _hold, "act on no alert by itself", ABOUT_HOLD)
    release = _action(actions, "release", _release, "act on alerts again")
    for action in (silence, hold, release):
        action.add_argument("--reason", required=True, type=_text, help="why, for whoever reads the report")


def _action(actions: Any, name: str, run: Callable[..., int], what: str, about: str = "") -> argparse.ArgumentParser:  # noqa: ANN401
    action: argparse.ArgumentParser = actions.add_parser(name, help=what, description=f"{what}.", epilog=about)
    add_log(action)
    action.set_defaults(run=run)
    return action


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected some words")
    return text.strip()


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a time such as 90m, 2h or 3d, got {text!r}")
    return int(found[1]) * UNITS[found[2]]


def _now() -> int:
    return time.time_ns() // 1000


# Reading


def _report(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    with closing(KafkaHistory(settings)) as history, closing(Progress()) as progress:
        report = read_report(stream, history, span(given), _now(), progress)
    out: Path = given.out or Path(f"drift-{stream.name}.html")
    part = out.with_name(f"{out.name}.part")
    try:
        part.write_text(page(report), encoding="utf-8")
        part.replace(out)
    except OSError as error:
        raise ValueError(f"{out} can't be written: {error.strerror}") from error
    said = summary(report)
    print(f"{said.headline}. {said.sentence}\n{out}")
    return 0


def _list(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    with closing(KafkaHistory(settings)) as history:
        stories, orders = read_alerts(stream, history), read_orders(stream, history)
    return _say(given, lines_list(stories.all(), orders, _now(), resolved=given.all))


def _show(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    with closing(KafkaHistory(settings)) as history:
        stories = read_alerts(stream, history)
    found = stories.find(given.id)
    if len(found) != 1:
        names = "\n  ".join(story.id for story in found)
        raise ValueError(f"{len(found)} alerts begin so:\n  {names}" if found else f"no alert {given.id}; {SEE}")
    return _say(given, lines_alert(found[0]))


def _say(given: argparse.Namespace, shown: Shown) -> int:
    lines, told = shown
    print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode() if given.json else "\n".join(lines))
    return 0


# Steering


def _silence(given: argparse.Namespace) -> int:
    kind = given.what if given.what in KINDS else ""
    until = _now() + given.lasting * 1_000_000
    said = f"{given.what} is silent until {moment(until)}" if given.lasting else f"{given.what} is no longer silent"
    return _write(given, Silence("*" if kind else given.what, until, actor(), given.reason, kind), said)


def _hold(given: argparse.Namespace) -> int:
    return _write(given, Hold(True, actor(), given.reason), "held: nothing is trained or rolled out by itself")  # noqa: FBT003


def _release(given: argparse.Namespace) -> int:
    return _write(given, Hold(False, actor(), given.reason), "released: alerts are acted on again")  # noqa: FBT003


def _write(given: argparse.Namespace, command: Command, said: str) -> int:
    stream, settings = connect(given)
    with closing(KafkaHistory(settings)) as history:
        _expect_topic(stream, history)
    topic = stream.topic("commands")
    Transactions(settings, topic).write([Outgoing(topic, msgspec.json.encode(command), command_key(command), 0)])
    print(said)
    return 0


def _expect_topic(stream: Stream, history: KafkaHistory) -> None:
    if not exists(history, stream.topic("commands")):
        raise ValueError(f"there is no topic {stream.topic('commands')}: drift does not run here")
