"""Fields that say who somebody is: what stands for them in spans, logs and pages is a keyed hash.

A field is marked `"pii": true` in a stream's schema. The key is the installation's own, so that a hash is the same
wherever it is shown, tells two people apart, and can't be made from a list of names by whoever has not got the key.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from services.runtime.keys import PRIVATE, make_folder, read_key, write_once
from services.runtime.stream import Stream

PREFIX = "pii:"
HEX = 16  # digits of a hash that are shown


class Masker:
    """Hashes the marked fields of one stream. `key` is bytes that only this installation has."""

    def __init__(self, stream: Stream, key: bytes) -> None:
        self._key = key
        schemas = (stream.event["properties"], stream.label["properties"])
        self.fields = frozenset(
            name for properties in schemas for name, rule in properties.items() if rule.get("pii") is True
        )

    def value(self, field: str, value: Any) -> Any:  # noqa: ANN401 - of any type
        """Return what stands for a field's value: itself where the field is not marked, and where there is none."""
        return self.hash(value) if field in self.fields and value is not None else value

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

    def hash(self, value: Any) -> str:  # noqa: ANN401 - of any type
        digest = hmac.new(self._key, msgspec.json.encode(value), hashlib.sha256).hexdigest()
        return f"{PREFIX}{digest[:HEX]}"


def open_masker(stream: Stream, data: Path) -> Masker:
    """Return the masker of this installation; its key is made in `<data>/keys` if it is not there."""
    key = make_folder(data / "keys") / "pii"
    write_once(key, secrets.token_bytes(32), mode=0o600)
    return Masker(stream, read_key(key, PRIVATE))
