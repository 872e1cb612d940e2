"""The store of model artifacts: sealed files by model and version, written by trainers, read by Triton's models.

`models` on the log says which version is live; its bytes are in `<data>/artifacts/<stream>/<model>/<version>.model`.
"""

import contextlib
import os
import re
from pathlib import Path

from services.runtime.errors import Retry, Stop
from services.runtime.signing import Signer, Verifier

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


class Artifacts:
    """One stream's artifacts. Writing needs the installation's private key, reading the public one alone."""

    def __init__(self, data: Path, stream: str) -> None:
        self._folder = data / "artifacts" / stream
        self._keys = data / "keys"

    def write(self, model: str, version: int, payload: bytes) -> None:
        """Store it whole, or not at all and raise Retry; the same version again gives the same file."""
        target = self._path(model, version)
        sealed = Signer(self._keys).seal(self._name(model, version), payload)
        draft = target.with_name(f".{version}.{os.getpid()}")
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
        """Return the payload; raise Stop if there is none or this installation did not sign it."""
        try:
            sealed = self._path(model, version).read_bytes()
        except FileNotFoundError as error:
            raise Stop(f"{self._name(model, version)}: no such version in {self._folder}") from error
        return Verifier(self._keys).open(self._name(model, version), sealed)

    def card(self, model: str, version: int) -> Path:
        """Return where a version's card is to stand, which tells people about it; nobody trusts it."""
        return self._path(model, version).with_suffix(".json")

    def carded(self, model: str) -> list[int]:
        """Return the versions that have a card, the oldest first: it is written last, so they are complete."""
        stems = (path.stem for path in (self._folder / model).glob("*.json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _path(self, model: str, version: int) -> Path:
        if not _NAME.fullmatch(model) or version < 0:
            raise Stop(f"{model}@{version}: not the name of a model version")
        return self._folder / model / f"{version}.model"

    def _name(self, model: str, version: int) -> str:
        return f"model/{self._folder.name}/{model}/{version}"
