"""The offline store on S3: moto's server, a process of its own, spoken to over HTTP as any S3 is."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.runtime.errors import Retry
from services.trainer.store import ExampleStore
from tests.lessons import STREAM
from tests.stored import expected, ids, records


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """Start an S3 server with an empty bucket, and point this process at it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with (tmp_path / "log").open("wb") as log:
        argv = [sys.executable, "-m", "moto.server", "--port", address.split(":")[1]]
        server = subprocess.Popen(argv, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline, "moto's server did not answer"
            try:
                if httpx.put(f"http://{address}/bucket").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield server
        server.kill()
        server.wait(10)


def test_a_bucket_holds_each_example_once(server: subprocess.Popen[bytes]) -> None:
    """What comes again adds nothing, of two that append the same one fails, and a bucket that is away is waited for."""
    store, other = ExampleStore("s3://bucket/store", STREAM), ExampleStore("s3://bucket/store", STREAM)
    assert [store.append(0, records(n)) for n in (3, 5, 4)] == [9, 6, 0]
    stale = other._fresh()
    store.append(0, records(6))
    other._fresh = lambda: stale  # type: ignore[method-assign]
    with pytest.raises(Retry, match="transaction"):
        other.append(0, records(6))
    del other._fresh  # type: ignore[method-assign]
    version = store.version()
    found = store.training_set().features.tobytes()
    other.tidy()
    assert other.append(0, records(7)) == 3
    assert ids(store) == expected(21)
    assert store.training_set(version).features.tobytes() == found
    server.kill()
    with pytest.raises(Retry, match=r"the store of examples at s3://bucket/store/made/examples/0: .*Generic S3 error"):
        store.append(0, records(8))
