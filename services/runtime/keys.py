"""The folder of the installation's keys, `<data>/keys`: its owner's alone, or not used.

Whoever can write there makes what this installation trusts; whoever can read a private key signs in its name. So the
folder is made with mode 0700, keys with 0600, each whole and once, and a folder or key that others can get at is
refused, with what to do. Root may use what is another's, as in a container whose volume is its services'.
"""

import os
import secrets
import stat
from pathlib import Path

from services.runtime.errors import Stop
from services.runtime.files import open_plain

PRIVATE, PUBLIC = 0o077, 0o022  # what others may not have: any access, or that of writing
LONGEST = 4096  # bytes of a key


def make_folder(folder: Path) -> Path:
    """Make the folder if it is not there, and return it; raise Stop where others than its owner can enter it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_folder(folder, PRIVATE)
    return folder


def check_folder(folder: Path, denied: int = PUBLIC) -> None:
    """Raise Stop where others can do what is denied, or could put another folder in its place.

    The root of a volume may be anyone's, as those of pods are: what runs there decides who gets at it.
    """
    _check(folder, folder.stat(), denied, "chmod 700")
    above = folder.absolute().parent
    mode = above.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX and not above.is_mount():
        raise Stop(f"{above}: anyone can put other keys in the place of those in it. Run: chmod o-w {above}")


def read_key(path: Path, denied: int) -> bytes:
    """Return a key; raise Stop where others can do what is denied, FileNotFoundError where there is none."""
    try:
        with open_plain(path, follow=True) as file:
            _check(path, os.fstat(file.fileno()), denied, "chmod 600" if denied == PRIVATE else "chmod go-w")
            return file.read(LONGEST)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Stop(f"{path}: {error.strerror}; it has to be a file that this user can read") from error


def write_once(path: Path, content: bytes, mode: int) -> None:
    """Write the file whole and for good, or leave the one that another process wrote first."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)


def _check(path: Path, found: os.stat_result, denied: int, cure: str) -> None:
    user = os.geteuid()
    if found.st_uid not in (0, user) and user:
        raise Stop(f"{path} is of user {found.st_uid}, and this service of {user}. Run: chown -R {user} {path}")
    if found.st_mode & denied:
        mode = stat.S_IMODE(found.st_mode)
        raise Stop(
            f"{path} is open to others (mode {mode:04o}). Run: {cure} {path}. Who got at it may have the keys: if that"
            " can have been, move the folder of the keys away; new ones are made, and models learned again from the log"
        )
