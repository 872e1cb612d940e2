"""What was folded from the topics and is kept in files: snapshots, waiting rows, the table of examples, spans."""

import sqlite3
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import closing
from pathlib import Path

import msgspec

from services.console.store import Rest
from services.runtime.stores import Store
from services.trainer import forgetting

STATEFUL = ("features", "labels")  # whose states hold keys and ids; others hold what was learned or counted
CHUNK = 1 << 20


def states(store: Store, stream: str, partitions: int, needles: AbstractSet[bytes], *, remove: bool) -> dict[str, int]:
    """Return, by service, how many files tell of the key's partitions; `remove` them, so that they are folded anew."""
    found: dict[str, int] = {}
    for service in STATEFUL:
        for partition in range(partitions):
            paths = list(_paths(store, f"{stream}/{service}/{partition}"))
            if not any(_tells(store, path, needles) for path in paths):
                continue
            found[service] = found.get(service, 0) + len(paths)
            for path in paths if remove else ():
                store.remove(path)
    return found


def _paths(store: Store, folder: str) -> Iterator[str]:
    """Yield a partition's snapshots, and the segments on which they rely."""
    yield from (f"{folder}/{name}" for name in store.names(folder) if name.endswith(".snapshot"))
    yield from (f"{folder}/segments/{name}" for name in store.names(f"{folder}/segments"))


def _tells(store: Store, path: str, needles: AbstractSet[bytes]) -> bool:
    content = b"".join(store.read(path) or ())
    return any(needle in content for needle in needles)


def tables(root: str, stream: str) -> list[str]:
    """Return the tables of examples of all feature sets that are in a folder."""
    folder = Path(root) / stream / "examples"
    return sorted(str(path) for path in folder.iterdir()) if folder.is_dir() else []


def examples(root: str, stream: str, key: str, *, remove: bool) -> int:
    """Return how many rows of examples are of the key; `remove` them from all versions."""
    count = forgetting.forget if remove else forgetting.rows_of
    return sum(count(place, key) for place in tables(root, stream))


def spans(path: Path, words: AbstractSet[str], *, remove: bool) -> int:
    """Return how many spans are of traces that name the key or its events; `remove` them, off the disk too.

    A damaged store that was moved aside goes whole.
    """
    aside = path.with_name(f"{path.name}.damaged")
    if remove:
        aside.unlink(missing_ok=True)
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT trace, event, rest FROM spans")
        traces = {trace for trace, event, rest in rows if event in words or _names(rest, words)}
        counts = [_count(database, trace) for trace in traces]
        if remove and traces:
            database.execute("PRAGMA secure_delete = ON")
            with database:
                database.executemany("DELETE FROM spans WHERE trace = ?", [(trace,) for trace in traces])
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return sum(counts)


def _count(database: sqlite3.Connection, trace: bytes) -> int:
    (count,) = database.execute("SELECT COUNT(*) FROM spans WHERE trace = ?", (trace,)).fetchone()
    return int(count)


def _names(rest: bytes, words: AbstractSet[str]) -> bool:
    told = msgspec.msgpack.decode(rest, type=Rest)
    values = [
        *told.attributes.values(),
        *(value for one in told.events for value in one.get("attributes", {}).values()),
    ]
    return any(isinstance(value, str) and value in words for value in values)


def still_there(folders: list[Path], needles: AbstractSet[bytes], passed: AbstractSet[Path]) -> list[Path]:
    """Return the files that hold one of these words, but for those below the folders `passed`."""
    files = (
        path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()
    )
    return [path for path in files if not passed & set(path.parents) and _holds(path, needles)]


def _holds(path: Path, needles: AbstractSet[bytes]) -> bool:
    most, kept = max(map(len, needles), default=0), b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            content = kept + chunk
            if any(needle in content for needle in needles):
                return True
            kept = content[-most:]
    return False
