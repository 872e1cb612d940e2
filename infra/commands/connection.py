"""Which log a command works on: that of the run which is up here, or the broker that is named."""

import argparse
import datetime as dt
import os
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from infra.local import access
from infra.local.stack import REPOSITORY, read_running
from services.replay.verify import Span
from services.runtime.records import Position
from services.runtime.settings import Settings
from services.runtime.stream import Stream, load_stream

EVERY_S = 0.25
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the options that `connect` reads."""
    parser.add_argument("--stream", default="flights", metavar="S", help="a folder under schemas/ (flights)")
    parser.add_argument("--broker", metavar="HOST:PORT", help="the log to read (that of the run which is up here)")
    parser.add_argument("--run-dir", type=Path, default=REPOSITORY / ".run", help="where runs keep data and logs")
    parser.add_argument("--schemas", type=Path, default=REPOSITORY / "schemas", help="the folder of stream folders")


def add_span(parser: argparse.ArgumentParser, what: str) -> None:
    when = "RFC 3339 with a zone, such as 2013-01-05T14:00:00Z"
    parser.add_argument("--from", dest="start", type=micros, metavar="TIME", help=f"{what} from this time on; {when}")
    parser.add_argument("--to", dest="end", type=micros, metavar="TIME", help=f"{what} before this time")


def span(given: argparse.Namespace) -> Span:
    whole = Span()
    start = whole.start if given.start is None else given.start
    return Span(start, whole.end if given.end is None else given.end)


def micros(text: str) -> int:
    """Return an RFC 3339 time as microseconds since 1970."""
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a time such as 2013-01-05T14:00:00Z, got {text!r}") from error
    if time.tzinfo is None:
        raise argparse.ArgumentTypeError(f"expected a zone, as in {text}Z, got {text!r}")
    return (time - _EPOCH) // dt.timedelta(microseconds=1)


def connect(given: argparse.Namespace) -> tuple[Stream, Settings]:
    """Return the stream, and what a client of its log reads from."""
    stream = load_stream(given.schemas, given.stream)
    running = read_running(given.run_dir, stream.name)
    if given.broker:  # the environment says what lets us in, as it does to services
        settings = access.settings(given.broker, access.from_environment(os.environ))
        settings = replace(settings, data=given.run_dir / stream.name / "data")
    elif running:
        settings = running.settings(stream.name)
    else:
        raise ValueError(f"no run of {stream.name} is up here; start one (thalweg up) or name its --broker HOST:PORT")
    return stream, replace(settings, stream=stream.name, schemas=given.schemas)


class Progress:
    """Shows on a terminal how far a reading is; says nothing elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = 0.0

    def __call__(self, position: Position, done: int, end: int) -> None:
        now = time.monotonic()
        if self._terminal and now - self._shown >= EVERY_S:
            self._shown = now
            print(f"\r\x1b[K{position.topic}[{position.partition}] {done}/{end}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._terminal and self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
