"""The vault of tokens: what stands for a value, chosen at random, and for whom it stands.

A SQLite file, `<data>/vault/tokens.db`, that its owner alone reads. A value is found by its keyed hash, and kept sealed
(AES-256-GCM, the token authenticated beside it), so the file without `<data>/keys/vault` tells nothing. A token is on
the disk before it is handed out. The vault holds at most so many values; more are a Retry, as no token may change.
"""

import hmac
import secrets
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.runtime.errors import Retry
from services.runtime.pii import secret_of
from services.runtime.treatments import TOKEN

NONCE = 12
CACHED = 100_000  # tokens that are remembered, some 20 MB
PATIENCE_S = 10.0
RECOUNTED = 1000  # new tokens between two counts, or a tenth: other processes may write as well
SCHEMA = """
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS tokens (digest BLOB PRIMARY KEY, token TEXT UNIQUE, field TEXT, sealed BLOB, made INTEGER)
WITHOUT ROWID;
"""


class Vault:
    """The vault of one installation; several processes of a machine may have it open, and a process several threads."""

    def __init__(self, data: Path, most: int = 10_000_000) -> None:
        secret = secret_of(data, "vault")
        self._finding, sealing = (hmac.digest(secret, use, "sha256") for use in (b"finding", b"sealing"))
        self._aead, self._most = AESGCM(sealing), most
        self._cached: dict[bytes, str] = {}
        self._lock = threading.Lock()
        self._database = self._open(data / "vault")
        self._count, self._counted = len(self), 0

    def _open(self, folder: Path) -> sqlite3.Connection:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / "tokens.db"
        path.touch(mode=0o600)
        database = sqlite3.connect(path, timeout=PATIENCE_S, check_same_thread=False, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(SCHEMA)
        return database

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT COUNT(*) FROM tokens").fetchone()
        return int(count)

    def tokens(self, field: str, values: Sequence[Any]) -> list[str]:
        """Return the token of each value, the same each time; Retry, with none of them made, if there is no room."""
        digests = [self._digest(field, value) for value in values]
        with self._lock:
            found = {digest: self._cached[digest] for digest in digests if digest in self._cached}
            unknown = {digest: value for digest, value in zip(digests, values, strict=True) if digest not in found}
            if unknown:
                found |= self._known_or_made(field, unknown)
        return [found[digest] for digest in digests]

    def find(self, field: str, value: Any) -> str | None:  # noqa: ANN401 - of any type
        """Return the token of a value if it has one."""
        return self._ask("SELECT token FROM tokens WHERE digest = ?", self._digest(field, value))

    def reveal(self, token: str) -> tuple[str, Any] | None:
        """Return the field and the value for which a token stands; None if nobody knows, or it was forgotten."""
        row = self._database.execute("SELECT field, sealed FROM tokens WHERE token = ?", (token,)).fetchone()
        return None if row is None else (row[0], self._opened(token, row[1]))

    def forget(self, token: str) -> bool:
        """Remove a token and what it stood for, off the disk too; return whether it was there."""
        with self._lock:
            gone = self._database.execute("DELETE FROM tokens WHERE token = ?", (token,)).rowcount > 0
            self._cached = {digest: kept for digest, kept in self._cached.items() if kept != token}
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._count = len(self)
        return gone

    def close(self) -> None:
        self._database.close()

    def _known_or_made(self, field: str, unknown: dict[bytes, Any]) -> dict[bytes, str]:
        try:
            with closing(self._database.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                try:
                    found = self._in_transaction(cursor, field, unknown)
                except BaseException:
                    cursor.execute("ROLLBACK")
                    raise
                cursor.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise Retry(f"the vault of tokens can't be written: {error}") from error
        if len(self._cached) + len(found) > CACHED:
            self._cached.clear()
        self._cached |= found
        return found

    def _in_transaction(self, cursor: sqlite3.Cursor, field: str, unknown: dict[bytes, Any]) -> dict[bytes, str]:
        question = "SELECT token FROM tokens WHERE digest = ?"
        rows = {digest: cursor.execute(question, (digest,)).fetchone() for digest in unknown}
        found = {digest: row[0] for digest, row in rows.items() if row is not None}
        new = {digest: TOKEN + secrets.token_urlsafe(16) for digest in unknown if digest not in found}
        self._make_room(len(new))
        now = int(time.time())
        made = [(digest, token, field, self._sealed(token, unknown[digest]), now) for digest, token in new.items()]
        cursor.executemany("INSERT INTO tokens VALUES (?, ?, ?, ?, ?)", made)
        self._count += len(new)
        return found | new

    def _make_room(self, more: int) -> None:
        self._counted += more
        if self._counted >= max(RECOUNTED, self._count // 10):
            self._count, self._counted = len(self), 0
        if more and self._count + more > self._most:
            raise Retry(
                f"the vault has {self._count} tokens of at most {self._most}: raise THALWEG_INGESTION_VAULT, or have"
                " some forgotten (thalweg forget)"
            )

    def _ask(self, question: str, value: object) -> str | None:
        row = self._database.execute(question, (value,)).fetchone()
        return None if row is None else str(row[0])

    def _digest(self, field: str, value: Any) -> bytes:  # noqa: ANN401 - of any type
        said = b"%b\0%b" % (field.encode(), msgspec.json.encode(value))
        return hmac.digest(self._finding, said, "sha256")

    def _sealed(self, token: str, value: Any) -> bytes:  # noqa: ANN401 - of any type
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._aead.encrypt(nonce, msgspec.json.encode(value), token.encode())

    def _opened(self, token: str, sealed: bytes) -> Any:  # noqa: ANN401 - of any type
        return msgspec.json.decode(self._aead.decrypt(sealed[:NONCE], sealed[NONCE:], token.encode()))
