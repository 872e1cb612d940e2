"""The store of model artifacts: sealed files by model and version, written by trainers, read by Triton's models.

`models` on the log says which version is live; its bytes are in `<data>/artifacts/<stream>/<model>/<version>.model`.
"""

import contextlib
import re
import secrets
from pathlib import Path

from services.runtime.errors import Retry, Stop
from services.runtime.files import LARGEST, read_plain
from services.runtime.signing import Signer, Verifier

_NAME = re.compile(r"[a-z][a-z0-9_-]*")  # none that leads out of the folder
_STREAM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")  # as in a topic's name
_MOST = 1 << 63


class Artifacts:
    """One stream's artifacts. Writing needs the installation's private key, reading the public one alone."""

    def __init__(self, data: Path, stream: str) -> None:
        self._stream, self._folder = stream, data / "artifacts" / stream
        self._keys = data / "keys"

    def write(self, model: str, version: int, payload: bytes) -> None:
        """Store it whole, or not at all and raise Retry; the same version again gives the same file."""
        target = self._path(model, version)
        sealed = Signer(self._keys).seal(self._name(model, version), payload)
        if len(sealed) > LARGEST:
            raise Stop(f"{self._name(model, version)} has {len(sealed)} bytes, and more than {LARGEST} are not read")
        draft = target.with_name(f".{version}.{secrets.token_hex(4)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(sealed)
            draft.rename(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise Retry(f"{self._name(model, version)} can't be stored in {target.parent}: {error.strerror}") from error

    def prune(self, model: str, keep: int) -> None:
        """Remove all but the `keep` versions that were written last; raise Retry where one can't be removed."""
        try:
            written = sorted((self._folder / model).glob("*.model"), key=lambda path: path.stat().st_mtime_ns)
            for path in written[:-keep]:
                path.unlink()
        except OSError as error:
            raise Retry(f"an old version of {model} can't be removed: {error}") from error

    def read(self, model: str, version: int) -> bytes:
        """Return the payload; raise Stop if there is none or this installation did not sign it as this version."""
        try:
            sealed = read_plain(self._path(model, version))
        except FileNotFoundError as error:
            raise Stop(f"{self._name(model, version)}: no such version in {self._folder}") from error
        except OSError as error:
            raise Stop(f"{self._name(model, version)} can't be read: {error.strerror}") from error
        return Verifier(self._keys).open(self._name(model, version), sealed)

    def card(self, model: str, version: int) -> Path:
        """Return where a version's card is to stand, which tells people about it; nobody trusts it."""
        return self._path(model, version).with_suffix(".json")

    def carded(self, model: str) -> list[int]:
        """Return the versions that have a card, the oldest first: it is written last, so they are complete."""
        stems = (path.stem for path in (self._folder / model).glob("*.json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _path(self, model: str, version: int) -> Path:
        named = _NAME.fullmatch(model) and _STREAM.fullmatch(self._stream)
        if not named or not isinstance(version, int) or not 0 <= version < _MOST:
            raise Stop(f"{model}@{version}: not the name of a model version, of {self._stream}")
        return self._folder / model / f"{version}.model"

    def _name(self, model: str, version: int) -> str:
        return f"model/{self._stream}/{model}/{version}"
