"""The file of the keys: read again when it has changed, and changed by one at a time, whole or not at all."""

import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from services.ingestion.issuing import Fresh
from services.ingestion.keys import Book, Keyring
from services.runtime.errors import ConfigError

log = logging.getLogger(__name__)
OURS = 0o600
OTHERS = stat.S_IWGRP | stat.S_IRWXO  # what nobody but its owner may; its group may read, as with mounted secrets
_Seen: TypeAlias = tuple[int, int, int, int]


def keys_path(data: Path) -> Path:
    """Return where they are, unless a setting says otherwise."""
    return data / "ingestion" / "keys.json"


def draw() -> Fresh:
    """Draw a key."""
    return Fresh(secrets.token_hex(6), secrets.token_urlsafe(32))


class KeyFile:
    """The keys that are good now. ConfigError at the beginning if the file is there and not as it has to be.

    Later on what was read last stays in force while the file is not good, or gone: nothing opens by an accident.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ring: Keyring | None = None
        self._name = str(path)
        self._seen = _look(self._name)
        if self._seen is not None:
            self._ring = _read(path)

    def ring(self) -> Keyring | None:
        """Return them, read again if the file is another one; None where there has never been a file."""
        seen = _look(self._name)
        if seen != self._seen:
            self._seen = seen
            self._read_again()
        return self._ring

    def _read_again(self) -> None:
        try:
            self._ring = _read(self.path)
        except ConfigError as error:
            log.error("%s; the keys that were read before stay in force", error)  # noqa: TRY400 - the file's fault
        else:
            log.info("%s was read again", self.path)


def read_book(path: Path) -> Book:
    """Return what is in the file; ConfigError says what is wrong with it."""
    try:
        _check_mode(path)
        return msgspec.json.decode(path.read_bytes(), type=Book)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: no file of keys: {error}") from error


def change(path: Path, how: Callable[[Book], Book]) -> None:
    """Write what `how` makes of the file; two that change it at once come one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write(path, how(read_book(path) if path.exists() else Book()))


def _write(path: Path, book: Book) -> None:
    content = msgspec.json.format(msgspec.json.encode(book), indent=2) + b"\n"
    msgspec.json.decode(content, type=Book)  # raises a ValueError before what nobody could read is written
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=OURS)
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _read(path: Path) -> Keyring:
    try:
        return Keyring(read_book(path).producers)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _look(path: str) -> _Seen | None:
    """Return what tells one state of the file from another; None if it is not there. It is asked at every request."""
    try:
        found = os.stat(path)  # noqa: PTH116 - Path.stat() takes four times as long
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode


def _check_mode(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS:
        raise ConfigError(f"{path}: others may read or change it (mode {mode:04o}); chmod 600 {path}")
