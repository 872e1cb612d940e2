"""Who knows what stands for a value: the installation's key for hashes, its vault for tokens."""

from functools import partial
from pathlib import Path
from typing import Any

from services.ingestion.core import IngestionCore, Kind
from services.ingestion.treating import Stands, Treating
from services.runtime.pii import open_masker, secret_of, stand_in
from services.runtime.stream import Stream
from services.runtime.treatments import Treatment, stands
from services.runtime.vault import Vault


def open_core(stream: Stream, data: Path, most: int) -> IngestionCore:
    """Return the core with what its stream's marks need; `most` values may have tokens."""
    marks: dict[Kind, dict[str, Treatment]] = {"events": stream.marks("event"), "labels": stream.marks("label")}
    wanted = {done for marked in marks.values() for done in marked.values()}
    known: dict[Treatment, Stands] = {}
    if "hash" in wanted:
        known["hash"] = partial(_hashes, secret_of(data, "pii"))
    vault = Vault(data, most) if "tokenise" in wanted else None
    if vault is not None:
        known["tokenise"] = vault.tokens
    treating = {kind: Treating(marked, known) for kind, marked in marks.items() if marked}
    return IngestionCore(stream, treating, partial(_asked, stream, data, vault), waits=vault is not None)


def _asked(stream: Stream, data: Path, vault: Vault | None, key: str) -> str:
    """Return the key that predictions have, for the one that somebody asks for; to ask makes no token."""
    done = stream.marks("event").get(stream.key)
    if done == "tokenise" and vault is not None and not stands(key):
        return vault.find(stream.key, key) or key
    return str(open_masker(stream, data).value(stream.key, key)) if done else key


def _hashes(key: bytes, field: str, values: list[Any]) -> list[str]:
    return [stand_in(key, field, value) for value in values]
