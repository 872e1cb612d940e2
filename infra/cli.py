"""The command `thalweg`."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from infra.commands import (
    acls,
    backup,
    dead_letter,
    doctor,
    drift,
    forget,
    keys,
    models,
    replay,
    status,
    trace,
    train,
    verify,
)
from infra.compose.composition import FILES, NotComposed, compose
from infra.compose.engine import EngineError
from infra.compose.up import up
from infra.local import demo, instances
from infra.local.brokers import BrokerUnavailable
from infra.local.processes import ChildDied
from infra.local.replayer import NoSource
from infra.local.stack import CONSOLE, REPOSITORY, AlreadyUp, Options, Stack
from infra.local.supervision import Supervisor
from infra.local.triton import TritonUnavailable
from services.runtime.errors import ThalwegError
from services.runtime.logs import masked
from services.runtime.stream import load_stream

EXPECTED = (
    *(ThalwegError, BrokerUnavailable, TritonUnavailable, ChildDied, NoSource, AlreadyUp, ValueError),
    *(EngineError, NotComposed),
)
LOCAL = ("partitions", "broker", "brokers", "guarded", "instances", "otlp", "schemas")  # options of the local runtime
INTERRUPTED = 130
FLIGHTS = "flights"
SPEED = """seconds of event time a second (the stream's own); max: as fast as it is taken, but not while a version of
the batch model is trained"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0 well, 1 something is wrong, 130 interrupted."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(given.run(given))
    except EXPECTED as error:
        print(f"\nthalweg: {masked(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="thalweg", description="Events in, predictions out, learning as labels land.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("demo", help="play a stream's recorded data through a whole run, and report")
    _add_stack(show)
    show.add_argument("--events", type=_count, default=20_000, metavar="N", help="how many events to play (20000)")
    show.add_argument("--speed", type=_speed, metavar="X|max", help=SPEED)
    show.add_argument("--report", type=Path, metavar="FILE", help="write what was measured, as JSON")
    flip = "turn the labels round of all events but the first N, and watch what is done about it"
    show.add_argument("--flip-after", type=_count, metavar="N", help=flip)
    show.add_argument("--keep", action="store_true", help="stay up afterwards, until Ctrl-C")
    show.set_defaults(run=_demo)
    run = commands.add_parser("up", help="run a stream until Ctrl-C; a part that dies is named and started again")
    _add_stack(run)
    runtime = "local: processes of this machine; docker: the containers of compose.yaml (local)"
    run.add_argument("--runtime", choices=("local", "docker"), default="local", help=runtime)
    laid = "of --runtime docker, may be given again: laid over those before (compose.yaml)"
    run.add_argument("--compose-file", type=Path, action="append", metavar="FILE", help=laid)
    run.set_defaults(run=_up, stream=None, usual=run.get_default)
    for command in (show, run):
        command.add_argument("--run-dir", type=Path, default=REPOSITORY / ".run", help="where runs keep data and logs")
        command.add_argument(
            "--schemas", type=Path, default=REPOSITORY / "schemas", help="the folder of stream folders"
        )
    for module in (
        status,
        doctor,
        trace,
        verify,
        replay,
        dead_letter,
        train,
        models,
        drift,
        keys,
        backup,
        acls,
        forget,
    ):
        module.add(commands)
    return parser


def _add_stack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stream", default=FLIGHTS, metavar="S", help=f"a folder under schemas/ ({FLIGHTS})")
    parser.add_argument("--partitions", type=_count, default=3, metavar="P", help="partitions of a topic (3)")
    parser.add_argument("--broker", default="embedded", metavar="embedded|kafka|HOST:PORT", help="which log (embedded)")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1, help="nodes of --broker kafka (1)")
    guarded = "--broker kafka with TLS, a user and a password for each service, and rules of who may do what"
    parser.add_argument("--guarded", action="store_true", help=guarded)
    parser.add_argument("--instances", metavar="SERVICE=N,...", help="run some services more than once (1 of each)")
    otlp = "where traces go: the run's own console, or another OTLP/HTTP receiver (console)"
    parser.add_argument("--otlp", default=CONSOLE, metavar="console|off|URL", help=otlp)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text!r}")
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float("inf") if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0 or 'max', got {text!r}")
    return speed


def _options(given: argparse.Namespace, *, fresh: bool) -> Options:
    counts = instances.parse(given.instances) if given.instances else {}
    parts = given.stream or FLIGHTS, given.partitions, given.broker, given.run_dir, fresh, given.brokers, counts
    return Options(*parts, guarded=given.guarded, otlp=given.otlp)


def _demo(given: argparse.Namespace) -> int:
    ours = given.broker in ("embedded", "kafka")
    played = given.events, given.speed, given.report, given.keep, given.flip_after
    wanted = demo.Demo(_options(given, fresh=ours), given.schemas, *played)
    return 0 if demo.run(wanted) else 1


def _up(given: argparse.Namespace) -> int:
    if given.runtime == "docker":
        _up_in_containers(given)
    if given.compose_file:
        raise ValueError("--compose-file is of --runtime docker")
    stream = load_stream(given.schemas, given.stream or FLIGHTS)
    with Stack(_options(given, fresh=given.broker == "embedded"), stream, given.schemas) as stack:
        print(
            f"{stream.name} is up: broker {stack.broker.address}, POST to"
            f" {stack.ingestion}/v1/streams/{stream.name}/events, logs in {stack.folder / 'logs'}; Ctrl-C stops it\n"
            f"console: {stack.console_page}{stack.was_cleared}",
            flush=True,
        )
        supervisor = Supervisor(stack.children)
        while True:
            supervisor.check()
            time.sleep(0.2)


def _up_in_containers(given: argparse.Namespace) -> NoReturn:
    if refused := [f"--{name}" for name in LOCAL if getattr(given, name) != given.usual(name)]:
        raise ValueError(f"{', '.join(refused)}: of --runtime local; what containers are told stands in .env")
    up(compose(given.compose_file or FILES, given.stream), given.run_dir)


if __name__ == "__main__":
    sys.exit(main())
