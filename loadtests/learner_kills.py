"""The learner killed at random instants, against one never killed: the same state and scores, bit for bit.

.venv/bin/python loadtests/learner_kills.py [--kills 50] [--events 6000] [--seed 1]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from infra.chaos.learner import run

LABELLED = 0.9  # of the events, at least


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--events", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thalweg-") as folder:
        outcome = run(Path(folder), given.events, given.kills, given.seed, lambda said: print(said, flush=True))
    print(f"{outcome.kills} kills, {outcome.examples} examples; SHA-256 of the whole state, and of the last version:")
    print(f"  killed       {' '.join(outcome.killed)}")
    print(f"  undisturbed  {' '.join(outcome.undisturbed)}")
    print(f"  {outcome.scores} scores {'the same, bit for bit' if outcome.same_scores else 'DIFFER'}")
    if outcome.examples < LABELLED * given.events:
        print(f"that proves nothing: {outcome.examples} examples of {given.events} events", file=sys.stderr)
        return 1
    return 0 if outcome.same else 1


if __name__ == "__main__":
    sys.exit(main())
