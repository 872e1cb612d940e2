"""Restoring a back-up: everything is checked before anything is written, and the data folder appears whole."""

import shutil
from pathlib import Path

from infra.backup.manifest import Manifest, damaged, read_manifest

NAMED = 5


def restore(root: Path, data: Path, schemas: Path) -> tuple[Manifest, list[str]]:
    """Put a back-up's data in place; return its manifest, and what a person has to look at.

    ValueError, and nothing is written, where the back-up is damaged or there is an installation already. A stream
    folder that is there is left as it is.
    """
    manifest = read_manifest(root)
    if bad := damaged(root, manifest):
        more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise ValueError(f"{root} is damaged: {', '.join(bad[:NAMED])}{more}; nothing was restored")
    if data.exists() and any(data.iterdir()):
        raise ValueError(f"{data} holds an installation; move it away first, it is not overwritten")
    draft = data.with_name(f".{data.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _copy(root, manifest, draft)
        if data.exists():
            data.rmdir()
        draft.rename(data)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest, _restore_schema(root, manifest, schemas)


def _copy(root: Path, manifest: Manifest, into: Path) -> None:
    into.mkdir(mode=0o700, parents=True)
    for file in manifest.files:
        if file.path.startswith("data/"):
            target = into / file.path.removeprefix("data/")
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy2(root / file.path, target)


def _restore_schema(root: Path, manifest: Manifest, schemas: Path) -> list[str]:
    folder = schemas / manifest.stream
    files = [file.path for file in manifest.files if file.path.startswith("schemas/")]
    if not folder.exists():
        for path in files:
            target = schemas / path.removeprefix("schemas/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / path, target)
        return []
    other = [path for path in files if not _same(root / path, schemas / path.removeprefix("schemas/"))]
    return [f"{folder} is left as it is; the back-up's differs in {', '.join(other)}"] if other else []


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()
