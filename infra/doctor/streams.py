"""Stream folders: each is read as a service would read it."""

from pathlib import Path

from infra.doctor.findings import Finding, ok, wrong
from services.runtime.errors import ConfigError
from services.runtime.stream import load_stream


def schemas(folder: Path) -> list[Finding]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    streams = [
        name for name in names if any((folder / name).glob("*.json")) or (folder / name / "pipeline.toml").exists()
    ]
    if not streams:
        return [wrong("schemas", f"no stream folder in {folder}", "name the right one: --schemas FOLDER")]
    return [_schema(folder, name) for name in streams]


def _schema(folder: Path, name: str) -> Finding:
    check = f"schema {name}"
    try:
        stream = load_stream(folder, name)
    except (ConfigError, OSError) as error:
        return wrong(check, str(error), "correct it: no service of this stream starts like that")
    return ok(check, f"valid, {len(stream.columns)} columns, {stream.feature_set}")
