"""Snapshots behind a URL, through fsspec: the one home of that library.

`s3://bucket/prefix` needs s3fs (`pip install thalweg[s3]`), other stores their own package. Credentials, endpoint and
region come from the environment, as the file system's own client reads them (`AWS_…` for S3).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fsspec.core import url_to_fs

from services.runtime.errors import ConfigError, Retry, Stop, Unusable
from services.runtime.stores import LONGEST_LINE, Bound, check_size

SOON_READ = 1 << 26  # bytes
_TIMEOUTS = {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 1}}  # the loop tries again itself
_OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": _TIMEOUTS}}


class RemoteStore:
    """Files below a URL. A listing is always asked for anew: other processes write there too."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        options = _OPTIONS.get(url.partition("://")[0], {})
        try:
            self._files, root = url_to_fs(url, use_listings_cache=False, **options)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"snapshots at {url}: {error}") from error
        self._root = root.rstrip("/")

    def names(self, folder: str) -> list[str]:
        with _reading(self.place(folder)):
            try:
                found = self._files.ls(f"{self._root}/{folder}", detail=False)
            except FileNotFoundError as error:
                if "NoSuchBucket" in repr(error.__cause__):
                    raise Stop(f"{self._url}: there is no such bucket; create it or correct the setting") from error
                return []
        return sorted(name.rpartition("/")[2] for name in found)

    def read(self, path: str, bound: Bound | None = None) -> tuple[bytes, bytes] | None:
        with _reading(self.place(path)):
            try:
                if bound is not None:
                    self._check(f"{self._root}/{path}", bound)
                content: bytes = self._files.cat_file(f"{self._root}/{path}")
            except FileNotFoundError:
                return None
        line, end, body = content.partition(b"\n")
        return line + end, body

    def _check(self, file: str, bound: Bound) -> None:
        """Raise Unusable for a file that is larger than its line bears; one that is soon read is read at once."""
        size = self._files.info(file)["size"]
        if size > SOON_READ:
            line, end, _ = self._files.cat_file(file, start=0, end=LONGEST_LINE).partition(b"\n")
            check_size(size - len(line + end), bound(line + end))

    def write(self, path: str, line: bytes, body: bytes) -> None:
        with _writing(self.place(path)):
            self._files.pipe_file(f"{self._root}/{path}", line + body)

    def remove(self, path: str) -> None:
        with _writing(self.place(path)):
            try:
                self._files.rm_file(f"{self._root}/{path}")
            except FileNotFoundError:
                return

    def place(self, path: str) -> str:
        return f"{self._url}/{path}"


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
