"""Back-ups: whole or not at all, checked before anything is written, and never over an installation."""

import os
import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest

from infra import cli
from infra.backup.manifest import MANIFEST, File, Manifest, read_manifest
from infra.backup.restoring import restore
from infra.backup.taking import take
from infra.local.stack import Options, Stack
from services.console.tokens import make_tokens, tokens_path
from services.runtime.artifacts import Artifacts
from services.runtime.signing import make_keys
from services.runtime.snapshots import Snapshots
from services.runtime.stream import load_stream

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "schemas"


class Installation:
    """A data folder as a run leaves it, with one of everything."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.copy = folder, folder / "run" / "flights" / "data", folder / "copy"
        make_keys(self.data / "keys")
        make_tokens(tokens_path(self.data))
        Artifacts(self.data, "flights").write("online", 7, b"a model")
        Snapshots(self.data, "flights", "features", "f").write(0, {"flights.events": 9}, b"a state")
        for name in (
            "store/flights/examples/x/_delta_log/0.json",
            "store/flights/examples/x/part.parquet",
            "drift/v1/t",
        ):
            (self.data / name).parent.mkdir(parents=True, exist_ok=True)
            (self.data / name).write_text(name)
        self.spans = sqlite3.connect(self.data / "console" / "spans.db")
        self.spans.executescript("PRAGMA journal_mode = WAL; CREATE TABLE spans (id); INSERT INTO spans VALUES (1)")

    def run(self, command: str, *more: str) -> int:
        where = ["--run-dir", str(self.folder / "run"), "--schemas", str(SCHEMAS)]
        return cli.main([command, str(self.copy), *where, *more])

    def wipe(self) -> None:
        self.spans.close()
        shutil.rmtree(self.data)


@pytest.fixture
def made(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_what_was_wiped_is_back(made: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys, tokens, artifacts, snapshots, the table and spans are as they were, though a writer was at work."""
    before = {path.relative_to(made.data): path.read_bytes() for path in made.data.rglob("*") if path.is_file()}
    assert made.run("backup") == 0
    assert "Kafka" in capsys.readouterr().out
    made.wipe()
    assert made.run("restore") == 0
    after = {path.relative_to(made.data): path.read_bytes() for path in made.data.rglob("*") if path.is_file()}
    left_out = {Path("drift/v1/t"), Path("console/spans.db-wal"), Path("console/spans.db-shm")}
    assert after.keys() == before.keys() - left_out
    assert all(after[path] == before[path] for path in after if path.suffix != ".db")
    assert sqlite3.connect(made.data / "console" / "spans.db").execute("SELECT * FROM spans").fetchall() == [(1,)]
    assert Artifacts(made.data, "flights").read("online", 7) == b"a model"
    newest = Snapshots(made.data, "flights", "features", "f").newest(0, {"flights.events": 9})
    assert newest is not None
    assert newest.state == b"a state"


def test_secrets_stay_secret(made: Installation) -> None:
    """The back-up's folder is its owner's alone, and keys come back with the permissions that they had."""
    made.run("backup")
    assert made.copy.stat().st_mode & 0o777 == 0o700
    made.wipe()
    made.run("restore")
    assert (made.data / "keys" / "private").stat().st_mode & 0o777 == 0o600
    assert tokens_path(made.data).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("fault", ["changed", "missing", "a link", "no manifest", "another format"])
def test_a_damaged_back_up_is_refused(made: Installation, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what is wrong, and nothing is written."""
    made.run("backup")
    made.wipe()
    key = made.copy / "data" / "keys" / "private"
    if fault == "changed":
        key.write_bytes(bytes(32))
    elif fault == "missing":
        key.unlink()
    elif fault == "a link":
        key.rename(made.folder / "elsewhere")
        key.symlink_to(made.folder / "elsewhere")
    elif fault == "no manifest":
        (made.copy / MANIFEST).unlink()
    else:
        other = msgspec.structs.replace(read_manifest(made.copy), format=99)
        (made.copy / MANIFEST).write_bytes(msgspec.json.encode(other))
    assert made.run("restore") == 1
    assert str(made.copy) in capsys.readouterr().err
    assert not made.data.exists()


@pytest.mark.parametrize("path", ["../out", "data/../../out", "/out", "data/a\0b"])
def test_a_path_that_leads_out_is_refused(made: Installation, path: str) -> None:
    """A manifest that names a place outside of the back-up is none."""
    made.run("backup")
    bad = Manifest("flights", 0.0, (File(path, 0, ""),))
    (made.copy / MANIFEST).write_bytes(msgspec.json.encode(bad))
    with pytest.raises(ValueError, match="no path of a back-up"):
        restore(made.copy, made.folder / "new", SCHEMAS)


def test_nothing_is_overwritten(made: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a back-up that is there, nor an installation; and without keys there is nothing to back up."""
    assert made.run("backup") == 0
    assert made.run("backup") == 1
    assert made.run("restore") == 1
    assert "move it away first" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there are no keys"):
        take(made.folder / "none", SCHEMAS, "flights", made.folder / "other")


def test_a_run_that_is_up_is_left_alone(made: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    """A back-up can be restored only while no run of that stream is up."""
    made.run("backup")
    stack = Stack(
        Options("flights", run_dir=made.folder / "run", fresh=False), load_stream(SCHEMAS, "flights"), SCHEMAS
    )
    stack._claim()
    assert made.run("restore") == 1
    assert "flights is up already in" in capsys.readouterr().err
    stack._lock.close()


def test_a_stream_folder_comes_back_or_is_left(made: Installation, tmp_path: Path) -> None:
    """One that is gone is restored; one that has changed since is left, and said to differ."""
    take(made.data, SCHEMAS, "flights", made.copy)
    _, said = restore(made.copy, tmp_path / "a", tmp_path / "schemas")
    assert said == []
    pipeline = tmp_path / "schemas" / "flights" / "pipeline.toml"
    assert pipeline.read_bytes() == (SCHEMAS / "flights" / "pipeline.toml").read_bytes()
    pipeline.write_text("changed")
    _, said = restore(made.copy, tmp_path / "b", tmp_path / "schemas")
    assert "differs in schemas/flights/pipeline.toml" in said[0]
    assert pipeline.read_text() == "changed"


def test_a_disk_that_is_full_leaves_no_half_back_up(made: Installation) -> None:
    """Where a copy fails nothing is there that could be taken for a back-up."""
    os.mkfifo(made.data / "keys" / "pipe")  # not a file, so left out
    (made.folder / "file").write_text("")
    with pytest.raises((ValueError, OSError)):
        take(made.data, SCHEMAS, "flights", made.folder / "file" / "copy")
    with pytest.raises(ValueError, match="no back-up was made"):
        take(made.data, made.folder / "no-schemas", "flights", made.copy)
    assert sorted(path.name for path in made.folder.iterdir()) == ["file", "run"]
