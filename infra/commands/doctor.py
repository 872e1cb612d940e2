"""`thalweg doctor`: looks at everything that a run stands on, and says of each whether it is well and what to do."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from infra.commands.connection import add_log, connect
from infra.doctor import installed, keys, log, machine, running, streams
from infra.doctor.findings import Finding, healthy, lines, ok, wrong
from infra.local import triton
from infra.local.stack import PORTS, REPOSITORY, Running, read_running
from services.runtime.errors import ConfigError

LOCKS = REPOSITORY / "infra" / "locks"
ABOUT = """\
Brokers, topics and their settings, clocks, disks, memory, ports, Triton, a GPU, versions, keys, stream folders: a line
each, ok, a warning, or what is wrong and what to do. With a run up it looks at that run, with --broker at that log,
else at what a run would need. Nothing is written or changed. Exit status 1 if anything is wrong; not for a warning."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    look = commands.add_parser("doctor", help="what is well, what is wrong, and what to do about it", epilog=ABOUT)
    add_log(look)
    look.add_argument("--json", action="store_true", help="for a program to read")
    look.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    found = list(examine(given))
    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() if given.json else "\n".join(lines(found)))
    return 0 if healthy(found) else 1


def examine(given: argparse.Namespace) -> Iterator[Finding]:
    """Yield every finding; one part that fails in a way nobody foresaw is named, and the others go on."""
    up = read_running(given.run_dir, given.stream)
    parts: list[tuple[str, Callable[[], Sequence[Finding]]]] = [
        ("versions", lambda: _versions(given)),
        ("machine", lambda: _machine(given, up)),
        ("keys", lambda: _keys(given, up)),
        ("schemas", lambda: streams.schemas(given.schemas)),
        ("broker", lambda: _log(given, up)),
        ("run", lambda: _up(given, up)),
    ]
    for name, part in parts:
        try:
            yield from part()
        except Exception as error:  # noqa: BLE001 - a doctor that falls ill says so, and looks on
            yield wrong(name, f"could not be looked at: {type(error).__name__}: {error}", "report this")


def _versions(given: argparse.Namespace) -> list[Finding]:
    home = triton.ENVIRONMENT
    server = installed.packages(
        "packages of Triton", LOCKS / "triton.txt", installed.present([str(triton.PACKAGES)]), None
    )
    ours = installed.packages("packages", LOCKS / "thalweg.txt", installed.present(), installed.needed_by_us())
    return [
        installed.python(sys.version_info[:2]),
        ours,
        *([server] if home.exists() else []),
        *installed.triton(triton.SERVER),
        installed.java(wanted=given.broker == "kafka"),
        installed.gpu(),
    ]


def _machine(given: argparse.Namespace, up: Running | None) -> list[Finding]:
    found = [
        machine.disk("disk", given.run_dir),
        machine.disk("shared memory", machine.SHARED, machine.SHARED_WRONG, machine.SHARED_WARNING),
        machine.read_memory(up=up is not None),
        machine.open_files(),
    ]
    return found if up else [*found, *machine.ports(PORTS.items())]


def _keys(given: argparse.Namespace, up: Running | None) -> list[Finding]:
    data = Path(up.data) if up else given.run_dir / given.stream / "data"
    return [keys.pair(data / "keys"), *keys.permissions(data)]


def _log(given: argparse.Namespace, up: Running | None) -> list[Finding]:
    if given.broker is None and up is None:
        return [ok("broker", "nothing is up here; name one to look at it: --broker HOST:PORT")]
    try:
        stream, settings = connect(given)
    except ConfigError as error:
        return [wrong("topics", f"not looked at, as the stream can't be read: {error}", "correct its folder")]
    return log.look(settings, stream)


def _up(given: argparse.Namespace, up: Running | None) -> list[Finding]:
    if up is None:
        return [ok("run", f"no run of {given.stream} is up here; thalweg up starts one")]
    ready = [running.triton_ready(up.triton)] if up.triton else []
    return [ok("run", f"{given.stream} is up, process {up.pid}"), *running.services(up), *ready]
