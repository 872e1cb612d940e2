"""Keyed hashes of fields that say who somebody is: of what a stream's schemas mark, see `treatments.py`.

The key is the installation's own, so that a hash is the same wherever it is shown, tells two people apart, and can't be
made from a list of names by whoever has not got the key. It covers the field's name: two fields can't be told to agree.
"""

import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from services.runtime.keys import PRIVATE, make_folder, read_key, write_once
from services.runtime.stream import Stream
from services.runtime.treatments import HASH, HEX, stands

KEY_BYTES = 32


def stand_in(key: bytes, field: str, value: Any) -> str:  # noqa: ANN401 - of any type
    """Return the hash that stands for a field's value: HMAC-SHA-256 with the installation's key."""
    said = b"%b\0%b" % (field.encode(), msgspec.json.encode(value))
    return HASH + hmac.digest(key, said, "sha256").hex()[:HEX]


class Masker:
    """Hashes the marked fields of one stream, wherever one is that was not before. `key` is this installation's."""

    def __init__(self, stream: Stream, key: bytes) -> None:
        self._key = key
        self.fields = frozenset(stream.marks("event") | stream.marks("label"))

    def value(self, field: str, value: Any) -> Any:  # noqa: ANN401 - of any type
        """Return what stands for a field's value: itself where that is no mark's, or does so already."""
        if field not in self.fields or value is None or stands(value):
            return value
        return stand_in(self._key, field, value)

    def record(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {field: self.value(field, value) for field, value in fields.items()}

    def restored(self, shown: Mapping[str, Any], original: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record that was shown masked, and perhaps edited, with what it stood for where that was left."""
        return {
            field: original[field] if field in original and self._stands_for(field, value, original) else value
            for field, value in shown.items()
        }

    def _stands_for(self, field: str, value: Any, original: Mapping[str, Any]) -> bool:  # noqa: ANN401 - of any type
        return field in self.fields and value == self.value(field, original[field])


def secret_of(data: Path, name: str) -> bytes:
    """Return a key of this installation, for its owner's eyes alone; it is made in `<data>/keys` if it's not there."""
    key = make_folder(data / "keys") / name
    write_once(key, secrets.token_bytes(KEY_BYTES), mode=0o600)
    return read_key(key, PRIVATE)


def open_masker(stream: Stream, data: Path) -> Masker:
    """Return the masker of this installation."""
    return Masker(stream, secret_of(data, "pii"))
