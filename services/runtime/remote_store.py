"""Snapshots behind a URL, through fsspec: the one home of that library.

`s3://bucket/prefix` needs s3fs (`pip install thalweg[s3]`), other stores their own package. Credentials, endpoint and
region come from the environment, as the file system's own client reads them (`AWS_…` for S3).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from fsspec.core import url_to_fs

from services.runtime.errors import ConfigError, Retry, Stop, Unusable
from services.runtime.stores import LONGEST_LINE, Bound, check_size

SOON_READ = 1 << 26  # bytes
_TIMEOUTS = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 1}}  # the loop tries again itself
_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": _TIMEOUTS}}


class RemoteStore:
    """Files below a URL. A listing is always asked for anew: other processes write there too.

    Some file systems, such as ftp, connect when they are made: one that can't yet is made when it is asked for.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._opened: tuple[Any, str] | None = None
        with suppress(Retry), _reading(self._url):
            self._open()

    def _open(self) -> tuple[Any, str]:
        """Return the file system, and where in it the files are; ConfigError for a URL that is none of fsspec's."""
        if self._opened is None:
            options = _OPTIONS.get(self._url.partition("://")[0], {})
            try:
                files, root = url_to_fs(self._url, use_listings_cache=False, **options)
            except (ImportError, ValueError) as error:
                raise ConfigError(f"snapshots at {self._url}: {error}") from error
            self._opened = files, root.rstrip("/")
        return self._opened

    def names(self, folder: str) -> list[str]:
        with _reading(self.place(folder)):
            files, root = self._open()
            try:
                found = files.ls(f"{root}/{folder}", detail=False)
            except FileNotFoundError as error:
                if "NoSuchBucket" in repr(error.__cause__):
                    raise Stop(f"{self._url}: there is no such bucket; create it or correct the setting") from error
                return []
        return sorted(name.rpartition("/")[2] for name in found)

    def read(self, path: str, bound: Bound | None = None) -> tuple[bytes, bytes] | None:
        with _reading(self.place(path)):
            files, root = self._open()
            try:
                if bound is not None:
                    _check(files, f"{root}/{path}", bound)
                content: bytes = files.cat_file(f"{root}/{path}")
            except FileNotFoundError:
                return None
        line, end, body = content.partition(b"\n")
        return line + end, body

    def write(self, path: str, line: bytes, body: bytes) -> None:
        with _writing(self.place(path)):
            files, root = self._open()
            files.pipe_file(f"{root}/{path}", line + body)

    def remove(self, path: str) -> None:
        with _writing(self.place(path)):
            files, root = self._open()
            try:
                files.rm_file(f"{root}/{path}")
            except FileNotFoundError:
                return

    def place(self, path: str) -> str:
        return f"{self._url}/{path}"


def _check(files: Any, file: str, bound: Bound) -> None:  # noqa: ANN401 - fsspec has no types
    """Raise Unusable for a file that is larger than its line bears; one that is soon read is read at once."""
    size = files.info(file)["size"]
    if size > SOON_READ:
        line, end, _ = files.cat_file(file, start=0, end=LONGEST_LINE).partition(b"\n")
        check_size(size - len(line + end), bound(line + end))


@contextmanager
def _reading(place: str) -> Iterator[None]:
    try:
        yield
    except (Stop, Unusable):
        raise
    except PermissionError as error:
        raise Stop(f"{place}: {error}; let this service list, read, write and delete there") from error
    except Exception as error:
        raise Retry(f"{place} can't be read: {error}") from error


@contextmanager
def _writing(place: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # every file system has its own
        raise Retry(f"{place} can't be written: {error}") from error
