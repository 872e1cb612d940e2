"""`thalweg backup` and `thalweg restore`: an installation's keys, models, states and table, without the log."""

import argparse
from pathlib import Path
from typing import Any

from infra.backup.manifest import NOT_COVERED, read_manifest
from infra.backup.restoring import restore
from infra.backup.taking import take
from infra.local.stack import REPOSITORY, claim

ABOUT = """\
Copied are the keys and tokens, the artifacts and their cards, the snapshots, the rows that wait for labels, the Delta
table, MLflow's file, the span store and the stream's folder; a run may be up meanwhile. The folder holds private keys:
keep it as you keep those. Not copied is the log: see the list that is printed, and kept in the back-up."""
ABOUT_RESTORE = """\
Every file is held to the size and the SHA-256 in the manifest first; nothing is overwritten. Then start the run on the
same log: services go on from the snapshots and fold in silence what came after them."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    taking = commands.add_parser("backup", help="copy an installation, without its log", epilog=ABOUT)
    _add(taking, "where to: a folder that is not there yet")
    taking.add_argument("--stream", default="flights", metavar="S", help="a folder under schemas/ (flights)")
    taking.set_defaults(run=_backup)
    restoring = commands.add_parser("restore", help="put a back-up in place", epilog=ABOUT_RESTORE)
    _add(restoring, "the folder of the back-up")
    restoring.set_defaults(run=_restore)


def _add(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help=what)
    parser.add_argument("--run-dir", type=Path, default=REPOSITORY / ".run", help="where runs keep data and logs")
    parser.add_argument("--schemas", type=Path, default=REPOSITORY / "schemas", help="the folder of stream folders")


def _backup(given: argparse.Namespace) -> int:
    made = take(given.run_dir / given.stream / "data", given.schemas, given.stream, given.folder)
    size = sum(file.size for file in made.files) / (1 << 20)
    print(f"{given.folder}: {len(made.files)} files, {size:.1f} MiB. It holds private keys. Not in it:")
    print("\n".join(f"- {line}" for line in NOT_COVERED))
    return 0


def _restore(given: argparse.Namespace) -> int:
    stream = read_manifest(given.folder).stream
    with claim(given.run_dir, stream):
        made, look = restore(given.folder, given.run_dir / stream / "data", given.schemas)
    print(f"{stream}: {len(made.files)} files are back in {given.run_dir / stream / 'data'}")
    print("\n".join([*look, *(f"not in it: {line}" for line in made.not_covered)]))
    return 0
