"""Stores: files that appear whole or not at all, and failures that say whether waiting helps."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem

from services.runtime.errors import ConfigError, Retry, Stop
from services.runtime.snapshots import Snapshots
from services.runtime.stores import LocalStore, Store, open_store


@pytest.fixture(params=["folder", "file", "memory"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield a fresh place of each kind."""
    name = uuid4().hex
    yield {"folder": f"{tmp_path}/a b", "file": f"file://{tmp_path}/a%20b", "memory": f"memory://{name}/a"}[
        request.param
    ]
    MemoryFileSystem.store.clear()


@pytest.fixture
def store(where: str) -> Store:
    return open_store(where)


def test_files(store: Store) -> None:
    """What was written is read, byte for byte, line and body; a second write takes its place."""
    store.write("x/y/2.snapshot", b"line\n", b"body\nof two lines")
    store.write("x/y/1.snapshot", b"other\n", b"")
    assert store.names("x/y") == ["1.snapshot", "2.snapshot"]
    assert store.read("x/y/2.snapshot") == (b"line\n", b"body\nof two lines")
    assert store.read("x/y/1.snapshot") == (b"other\n", b"")
    store.write("x/y/2.snapshot", b"new\n", b"body")
    assert store.read("x/y/2.snapshot") == (b"new\n", b"body")
    store.remove("x/y/2.snapshot")
    assert store.names("x/y") == ["1.snapshot"]


def test_nothing(store: Store) -> None:
    """A folder that is not there is empty, and a file that is gone is None and can be removed again."""
    assert store.names("x/y") == []
    assert store.read("x/y/1.snapshot") is None
    store.remove("x/y/1.snapshot")


def test_snapshots_anywhere(where: str, tmp_path: Path) -> None:
    """Snapshots are written, pruned and found in a store of any kind, by another process too, at the named place."""
    kept = Snapshots(tmp_path, "flights", "features", "rule", where)
    for offset in range(1, 6):
        kept.write(0, {"in": offset}, b"at %d" % offset)
    other = open_store(where)
    names = other.names("flights/features/0")
    assert names == [f"{offset:020d}.snapshot" for offset in (3, 4, 5)]
    other.write(f"flights/features/0/{names[-1]}", b"torn", b"")
    found = Snapshots(tmp_path, "flights", "features", "rule", where).newest(0, {"in": 9})
    assert found is not None
    assert found.state == b"at 4"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("where", ["file:/tmp/x", "file://tmp/x", "file://", "file:tmp"])
def test_file_urls(where: str) -> None:
    """A file URL that names no folder of this machine is refused, unless it is none at all: then it is a folder."""
    if "://" in where:
        with pytest.raises(ConfigError, match="three slashes"):
            open_store(where)
    else:
        assert isinstance(open_store(where), LocalStore)


@pytest.mark.parametrize(("where", "said"), [("nosuch://x/y", "Protocol not known"), ("gs://x/y", "gcsfs")])
def test_unknown_url(where: str, said: str) -> None:
    """A URL that nothing here can open is refused at once, with what is missing."""
    with pytest.raises(ConfigError, match=f"snapshots at {where}: .*{said}"):
        open_store(where)


def test_a_local_folder_loads_no_fsspec(tmp_path: Path) -> None:
    """A service that keeps its snapshots on its own disk starts without loading fsspec."""
    code = f"import sys; import services.runtime.process as p; p.Snapshots(p.Path({str(tmp_path)!r}), 's', 'x', 'r')"
    code = code.replace("p.Path", "__import__('pathlib').Path") + "; sys.exit('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# A disk that fails


def test_disk_full(tmp_path: Path) -> None:
    """A disk that is full is a Retry that says so; no draft is left, and the older file stands."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from services.runtime.stores import LocalStore\n"
        "from services.runtime.errors import Retry\n"
        "store = LocalStore(Path(sys.argv[1])); store.write('x/1.snapshot', b'old\\n', b'old')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "try: store.write('x/1.snapshot', b'new\\n', bytes(20000))\n"
        "except Retry as error: print(error, store.names('x'))\n"
        "store.write('x/2.snapshot', b'small\\n', b'small')"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == f"{tmp_path}/x/1.snapshot can't be written: {os.strerror(errno.EFBIG)} ['1.snapshot']\n"
    assert LocalStore(tmp_path).names("x") == ["1.snapshot", "2.snapshot"]
    assert LocalStore(tmp_path).read("x/1.snapshot") == (b"old\n", b"old")


def test_draft_of_a_dead_process(tmp_path: Path) -> None:
    """What a process left behind that was killed while it wrote is no snapshot, and is cleared away."""
    store = LocalStore(tmp_path)
    store.write("x/1.snapshot", b"\n", b"")
    (tmp_path / "x" / "2.4711.draft").write_bytes(b"half a stat")
    store.write("x/3.snapshot", b"\n", b"")
    assert store.names("x") == ["1.snapshot", "3.snapshot"]


def test_file_in_the_way(tmp_path: Path) -> None:
    """Where there is a file instead of a folder nothing can be read or written, and both say so."""
    (tmp_path / "x").write_text("")
    store = LocalStore(tmp_path)
    with pytest.raises(Retry, match=r"x/1.snapshot can't be written: "):
        store.write("x/1.snapshot", b"\n", b"")
    with pytest.raises(Retry, match=r"x can't be read: Not a directory"):
        store.names("x")
    with pytest.raises(Retry, match=r"x/1.snapshot can't be read: Not a directory"):
        store.read("x/1.snapshot")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Take from ourselves the right to look into a folder; root, whom modes don't stop, is somebody else meanwhile."""
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_no_permission(tmp_path: Path) -> None:
    """What may not be read stops the service with what to do: it is not the same as nothing. Writing can wait."""
    store = LocalStore(tmp_path)
    store.write("x/1.snapshot", b"\n", b"")
    with locked(tmp_path / "x"):
        with pytest.raises(Stop, match="x: Permission denied; let the user that runs this service read and write"):
            store.names("x")
        with pytest.raises(Stop, match=r"1\.snapshot: Permission denied"):
            store.read("x/1.snapshot")
        with pytest.raises(Retry, match=r"1\.snapshot can't be written: Permission denied"):
            store.write("x/1.snapshot", b"\n", b"")
        with pytest.raises(Retry, match=r"1\.snapshot can't be written: Permission denied"):
            store.remove("x/1.snapshot")


# A remote store that fails


class Away(MemoryFileSystem):
    """A file system that is away for the while."""

    protocol = "away"
    error: Exception = OSError("the network is down")

    def _fail(self, *_: Any, **__: Any) -> None:
        raise self.error

    ls = cat_file = pipe_file = rm_file = _fail


register_implementation("away", Away)


@pytest.mark.parametrize(
    "error", [OSError("down"), TimeoutError("down"), RuntimeError("down"), PermissionError("down")]
)
def test_remote_failures(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever a file system raises is waited out, but for a lack of rights where something is to be read."""
    monkeypatch.setattr(Away, "error", error)
    store = open_store("away://b/c")
    reading = Stop if isinstance(error, PermissionError) else Retry
    for family, act in (
        (reading, lambda: store.names("x")),
        (reading, lambda: store.read("x/1.snapshot")),
        (Retry, lambda: store.write("x/1.snapshot", b"", b"")),
        (Retry, lambda: store.remove("x/1.snapshot")),
    ):
        with pytest.raises(family, match=r"away://b/c/x.*down"):
            act()


class LateMemory(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system that connects when it is made, as ftp does."""

    protocol, cachable = "late", False
    away = True

    def __init__(self, **more: Any) -> None:
        if LateMemory.away:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        super().__init__(**more)


def test_a_server_that_is_away_at_the_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that can't connect yet is a Retry each time it is asked, as any other store's, until it can."""
    register_implementation("late", LateMemory, clobber=True)
    monkeypatch.setattr(LateMemory, "away", True)
    store = open_store("late://there/x")
    for ask in (lambda: store.names("a"), lambda: store.read("a/b"), lambda: store.write("a/b", b"l\n", b"b")):
        with pytest.raises(Retry, match=r"late://there/x/a.* can't be (read|written): .*Connection refused"):
            ask()
    monkeypatch.setattr(LateMemory, "away", False)
    store.write("a/b", b"l\n", b"b")
    assert (store.names("a"), store.read("a/b")) == (["b"], (b"l\n", b"b"))
