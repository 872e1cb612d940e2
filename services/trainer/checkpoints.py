"""The checkpoints of a training, signed: what is not from here is not opened, and the training begins anew.

Beside the signature `core.py` has PyTorch open them as weights alone, and refuses those of other examples or recipes.
"""

import contextlib
import logging
from pathlib import Path

from services.runtime.errors import Retry, Stop
from services.runtime.files import read_plain
from services.runtime.signing import Signer, Verifier

NAME = "checkpoint"
log = logging.getLogger(__name__)


class Checkpoint:
    """One of them, at `path`; `name` says of which stream and which training it is."""

    def __init__(self, path: Path, keys: Path, name: str) -> None:
        self._path, self._keys, self._name = path, keys, name

    def read(self) -> bytes | None:
        """Return it; None if there is none, or none that this installation signed for here."""
        try:
            sealed = read_plain(self._path)
            return Verifier(self._keys).open(self._name, sealed)
        except FileNotFoundError:
            return None
        except (OSError, Stop) as error:
            self.refuse(str(error.strerror if isinstance(error, OSError) else error))
            return None

    def refuse(self, why: str) -> None:
        log.warning("checkpoint %s passed over, the training begins anew: %s", self._path, why)

    def write(self, content: bytes) -> None:
        write(self._path, Signer(self._keys).seal(self._name, content))


class Checkpoints:
    """Those of one stream's trainings, in `<data>/training/<stream>`."""

    def __init__(self, data: Path, stream: str) -> None:
        self.folder = data / "training" / stream
        self._keys, self._stream = data / "keys", stream

    def of(self, window: str = "") -> Checkpoint:
        """Return that of a window of `windows.py`, or of the training that is for good."""
        name = f"{NAME}.{window}" if window else NAME
        return Checkpoint(self.folder / name, self._keys, f"{NAME}/{self._stream}/{name}")

    def discard(self) -> None:
        """Forget the checkpoints of a run whose outcome is stored."""
        for checkpoint in self.folder.glob(f"{NAME}*"):
            checkpoint.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> None:
    """Write a file whole, or leave the old one and raise Retry."""
    draft = path.with_name(f".{path.name}")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()  # it may be a link by now
        draft.write_bytes(content)
        draft.rename(path)
    except OSError as error:
        raise Retry(f"{path} can't be written: {error.strerror}") from error
