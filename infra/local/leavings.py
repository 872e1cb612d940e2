"""What a run that begins anew removes of the one before: what came of a log that is gone, and nothing else.

Keys, tokens, who may send, and for whom tokens of personal data stand are the installation's: others hold what fits
them, and a log that begins anew is no reason to shut them out.
"""

import shutil
from pathlib import Path

INSTALLATION = ("data/keys", "data/vault", "data/ingestion", "data/console/tokens.json")


def clear(folder: Path) -> list[str]:
    """Remove them from a run's folder; return what was removed, as paths in it."""
    return [path.relative_to(folder).as_posix() for path in _clear(folder, {folder / name for name in INSTALLATION})]


def _clear(folder: Path, staying: set[Path]) -> list[Path]:
    gone: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path in staying:
            continue
        if any(path in one.parents for one in staying):
            gone += _clear(path, staying)
        else:
            _remove(path)
            gone.append(path)
    return gone


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
