"""Taking a back-up: a copy that fits together, though services write while it is made.

A file that is gone when its turn comes was replaced by a newer one, which is copied or is not needed.
"""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from infra.backup.manifest import DATABASE, FIRST, LEFT_OUT, MANIFEST, SIDES, Manifest, described


def take(data: Path, schemas: Path, stream: str, into: Path) -> Manifest:
    """Copy an installation's data and its stream into a new folder; whole, or ValueError and not at all."""
    if into.exists():
        raise ValueError(f"{into} is there already; name a folder that is not")
    if not (data / "keys").is_dir():
        raise ValueError(f"{data} holds no installation: there are no keys")
    draft = into.with_name(f".{into.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    try:
        _copy_parts(data, draft / "data")
        shutil.copytree(schemas / stream, draft / "schemas" / stream, ignore=shutil.ignore_patterns("__pycache__"))
        files = tuple(described(draft, path) for path in sorted(draft.rglob("*")) if path.is_file())
        manifest = Manifest(stream, time.time(), files)
        (draft / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        draft.rename(into)
    except OSError as error:
        raise ValueError(f"no back-up was made: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _copy_parts(data: Path, into: Path) -> None:
    done: set[Path] = set()
    for path in _files(data):
        if path not in done:
            done.add(path)
            copy = _copy_database if path.suffix == DATABASE else _copy
            copy(path, into / path.relative_to(data))


def _files(data: Path) -> Iterator[Path]:
    """Yield what there is in the order of the manifest; each folder is listed when its turn comes."""
    for pattern in (*FIRST, "*"):
        for part in sorted(data.glob(pattern)):
            if part.name not in LEFT_OUT:
                yield from sorted(filter(_kept, part.rglob("*"))) if part.is_dir() else filter(_kept, [part])


def _kept(path: Path) -> bool:
    """Whether it is a file in its place, and no draft of one."""
    plain = path.is_file() and not path.is_symlink()
    return plain and not path.name.startswith(".") and not path.name.endswith(SIDES)


def _copy(path: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy2(path, target)


def _copy_database(path: Path, target: Path) -> None:
    """Have SQLite copy it: what is written meanwhile is in the copy whole, or not at all."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
    finally:
        copy.close()
        source.close()
