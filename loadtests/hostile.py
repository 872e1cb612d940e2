"""Sends malformed records and bodies at a whole running Thalweg, good ones between them, and accounts for every one.

    .venv/bin/python loadtests/hostile.py [--records N] [--seed S] [--broker embedded|kafka] [--report FILE]

Half goes through the HTTP door, half straight onto `events` and `labels`. Then an independent reader says whether each
good event was predicted once and each good label became an example, each bad line was refused with its reason, each bad
record is a dead letter, once, with its bytes; no process ended, and none grew. Exit status 1 otherwise.
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from attack import GOOD, Attack
from bodies import closed
from footprint import footprint
from witness import Witness

from infra.local.replayer import records
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.stream import load_stream

SCHEMAS = REPOSITORY / "schemas"
WARM = 0.3  # of the run: by then every kind was seen
GROWTH = 1.25  # times what a service had when it was warm, and
ROOM = 64 << 20  # these bytes more, is what it may have at the end
PATIENCE_S = 3.0  # ingestion's, with a slow body
CLOSED_S = 20.0  # within which a slow connection must have been closed
BROKERS = ("tansu", "java")  # they keep what they are sent
SHOWN = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="malformed records and bodies (100000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", default="embedded", choices=["embedded", "kafka"])
    parser.add_argument("--report", type=Path, metavar="FILE", help="write what was found, as JSON")
    given = parser.parse_args()
    os.environ["THALWEG_INGESTION_PATIENCE_S"] = str(PATIENCE_S)
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        report = run(given.records, given.seed, Options("flights", broker=given.broker, run_dir=Path(folder)))
    say(report)
    if given.report is not None:
        given.report.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return 1 if report["violations"] else 0


def run(count: int, seed: int, options: Options) -> dict[str, Any]:
    """Attack a fresh stack; return what was sent, what was wrong, and how large the processes were."""
    stream, began = load_stream(SCHEMAS, options.stream), time.monotonic()
    with Stack(options, stream, SCHEMAS) as stack, closing(Witness(stack.settings, stream)) as witness:
        attack = Attack(stack.ingestion, stack.broker.address, stream, Random(seed))  # noqa: S311 - a seeded run
        first, slow = footprint(), list(attack.bodies.slow())
        warm = _attack(attack, count, stack)
        attack.expected.violations += [f"still open: {kind}" for kind, c in slow if not closed(c, CLOSED_S)]
        violations = witness.read(attack.expected, stack.check)
        last = footprint()
    violations += _changes(first, warm, last)
    expected = attack.expected
    return {
        "seed": seed,
        "broker": f"{stack.broker.kind} {stack.broker.version}",
        "seconds": round(time.monotonic() - began, 1),
        "bad": expected.bad,
        "good": expected.kinds.total() - expected.bad,
        "letters": expected.letters.total(),
        "kinds": dict(sorted(expected.kinds.items())),
        "memory_mb": {name: [mb(warm[pid, name]), mb(last.get((pid, name), 0))] for pid, name in warm},
        "violations": violations,
    }


def _attack(attack: Attack, count: int, stack: Stack) -> dict[tuple[int, str], int]:
    """Send slices until so many malformed records are sent; return how large the processes were when warm."""
    good, number, warm = records(SCHEMAS, stack.stream.name, count), 0, footprint()
    while (sent := attack.expected.bad) < count:
        attack.send(number, list(islice(good, GOOD)))
        if sent < WARM * count:
            warm = footprint()
        stack.check()
        number += 1
    return warm


def _changes(
    first: dict[tuple[int, str], int], warm: dict[tuple[int, str], int], last: dict[tuple[int, str], int]
) -> list[str]:
    """Say which process is another, and which service has grown."""
    found = [f"{name} ended, or was started again" for _, name in first.keys() ^ last.keys()]
    mine = [process for process in last.keys() & warm.keys() if not process[1].startswith(BROKERS)]
    grown = [process for process in mine if last[process] > GROWTH * warm[process] + ROOM]
    return found + [f"{name} grew from {mb(warm[pid, name])} to {mb(last[pid, name])} MB" for pid, name in grown]


def mb(size: int) -> int:
    return round(size / 1e6)


def say(report: dict[str, Any]) -> None:
    """Print the report for a person."""
    for kind, n in report["kinds"].items():
        print(f"{n:>8} {kind}")
    for name, (warm, last) in report["memory_mb"].items():
        print(f"{name:<12} {warm:>5} MB when warm, {last:>5} MB at the end")
    print(
        f"{report['bad']} malformed, {report['good']} good, {report['letters']} dead letters, in {report['seconds']} s"
    )
    for violation in report["violations"][:SHOWN]:
        print(f"VIOLATION: {violation[:500]}")
    print(f"violations: {len(report['violations'])}")


if __name__ == "__main__":
    sys.exit(main())
