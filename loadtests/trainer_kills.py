"""The trainer killed with -9 at random instants: no example is lost or doubled, no version registered twice.

    .venv/bin/python loadtests/trainer_kills.py [--kills 20] [--events 8000] [--seed 1] [--broker kafka|embedded]

Each kill hits the service, the process that trains for it, or both. Prints what was done and found; exits with 1 if
anything is not as it must be. It aims at this machine only and stops by itself.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from infra.chaos.trainer import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--events", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", default="kafka", choices=["kafka", "embedded"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thalweg-") as folder:
        wanted = given.events, given.kills, given.seed, given.broker
        found = run(Path(folder), *wanted, lambda said: print(said, flush=True))
    print(f"kills: {', '.join(f'{number} x {whom}' for whom, number in sorted(found.kills.items()))}")
    print(f"{found.examples} examples in the table; versions {found.versions}, registered {found.registered}")
    for violation in found.violations:
        print(f"  {violation}")
    print(f"violations: {len(found.violations)}")
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main())
