"""`thalweg status`: what each part of a run is doing, now or as it goes on."""

import argparse
import logging
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live

from infra.commands.status_shown import Shown
from infra.local import status
from infra.local.picture import Watch
from infra.local.stack import REPOSITORY, Running, read_running
from services.runtime.stream import Stream, load_stream

EVERY_S = 1.0
ABOUT = """\
On a terminal it goes on until Ctrl-C: services with the records a second that they read and write, what they have not
done yet and for how long the oldest of that has waited, topics, models, alerts that stand, labels. Of topics that hold
batches a record is a batch. A part that is down is named. Elsewhere, or with --once, it looks once and says it in
lines; exit status 1 then if a service is not ready."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    look = commands.add_parser("status", help="what each service of a run is doing, live on a terminal", epilog=ABOUT)
    look.add_argument("--stream", default="flights", metavar="S")
    how = look.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="once, for a program to read")
    how.add_argument("--once", action="store_true", help="look once")
    how.add_argument("--live", action="store_true", help="go on until Ctrl-C, even where this is no terminal")
    look.add_argument("--run-dir", type=Path, default=REPOSITORY / ".run", help="where runs keep data and logs")
    look.add_argument("--schemas", type=Path, default=REPOSITORY / "schemas", help="the folder of stream folders")
    look.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    running = read_running(given.run_dir, given.stream)
    if running is None:
        raise ValueError(f"no run of {given.stream} is up here; start one (thalweg up)")
    if given.live or (sys.stdout.isatty() and not given.json and not given.once):
        return _watch(given, load_stream(given.schemas, given.stream), running)
    states = status.read_status(given.stream, running)
    print(msgspec.json.format(msgspec.json.encode(states), indent=2).decode() if given.json else status.show(states))
    return 0 if all(state.ready for state in states.values()) else 1


def _watch(given: argparse.Namespace, stream: Stream, running: Running) -> int:
    """Draw until Ctrl-C, or until the run has ended; leave the last picture on the terminal."""
    client = logging.getLogger("librdkafka")  # that a broker is away is in the picture
    client.addHandler(logging.NullHandler())
    client.propagate = False
    console, shown = Console(highlight=False), None
    with closing(Watch(stream, running)) as watch:
        try:
            with Live(console=console, screen=console.is_terminal, auto_refresh=False, transient=True) as live:
                while read_running(given.run_dir, given.stream) is not None:
                    began = time.monotonic()
                    picture = watch.look()
                    name = f"{stream.name}, {time.strftime('%H:%M:%S')}"
                    shown = Shown(picture, name, once=True)
                    live.update(Shown(picture, name), refresh=True)
                    time.sleep(max(EVERY_S - (time.monotonic() - began), 0.0))
        except KeyboardInterrupt:
            ended = 0
        else:
            ended = 1
    if shown is not None:
        console.print(shown)
    if ended:
        console.print(f"the run of {stream.name} has ended")
    return ended
