"""`thalweg dead-letter list|show|replay`: what was refused, why, and once it is fixed, through it goes again."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec

from infra.commands.connection import add_log, add_span, connect, span
from services.replay.compare import time_text
from services.replay.dead_letters import Choice, Listed, Replay, read_letters
from services.runtime.dead_letters import DeadLetter
from services.runtime.history import KafkaHistory
from services.runtime.records import Outgoing
from services.runtime.transactions import Transactions

WIDTH = 120  # of a message in a list
ABOUT_REPLAY = """\
Sends the original bytes to the partition that they came from, with the header thalweg-replayed, and marks the letter in
the same transaction: no letter is ever sent twice, whatever is killed, and of two commands at once the later one wins.
What is refused again becomes a new dead letter with its new place."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("dead-letter", help="list, show or replay the records that were refused")
    actions = parser.add_subparsers(required=True, metavar="list|show|replay")
    listing = actions.add_parser("list", help="a line per letter, and how many of each reason")
    showing = actions.add_parser("show", help="one letter, with its bytes")
    replaying = actions.add_parser("replay", help="send letters through again, after a fix", epilog=ABOUT_REPLAY)
    for action, run in ((listing, _list), (showing, _show), (replaying, _replay)):
        add_log(action)
        action.set_defaults(run=run)
    showing.add_argument("id", metavar="PLACE", help="as in the list: topic/partition/offset of the original")
    showing.add_argument("--raw", action="store_true", help="write the value's bytes and nothing else")
    for action in (listing, replaying):
        action.add_argument("--reason", metavar="R", help="of this reason: json, schema, key and so on")
        action.add_argument("--service", metavar="S", help="refused by this service")
        add_span(action, "refused")
    replaying.add_argument("--id", metavar="PLACE", help="this one alone")
    replaying.add_argument("--fix-key", action="store_true", help="send those of a wrong key under their right one")
    replaying.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")


def _list(given: argparse.Namespace) -> int:
    counts: Counter[str] = Counter()
    replayed: Counter[str] = Counter()
    for listed in _letters(given, Choice(given.reason, given.service, None, span(given))):
        counts[listed.letter.reason] += 1
        replayed[listed.letter.reason] += listed.replayed
        print(_line(listed))
    for reason, count in sorted(counts.items()):
        print(f"{reason}: {count}, {replayed[reason]} of them replayed")
    print(f"{counts.total()} dead letters")
    return 0


def _letters(given: argparse.Namespace, choice: Choice) -> Iterator[Listed]:
    stream, settings = connect(given)
    with closing(KafkaHistory(settings)) as history:
        yield from read_letters(history, stream, choice)


def _line(listed: Listed) -> str:
    letter = listed.letter
    message = _printable(" ".join(letter.message.split()))
    short = message if len(message) <= WIDTH else f"{message[: WIDTH - 1]}…"
    note = " (replayed)" if listed.replayed else ""
    return f"{letter.place}  {_when(listed)}  {letter.service}  {letter.reason}{note}: {short}"


def _when(listed: Listed) -> str:
    return time_text(listed.timestamp * 1000)


def _show(given: argparse.Namespace) -> int:
    listed = next(_letters(given, Choice(place=given.id)), None)
    if listed is None:
        raise ValueError(f"no dead letter {given.id}; thalweg dead-letter list names them: topic/partition/offset")
    if given.raw:
        sys.stdout.buffer.write(listed.letter.original()[1])
        return 0
    print(f"{listed.letter.place}, refused {_when(listed)} by {listed.letter.service}", end="")
    print(", sent through again" if listed.replayed else "")
    print(f"{listed.letter.reason}: {_printable(listed.letter.message)}")
    key, value = listed.letter.original()
    print(f"key: {None if key is None else _readable(key)}")
    print(f"value, {len(value)} bytes:\n{_readable(value)}")
    return 0


def _readable(content: bytes) -> str:
    """Return JSON laid out, text as it is, and what is neither with its bytes escaped."""
    try:
        text = msgspec.json.format(msgspec.json.encode(msgspec.json.decode(content)), indent=2).decode()
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        text = content.decode(errors="backslashreplace")
    return _printable(text)


def _printable(text: str) -> str:
    """Escape what a terminal would obey: the bytes are a stranger's."""
    return "".join(mark if mark.isprintable() or mark == "\n" else ascii(mark)[1:-1] for mark in text)


def _replay(given: argparse.Namespace) -> int:
    stream, settings = connect(given)
    choice = Choice(given.reason, given.service, given.id, span(given))
    replay = Replay(stream, fix_keys=given.fix_key)
    with closing(KafkaHistory(settings)) as history:
        write = _pretend if given.dry_run else Transactions(settings, stream.topic("dead-letter")).write
        sent = replay.run(read_letters(history, stream, choice), write)  # whose marks are read under that name
        counts = _say_sent("would be sent" if given.dry_run else "sent", sent)
    for letter in replay.left:
        print(f"left: {letter.place} ({letter.reason}), whose record is not in its letter", file=sys.stderr)
    if not counts and not replay.left:
        print("no dead letter that was not sent before")
    return 1 if replay.left else 0


def _pretend(_: Sequence[Outgoing]) -> None:
    """Write nothing."""


def _say_sent(done: str, letters: Iterator[DeadLetter]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for letter in letters:
        counts[letter.reason] += 1
        print(f"{done}: {letter.place} ({letter.reason})", flush=True)
    if counts:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        print(f"{counts.total()} dead letters {done}: {reasons}")
    return counts
