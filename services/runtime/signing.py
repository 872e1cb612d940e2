"""Ed25519 signatures: an artifact that is loaded was signed by this installation, and nothing unsigned is unpickled.

The key pair is made at first start in `<data>/keys`, the private half readable by its owner alone. A sealed artifact is
`64 bytes signature ‖ payload`; the signature covers the artifact's name too, so that one can't stand in for another.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.runtime.errors import Stop

SIGNATURE_BYTES = 64


class Signer:
    """Seals payloads with the private key of the installation under `folder`; makes the pair if there is none."""

    def __init__(self, folder: Path) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(_make_or_read(folder))

    def seal(self, name: str, payload: bytes) -> bytes:
        return self._key.sign(_message(name, payload)) + payload


class Verifier:
    """Opens sealed artifacts with the public key of the installation under `folder`."""

    def __init__(self, folder: Path) -> None:
        try:
            self._key = Ed25519PublicKey.from_public_bytes((folder / "public").read_bytes())
        except (FileNotFoundError, ValueError) as error:
            raise Stop(
                f"{folder}/public: no public key of this installation; it is made when services start"
            ) from error

    def open(self, name: str, sealed: bytes) -> bytes:
        """Return the payload; raise Stop if this installation never signed these bytes under this name."""
        signature, payload = sealed[:SIGNATURE_BYTES], sealed[SIGNATURE_BYTES:]
        try:
            self._key.verify(signature, _message(name, payload))
        except InvalidSignature as error:
            raise Stop(f"{name}: not signed by this installation, or damaged; it was not loaded") from error
        return payload


def make_keys(folder: Path) -> None:
    """Make the installation's key pair, unless it is there. Two processes that start at once agree on one pair."""
    _make_or_read(folder)


def _make_or_read(folder: Path) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    private = folder / "private"
    if not private.exists():
        write_once(private, Ed25519PrivateKey.generate().private_bytes_raw(), mode=0o600)
    secret = private.read_bytes()
    public = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    write_once(folder / "public", public, mode=0o644)
    return secret


def write_once(path: Path, content: bytes, mode: int) -> None:
    """Write the file whole, or leave the one that another process wrote first."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=mode)
    draft.write_bytes(content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _message(name: str, payload: bytes) -> bytes:
    return len(name.encode()).to_bytes(4, "big") + name.encode() + payload
