"""Files that others may have put there: read once and whole, if they are plain ones of a bearable size.

A pipe would hang who opens it, a link or a device lead anywhere, and a huge file fill the memory before a look at its
signature. What was read is what is checked and used: nothing is opened twice.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

LARGEST = 1 << 30  # bytes of a model's version or of a checkpoint
NOT_PLAIN = (errno.ELOOP, errno.ENXIO, errno.EISDIR)  # a link, a socket or a device, anything else


def open_plain(path: Path, follow: bool = False) -> BinaryIO:  # noqa: FBT001, FBT002 - by name
    """Open a plain file to be read; raise OSError for anything else, and for a link unless it may be followed."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        file = os.open(path, flags)
    except OSError as error:
        if error.errno in NOT_PLAIN:
            raise OSError(error.errno, "it is no plain file") from error
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EISDIR, "it is no plain file")
    return os.fdopen(file, "rb")


def size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def read_plain(path: Path, most: int = LARGEST) -> bytes:
    """Return what a plain file holds; raise OSError as `open_plain` does, and for more than `most` bytes."""
    with open_plain(path) as file:
        if size(file) > most:
            raise OSError(errno.EFBIG, f"it has {size(file)} bytes, and more than {most} are not read")
        return file.read(most)
