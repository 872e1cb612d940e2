"""Snapshots on S3: moto's server, a process of its own, spoken to over HTTP as any S3 is."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import httpx
import pyarrow as pa
import pytest

from services.labels.segments import open_disks
from services.runtime.errors import Retry, Stop
from services.runtime.snapshots import KEEP, Snapshots

FOLDER = "snapshots/some/prefix/flights/features/0"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start an empty S3 server, and point the environment of this process at it."""
    address = f"127.0.0.1:{free_port()}"
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    argv = [sys.executable, "-m", "moto.server", "--port", address.split(":")[1]]
    server = subprocess.Popen(argv, stdout=log, stderr=log)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
            environment.setenv(f"AWS_{name}", value)
        environment.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        wait_ready(f"http://{address}", server)
        yield address
    server.terminate()
    server.wait(10)
    log.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None, "moto's server ended"
        assert time.monotonic() < deadline, "moto's server did not answer"
        try:
            if httpx.get(url).status_code:
                return
        except httpx.TransportError:
            time.sleep(0.1)


@pytest.fixture
def bucket(endpoint: str) -> Iterator[fsspec.AbstractFileSystem]:
    """Yield S3 as somebody else sees it, with an empty bucket `snapshots`."""
    del endpoint
    files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    files.mkdir("snapshots")
    yield files
    files.rm("snapshots", recursive=True)


def snapshots(data: Path, url: str = "s3://snapshots/some/prefix/") -> Snapshots:
    return Snapshots(data, "flights", "features", "rule", url)


def state(kept: Snapshots, committed: int = 99) -> bytes | None:
    found = kept.newest(0, {"in": committed})
    return None if found is None else found.state


def test_life_of_a_snapshot(bucket: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    """Written, pruned, and read by another process; a torn object is passed over, one that is ahead removed."""
    kept = snapshots(tmp_path)
    assert state(kept) is None
    for offset in range(1, KEEP + 3):
        kept.write(0, {"in": offset}, b"at %d" % offset)
    assert [path.rpartition("/")[2] for path in bucket.ls(FOLDER)] == [f"{n:020d}.snapshot" for n in (3, 4, 5)]
    assert state(snapshots(tmp_path)) == b"at 5"
    newest = f"{FOLDER}/{5:020d}.snapshot"
    bucket.pipe_file(newest, bucket.cat_file(newest)[:-1])
    assert state(kept) == b"at 4"
    assert kept.take_refused() == [f"s3://{newest}: torn or damaged: its 3 bytes are not those that were signed for"]
    assert state(kept, 3) == b"at 3"
    assert len(bucket.ls(FOLDER)) == 1
    assert not (tmp_path / "state").exists()


def test_what_others_write(bucket: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    """A listing is never remembered: what another process wrote since the last one is found."""
    kept = snapshots(tmp_path)
    kept.write(0, {"in": 5}, b"at 5")
    assert state(kept) == b"at 5"
    snapshots(tmp_path, "s3://snapshots/elsewhere").write(0, {"in": 6}, b"at 6")
    name = f"{6:020d}.snapshot"
    bucket.mv(f"snapshots/elsewhere/flights/features/0/{name}", f"{FOLDER}/{name}")
    assert state(kept) == b"at 6"


def test_segments_of_labels(bucket: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    """What a snapshot of labels relies on is beside it, for another machine, and goes with the last that names it."""
    url, rows = "s3://snapshots/some/prefix/", pa.RecordBatch.from_pydict({"offset": [1, 2]})
    here, beside = open_disks(tmp_path / "here", "flights", url)(0), "snapshots/some/prefix/flights/labels/0/segments"
    name = here.write(rows)
    kept = Snapshots(tmp_path, "flights", "labels", "rule", url)
    for offset in range(KEEP + 1):
        assert bucket.exists(f"{beside}/{name}") == (offset > 0)
        here.saving([] if offset else [name], b"state")(lambda body, at=offset: kept.write(0, {"in": at}, body))
        if offset < KEEP:
            assert open_disks(tmp_path / f"there {offset}", "flights", url)(0).check(name) == rows
    assert not bucket.exists(f"{beside}/{name}")
    assert len(bucket.ls("snapshots/some/prefix/flights/labels/0")) == KEEP


def test_large(bucket: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    """A state too large for one put goes up in parts, and appears whole."""
    content = os.urandom(101 << 20)
    snapshots(tmp_path).write(0, {"in": 1}, content)
    assert state(snapshots(tmp_path)) == content
    assert len(bucket.ls(FOLDER)) == 1


def test_no_bucket(endpoint: str, tmp_path: Path) -> None:
    """A bucket that is not there stops the service before it folds from the beginning; a write says so and can wait."""
    del endpoint
    kept = snapshots(tmp_path, "s3://misspelt/prefix")
    with pytest.raises(Stop, match="s3://misspelt/prefix: there is no such bucket; create it or correct the setting"):
        state(kept)
    with pytest.raises(Retry, match=r"s3://misspelt/prefix/.* can't be written: The specified bucket does not exist"):
        kept.write(0, {"in": 1}, b"x")


def test_away(bucket: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An S3 that does not answer is waited for, which is not the same as having no snapshot."""
    snapshots(tmp_path).write(0, {"in": 1}, b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    fsspec.filesystem("s3").clear_instance_cache()
    away = snapshots(tmp_path)
    assert away._store._open()[0].config_kwargs["connect_timeout"] == 5, (
        "the client's own patience is a minute, five times"
    )  # type: ignore[attr-defined]
    with pytest.raises(Retry, match="can't be read: Could not connect"):
        state(away)
    with pytest.raises(Retry, match="can't be written: Could not connect"):
        away.write(0, {"in": 2}, b"x")
    monkeypatch.undo()
    fsspec.filesystem("s3").clear_instance_cache()
    assert len(bucket.ls(FOLDER)) == 1
