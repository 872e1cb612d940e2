"""Drift killed with -9 at random instants under load: the same alerts, each once, and every row counted once.

    .venv/bin/python loadtests/drift_kills.py [--kills 20] [--events 50000] [--seed 1] [--broker kafka|embedded]

Prints what was done and found; exits with 1 if anything is not as it must be. It aims at this machine only and stops by
itself.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from infra.chaos.drift import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", default="kafka", choices=["kafka", "embedded"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thalweg-") as folder:
        wanted = given.events, given.kills, given.seed, given.broker
        found = run(Path(folder), *wanted, lambda said: print(said, flush=True))
    rows = ", ".join(f"{number} rows of {kind}" for kind, number in found.rows.items())
    print(f"{found.kills} kills; {rows}; {found.summaries} summaries, {found.again} of them written again")
    print(f"{found.went_on} starts went on from a saved state")
    print(f"{found.alerts} alerts, all there {found.done_s} s after the last kill")
    for violation in found.violations:
        print(f"  {violation}")
    print(f"violations: {len(found.violations)}")
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
