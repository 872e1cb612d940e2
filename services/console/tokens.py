"""The file of the tokens, made at first start, readable by its owner alone."""

import os
import secrets
from pathlib import Path

import msgspec

from services.console.access import Tokens
from services.runtime.errors import ConfigError


def tokens_path(data: Path) -> Path:
    """Return where they are, unless a setting says otherwise."""
    return data / "console" / "tokens.json"


def make_tokens(path: Path) -> tuple[Tokens, bool]:
    """Return the tokens of this file, and whether it was made now. Two processes that start at once agree on one."""
    made = not path.exists() and _write_once(path)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Tokens), made
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: no file of tokens, remove it and a new one is made: {error}") from error


def _write_once(path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_bytes(msgspec.json.encode(Tokens(*(secrets.token_urlsafe(24) for _ in range(3)))))
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True
