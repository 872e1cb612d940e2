"""`thalweg models`: which versions there are, what each learned from, who decided; and to decide."""

import argparse
import datetime as dt
import getpass
import re
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec

from infra.commands import models_events
from infra.commands.connection import add_log, connect
from infra.commands.models_shown import lines_at, lines_compared, lines_history, lines_list
from services.replay.duels import Duel
from services.runtime.chronicle import Chronicle
from services.runtime.decisions import Moves, decide, promotion, rollback
from services.runtime.history import KafkaHistory
from services.runtime.models import BATCH, ONLINE, Lineup
from services.runtime.settings import Settings
from services.runtime.stream import Stream

ABOUT = """\
A version of the batch model is registered by the trainer, scored in the shadow, served as a canary to a share of the
keys, then champion, and retired in the end. The service rollout decides by labelled examples, inference withdraws what
can't be served, and a person may do either: every decision is a record on `models`, applied while events flow."""
ABOUT_PROMOTE = """\
Makes a version champion now, whatever it was: a retired one as well, as long as its artifact is there. Inference loads
it while the others serve, then serves all keys by it but a canary's. The champion so far stays in the shadow, so that
a rollback goes back to it. Rollout watches the new one by what is labelled from then on, and withdraws it should it
turn worse."""
ABOUT_ROLLBACK = """\
Retires the champion now. The version that was champion before takes its place, if it is scored still; else the online
model serves alone. Nothing is trained or lost: thalweg models promote brings it back."""
ABOUT_COMPARE = """\
Folds `examples` from the beginning: over the labelled rows that both answered, what each lost in nats an example, what
the online model and what was served lost on the same rows, and the evidence that rollout would have: an interval that
holds at any time one looks, and odds; above 1 / alpha to 1 a version is shown to be better. Then the same by slice."""
ABOUT_AT = """\
TIME is the wall clock, as the broker stamped the records of `models`: 2026-11-24T14:03, in this machine's zone unless
it has one of its own (2026-11-24T14:03Z). Inference applies a record with its next batch, so within moments of the
time that is told. What a single prediction was made of, it says itself: `scores` and `weights`."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser(
        "models", help="versions of the batch model: who serves, why, and to decide", epilog=ABOUT
    )
    actions = parser.add_subparsers(required=True, metavar="list|history|events|promote|rollback|compare|at")
    _action(actions, "list", _list, "the versions, their states and weights")
    history = _action(actions, "history", _history, "every decision: when, who, why, on what evidence")
    history.add_argument(
        "version", nargs="?", type=_version, metavar="V", help="of this version alone, such as batch@7"
    )
    events = _action(actions, "events", models_events.run, "what a version has learned from", models_events.ABOUT)
    models_events.add_options(events)
    promote = _action(actions, "promote", _promote, "make a version champion now", ABOUT_PROMOTE)
    promote.add_argument("version", type=_version, metavar="V", help="such as batch@7, or 7")
    back = _action(
        actions, "rollback", _rollback, "retire the champion; the one before it serves again", ABOUT_ROLLBACK
    )
    for action in (promote, back):
        action.add_argument("--reason", required=True, type=_text, help="why, for whoever reads the history")
    compare = _action(actions, "compare", _compare, "two models on the same labelled rows", ABOUT_COMPARE)
    for name in ("first", "second"):
        compare.add_argument(name, type=_model, metavar=name.upper(), help="batch@7, 7 or online")
    at = _action(actions, "at", _at, "which versions answered at a time, and who decided that", ABOUT_AT)
    at.add_argument("time", type=_time, metavar="TIME", help="such as 2026-11-24T14:03")


def _action(actions: Any, name: str, run: Callable[..., int], what: str, about: str = "") -> argparse.ArgumentParser:  # noqa: ANN401
    action: argparse.ArgumentParser = actions.add_parser(name, help=what, description=f"{what}.", epilog=about)
    add_log(action)
    action.add_argument("--json", action="store_true", help="for a program to read")
    action.set_defaults(run=run)
    return action


def _version(text: str) -> int:
    found = re.fullmatch(rf"(?:{BATCH}@)?(\d+)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a version of the batch model such as {BATCH}@7, got {text!r}")
    return int(found[1])


def _model(text: str) -> int | None:
    return None if text == ONLINE else _version(text)


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected some words")
    return text.strip()


def _time(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-11-24T14:03, got {text!r}") from error


# Reading


def _chronicle(stream: Stream, settings: Settings, until_ms: float = float("inf")) -> Chronicle:
    chronicle = Chronicle(stream.feature_set)
    with closing(KafkaHistory(settings)) as history:
        for records in history.read_topic(stream.topic("models")):
            for record in records:
                if record.timestamp <= until_ms:
                    chronicle.fold(record)
    return chronicle


def _list(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    return _say(given, *lines_list(_chronicle(stream, settings)))


def _history(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    steps = _chronicle(stream, settings).steps
    if given.version is not None:
        steps = [step for step in steps if step.version == given.version]
    return _say(given, *lines_history(steps))


def _at(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    return _say(given, *lines_at(_chronicle(stream, settings, given.time.timestamp() * 1000), given.time))


def _compare(given: argparse.Namespace) -> int:
    if given.first == given.second:
        raise ValueError("a model is as good as itself; name two")
    stream, settings = connect(given)
    duel = Duel(stream, given.first, given.second)
    with closing(KafkaHistory(settings)) as history:
        for records in history.read_topic(stream.topic("examples")):
            duel.fold(records)
    return _say(given, *lines_compared(duel, given.first, stream.pipeline.rollout.alpha))


def _say(given: argparse.Namespace, lines: list[str], told: object) -> int:
    print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode() if given.json else "\n".join(lines))
    return 0


# Deciding


def _promote(given: argparse.Namespace) -> int:
    return _decide(given, promotion(given.version, actor(), given.reason))


def _rollback(given: argparse.Namespace) -> int:
    return _decide(given, rollback(actor(), given.reason))


def _decide(given: argparse.Namespace, moves: Moves) -> int:
    made, lineup = decide(*connect(given), moves)
    said = [f"{moved.model}@{moved.version}: {moved.state}" for moved in made]
    return _say(given, [*said, _follows(lineup)], made)


def _follows(lineup: Lineup) -> str:
    """Say what inference will do."""
    if lineup.champion is None:
        return "inference serves the online model alone from its next batch on"
    canaries = ", ".join(f"{BATCH}@{version}" for version in lineup.of("canary"))
    but = f", but for the keys of the canary {canaries}" if canaries else ""
    return (
        f"inference serves {BATCH}@{lineup.champion} beside the online model from its next batch on{but};"
        f" if it is not loaded, once Triton has it"
    )


def actor() -> str:
    """Return who decides, as the records name people."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
