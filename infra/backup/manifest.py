"""What a back-up is: a folder with a manifest, what of the data folder no log can bring back soon, and the stream.

    manifest.json   what the back-up is of, and each file with its size and SHA-256
    data/           keys, tokens, artifacts, snapshots and rows that wait, the Delta table, spans, mlflow.db
    schemas/        the stream's folder

It holds private keys, so it is for its owner alone. The log is not in it: Kafka has its own ways.
"""

from hashlib import file_digest
from pathlib import Path, PurePosixPath

import msgspec

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = ".db"  # SQLite: copied by SQLite, while others write
SIDES = (".db-wal", ".db-shm", ".db-journal", ".draft")  # what belongs to a file that is being written
# In this order, and then all others. What refers comes before what it refers to, which is only added to: snapshots
# before the rows and the table that they rely on, a table's log before its files.
FIRST = ("keys", "state/*/*/*/*.snapshot", "state", "segments", "store/**/_delta_log")
LEFT_OUT = ("drift",)
NOT_COVERED = (
    "The log: topics, consumer groups with their offsets, transactions. If Kafka is lost, events are: replicate it.",
    "Snapshots that are ahead of a log which began anew: they are removed when services start, and it is folded again.",
    "The tables of drift: they come back from their changelogs, on Kafka.",
    "What settings keep elsewhere (THALWEG_SNAPSHOTS, THALWEG_TRAINER_STORE, THALWEG_TRAINER_MLFLOW); the environment.",
)


class File(msgspec.Struct, frozen=True):
    """`path` is below the back-up's folder, with slashes."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """`made` is in seconds since 1970; `not_covered` says what has to be kept in other ways."""

    stream: str
    made: float
    files: tuple[File, ...]
    format: int = FORMAT
    not_covered: tuple[str, ...] = NOT_COVERED


def described(root: Path, path: Path) -> File:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return File(path.relative_to(root).as_posix(), path.stat().st_size, digest)


def read_manifest(root: Path) -> Manifest:
    """Return the manifest; ValueError says why this is no back-up that could be restored."""
    try:
        found = msgspec.json.decode((root / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{root} is no back-up: {error}") from error
    if found.format != FORMAT:
        raise ValueError(f"{root} is a back-up of format {found.format}; this release reads {FORMAT}")
    for file in found.files:
        parts = PurePosixPath(file.path).parts
        if not parts or parts[0] not in ("data", "schemas") or ".." in parts or "\0" in file.path:
            raise ValueError(f"{root}: {file.path!r} is no path of a back-up")
    return found


def damaged(root: Path, manifest: Manifest) -> list[str]:
    """Return what is missing, is a link, or is not as it was when the back-up was made."""
    found = []
    for file in manifest.files:
        path = root / file.path
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
            found.append(f"{file.path} is missing")
        elif described(root, path) != file:
            found.append(f"{file.path} has changed")
    return found
