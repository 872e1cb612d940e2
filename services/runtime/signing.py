"""Ed25519 signatures: an artifact that is loaded was signed by this installation, and nothing unsigned is unpickled.

The key pair is made at first start in `<data>/keys` (`keys.py`). A sealed artifact is `64 bytes signature ‖ payload`;
the signature covers the artifact's name too, which says its kind, stream and number, so that one can't stand in for
another, nor an older for a newer.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.runtime.errors import Stop
from services.runtime.keys import PRIVATE, PUBLIC, check_folder, make_folder, read_key, write_once

SIGNATURE_BYTES = 64


class Signer:
    """Seals payloads with the private key of the installation under `folder`; makes the pair if there is none."""

    def __init__(self, folder: Path) -> None:
        self._key = _make_or_read(folder)

    def seal(self, name: str, payload: bytes) -> bytes:
        return self._key.sign(_message(name, payload)) + payload


class Verifier:
    """Opens sealed artifacts with the public key of the installation under `folder`."""

    def __init__(self, folder: Path) -> None:
        public = folder / "public"
        try:
            check_folder(folder)
            self._key = Ed25519PublicKey.from_public_bytes(read_key(public, PUBLIC))
        except FileNotFoundError as error:
            raise Stop(f"{public}: no public key of this installation; it is made when services start") from error
        except ValueError as error:
            raise Stop(f"{public}: no public key of Ed25519; remove it, it is made again at the next start") from error

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


def _make_or_read(folder: Path) -> Ed25519PrivateKey:
    private, public = make_folder(folder) / "private", folder / "public"
    orphan = public.exists() and not private.exists()  # in this order: the private one is written first
    if orphan:
        raise Stop(
            f"{private} is gone, and {public} is there. Put it back; or remove both, then new ones are made and models"
            " learned again from the log"
        )
    write_once(private, Ed25519PrivateKey.generate().private_bytes_raw(), mode=0o600)
    key = _private(private)
    write_once(public, key.public_key().public_bytes_raw(), mode=0o644)
    if read_key(public, PUBLIC) != key.public_key().public_bytes_raw():
        raise Stop(f"{public} is not the public key of {private}: it was replaced. Remove it, it is made again")
    return key


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(read_key(path, PRIVATE))
    except ValueError as error:
        raise Stop(f"{path}: no private key of Ed25519 (32 bytes). Put the right one back, or move it away") from error


def _message(name: str, payload: bytes) -> bytes:
    return len(name.encode()).to_bytes(4, "big") + name.encode() + payload
