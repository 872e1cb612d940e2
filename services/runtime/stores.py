"""Where snapshots are kept: a local folder, or whatever file system fsspec finds behind a URL.

A file is one line and a body. On a local disk it appears whole (write, sync, rename). An object store takes a put whole
or not at all; a file system that does neither tears files, which their readers notice by the checksum.

What can't be written, or not be read just now, is a Retry. What a person has to mend before anything can be read (no
access, no bucket) is a Stop: to take it for "there is no snapshot" would fold a partition from its beginning.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

from services.runtime.errors import ConfigError, Retry, Stop, Unusable
from services.runtime.files import NOT_PLAIN, open_plain, size

LONGEST_LINE = 1 << 16
Bound: TypeAlias = Callable[[bytes], int]  # of a body's bytes, given the line before it; may raise Unusable


class Store(Protocol):
    """Files by a path of the form `folder/name`."""

    def names(self, folder: str) -> list[str]:
        """Return the files of a folder, in order; none where there is no such folder."""

    def read(self, path: str, bound: Bound | None = None) -> tuple[bytes, bytes] | None:
        """Return the first line and the rest, or None if the file is gone.

        Raise Unusable if it is no plain file, or if the rest is more than is bearable; that is not read then.
        """

    def write(self, path: str, line: bytes, body: bytes) -> None: ...

    def remove(self, path: str) -> None:
        """Remove the file, if it is there."""

    def place(self, path: str) -> str:
        """Return what an operator would call it."""


def open_store(where: str) -> Store:
    """Return the store at a folder, a `file://` URL or any other URL that fsspec knows."""
    url = urlsplit(where)
    if "://" not in where:
        return LocalStore(Path(where))
    if url.scheme != "file":
        from services.runtime.remote_store import RemoteStore  # noqa: PLC0415 - 0.15 s that a local folder needn't pay

        return RemoteStore(where)
    if url.netloc or not url.path.startswith("/"):
        raise ConfigError(f"{where}: a folder of this machine is file:///path, with three slashes")
    return LocalStore(Path(unquote(url.path)))


class LocalStore:
    """A folder on this machine, or mounted on it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, folder: str) -> list[str]:
        with _reading(self._root / folder):
            try:
                return sorted(path.name for path in (self._root / folder).iterdir())
            except FileNotFoundError:
                return []

    def read(self, path: str, bound: Bound | None = None) -> tuple[bytes, bytes] | None:
        with _reading(self._root / path):
            try:
                file = open_plain(self._root / path)
            except FileNotFoundError:
                return None
            with file:
                return _line_and_body(file, bound)

    def write(self, path: str, line: bytes, body: bytes) -> None:
        """Write it beside its place and move it there. Drafts that others left when they died are cleared away."""
        target = self._root / path
        draft = target.with_suffix(f".{os.getpid()}.draft")
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            for left in target.parent.glob("*.draft"):
                left.unlink(missing_ok=True)
            try:
                _write(draft, line, body)
                draft.rename(target)
            finally:
                draft.unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        with _writing(self._root / path):
            (self._root / path).unlink(missing_ok=True)

    def place(self, path: str) -> str:
        return str(self._root / path)


def _line_and_body(file: BinaryIO, bound: Bound | None) -> tuple[bytes, bytes]:
    line = file.readline(LONGEST_LINE)
    if bound is not None:
        check_size(size(file) - len(line), bound(line))
    return line, file.read()


def check_size(found: int, most: int) -> None:
    """Raise Unusable for more bytes than were signed for."""
    if found > most:
        raise Unusable(f"torn or damaged: it has {found} bytes, and {most} were signed for")


def _write(path: Path, line: bytes, body: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        for part in (line, body):
            left = memoryview(part)
            while left:
                left = left[file.write(left) :]
        os.fsync(file.fileno())


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Stop(f"{path}: {error.strerror}; let the user that runs this service read and write there") from error
    except OSError as error:
        if error.errno in NOT_PLAIN:
            raise Unusable(str(error.strerror)) from error
        raise Retry(f"{path} can't be read: {error.strerror}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Retry(f"{path} can't be written: {error.strerror}") from error
