"""A run whose door speaks TLS and asks for keys, as an operator has it: all that is ours gets through, and only so."""

import json
import os
import ssl
import subprocess
import sys
from itertools import islice
from pathlib import Path

import httpx
import pytest

from infra.cli import main
from infra.local import authority
from infra.local.stack import read_running
from services.console.tokens import make_tokens, tokens_path
from services.ingestion.key_file import keys_path, read_book
from services.runtime.signing import Signer, make_keys
from tests.kept import Run, kept

ROOT = Path(__file__).parents[2]
PATH = "/v1/streams/flights/events"
AUTHORITY = "THALWEG_INGESTION_CA"


def test_a_demo_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`thalweg demo` plays its flights over TLS, with a key of its own where there are keys; every address says https.

    Commands of another shell, and the console, trust the run's authority and are answered. What an earlier run in the
    folder left of the installation is as it was; of its log nothing is, and that is said.
    """
    made, run_dir = authority.issue(tmp_path / "certificates"), tmp_path / "run"
    data = run_dir / "flights" / "data"
    key = an_installation(data, capsys)
    sealed, book = Signer(data / "keys").seal("a", b"b"), read_book(keys_path(data))
    for name, value in (("TLS_CERTIFICATE", made.chain), ("TLS_KEY", made.key), ("CA", made.authority)):
        monkeypatch.setenv(f"THALWEG_INGESTION_{name}", str(value))
    with kept(run_dir, "--events", "300", "--speed", "max") as run:
        monkeypatch.delenv(AUTHORITY)
        said, up = (run_dir / "output.txt").read_text(), read_running(run_dir, "flights")
        assert up is not None
        assert up.ingestion.startswith("https://127.0.0.1:")
        assert f"POST to {up.ingestion}{PATH}" in said
        assert "300 predictions of 300 events: 0 missing, 0 twice, 0 dead letters" in said
        assert "removed, as its log is gone: data/state; keys and tokens stay" in said
        assert "http://127.0.0.1" not in said.replace(up.console, "")
        outside_gets_in(up.ingestion, key, made.authority)
        commands_are_answered(run)
        the_console_is_answered(up.console, data)
        events_are_sent_again(run)
    assert Signer(data / "keys").seal("a", b"b") == sealed
    assert read_book(keys_path(data)) == book


def an_installation(data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Have keys, a producer's too, tokens, and a state of a log that is gone; return the producer's key."""
    make_keys(data / "keys")
    make_tokens(tokens_path(data))
    (data / "state" / "flights").mkdir(parents=True)
    (data / "state" / "flights" / "1.snapshot").touch()
    given = ["--file", str(keys_path(data)), "--streams", "flights", "--scopes", "events:write"]
    assert main(["keys", "create", "airline", *given]) == 0
    return capsys.readouterr().out.strip()


def outside_gets_in(url: str, key: str, trusted: Path) -> None:
    """Expect a producer to need both its key and TLS."""
    with httpx.Client(base_url=url, verify=ssl.create_default_context(cafile=trusted), timeout=20) as client:
        bearer = {"Authorization": f"Bearer {key}"}
        assert [client.post(PATH, json={}, headers=one).status_code for one in (bearer, {})] == [422, 401]
    with pytest.raises(httpx.TransportError):
        httpx.get(url.replace("https", "http") + "/healthz", timeout=20)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{url}/healthz", timeout=20)


def commands_are_answered(run: Run) -> None:
    """Expect `status` and `doctor` to hear ingestion, by what the run has left for them."""
    states = json.loads(run.thalweg("status", "--json").stdout)
    assert states["ingestion"]["ready"]
    assert "ingestion does not answer" not in run.thalweg("doctor").stdout


def the_console_is_answered(console: str, data: Path) -> None:
    """Expect the console to see ingestion ready; where it can't, it says `silent` once a second, and time runs out."""
    bearer = {"Authorization": f"Bearer {make_tokens(tokens_path(data))[0].reading}"}
    with httpx.stream("GET", f"{console}/api/live", headers=bearer, timeout=20) as live:
        lines = (line.removeprefix("data: ") for line in live.iter_lines() if line.startswith('data: {"at"'))
        flows = islice((json.loads(line) for line in lines if '"services"' in line), 60)
        assert any(
            one["name"] == "ingestion" and one["status"] == "ready" for flow in flows for one in flow["services"]
        )


def events_are_sent_again(run: Run) -> None:
    """Expect a dead letter to go through again."""
    run.write("flights.events", b"{}", b"JFK")
    run.wait_letters(1)
    done = run.thalweg("dead-letter", "replay")
    assert (done.returncode, "1 dead letters sent" in done.stdout) == (0, True), done


def test_a_certificate_that_does_not_hold_ends_the_start(tmp_path: Path) -> None:
    """`thalweg up` ends soon, and says what to set, where nobody vouches for the certificate."""
    made = authority.issue(tmp_path)
    tls = {"THALWEG_INGESTION_TLS_CERTIFICATE": str(made.chain), "THALWEG_INGESTION_TLS_KEY": str(made.key)}
    argv = ["-m", "infra.cli", "up", "--run-dir", str(tmp_path / "run")]
    argv += ["--schemas", str(ROOT / "schemas")]
    environment = {**os.environ, **tls, "PYTHONPATH": str(ROOT)}
    environment.pop(AUTHORITY, None)
    done = subprocess.run(
        [sys.executable, *argv], env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 1
    assert "the certificate does not hold" in done.stderr
    assert f"Set {AUTHORITY} to the PEM file" in done.stderr
    assert "Traceback" not in done.stderr
