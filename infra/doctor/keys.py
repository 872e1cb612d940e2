"""Keys and tokens: there, whole, a pair that fits, and readable by nobody else. Nothing is made or changed."""

import os
import stat
from pathlib import Path

from infra.doctor.findings import Finding, ok, warning, wrong
from services.runtime.errors import ThalwegError
from services.runtime.signing import Signer, Verifier

OTHERS = stat.S_IRWXG | stat.S_IRWXO
RESTORE = "restore it from a back-up (thalweg restore): what the old key signed is refused by a new one"


def pair(folder: Path) -> Finding:
    """Say whether the installation's signing keys fit each other."""
    private, public = folder / "private", folder / "public"
    if not folder.exists() or not (private.exists() or public.exists()):
        return ok("keys", f"none at {folder}; they are made at the first start")
    if not private.exists():
        return wrong("keys", f"{private} is missing", RESTORE)
    if not public.exists():
        return wrong("keys", f"{public} is missing", "start a service: it is made from the private one")
    try:
        Verifier(folder).open("doctor", Signer(folder).seal("doctor", b""))
    except (ThalwegError, ValueError, OSError) as error:
        return wrong("keys", f"the pair at {folder} does not fit: {error}", RESTORE)
    return ok("keys", f"a pair at {folder}")


def secrets_of(data: Path) -> list[Path]:
    """Return the files that only their owner may read: all keys but public ones, tokens, and what producers may do."""
    keys = [path for path in sorted((data / "keys").rglob("*")) if path.is_file() and "public" not in path.name]
    others = (data / "console" / "tokens.json", data / "ingestion" / "keys.json")
    return [*keys, *(path for path in others if path.exists())]


def permissions(data: Path) -> list[Finding]:
    """Say which secrets others may read, and which this user can't."""
    found = [one for path in secrets_of(data) if (one := _permission(path)) is not None]
    return found or [ok("permissions", f"{len(secrets_of(data))} secrets in {data}, for their owner alone")]


def _permission(path: Path) -> Finding | None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return wrong("permissions", f"{path}: {error.strerror}", "let the user that runs the services read it")
    if mode & OTHERS:
        return wrong("permissions", f"{path} is open to others ({stat.filemode(mode)})", f"chmod 600 {path}")
    if not os.access(path, os.R_OK):
        return warning("permissions", f"{path} is not for this user", "look as the user that runs the services")
    return None
