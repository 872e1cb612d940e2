"""A secret in every place that takes one shows nowhere: no log, span, page, record, report or error has it."""

import base64
import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from infra import cli
from infra.local import authority, brokers
from infra.local.brokers import TopicSpec
from infra.local.processes import Children
from infra.local.replayer import Replayer, records
from infra.local.stack import Options, Stack
from services.console.access import Tokens
from services.console.looking import WHOLE
from services.console.tokens import tokens_path
from services.runtime.history import read_all
from services.runtime.stream import TOPICS, load_stream
from tests.consoles import until
from tests.marked import marked_schemas

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "schemas"
WORD = "Zq7hunter2Wk"  # made up; and a suffix for each place, so that a finding says whose it is
PLACES = ("webhook", "alertmanager", "snapshots", "mlflow", "otlp")
EVENTS = 300


def secret(place: str) -> str:
    return f"{WORD}{place}"


class Receiver:
    """An OTLP receiver behind a password: it keeps what it is sent."""

    def __init__(self) -> None:
        bodies: list[bytes] = []
        authorized: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                kind, _, told = self.headers.get("Authorization", "").partition(" ")
                authorized.add(base64.b64decode(told).decode() if kind == "Basic" else "")
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.bodies, self.authorized = bodies, authorized
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@contextmanager
def a_run(folder: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Start one with a secret in each setting, URL and variable that takes one; a field of its events has tokens."""
    (closed,) = brokers.free_ports(1)
    door = authority.issue(folder / "secret")
    schemas = marked_schemas(folder / "schemas", {"tailnum": "tokenise"})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret("aws"))
    settings = {
        "THALWEG_DRIFT_WEBHOOK": f"http://me:{secret('webhook')}@127.0.0.1:{closed}/hook",
        "THALWEG_DRIFT_ALERTMANAGER": f"http://me:{secret('alertmanager')}@127.0.0.1:{closed}",
        "THALWEG_SNAPSHOTS": f"memory://me:{secret('snapshots')}@there/snapshots",
        "THALWEG_TRAINER_MLFLOW": f"http://me:{secret('mlflow')}@127.0.0.1:{closed}",
        "THALWEG_TRACE_KEYS": "JFK,EWR,LGA",
        "THALWEG_INGESTION_TLS_CERTIFICATE": str(door.chain),
        "THALWEG_INGESTION_TLS_KEY": str(door.key),
        "THALWEG_INGESTION_CA": str(door.authority),
    }
    otlp = f"http://me:{secret('otlp')}@127.0.0.1:{receiver.port}"
    options = Options("flights", 2, run_dir=folder / "run", settings=settings, otlp=otlp)
    with Stack(options, load_stream(schemas, "flights"), schemas) as stack:
        yield stack


def test_a_run_shows_no_secret(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that a run wrote, sent, answered or said is searched for every secret that it was given, or made."""
    with a_run(tmp_path, receiver, monkeypatch) as stack:
        timed = islice(records(SCHEMAS, "flights", EVENTS), EVENTS)
        playing = Replayer(stack.stream, stack.ingestion, timed, float("inf"), stack.check, trusting=stack.trusting)
        playing.run(lambda: None)
        bad = post(stack, "", "events", {"event_id": 1})
        until(lambda: len(predicted(stack)) > EVENTS // 3 and receiver.bodies, 90)
        key = an_api_key(stack, capsys)
        refused = [post(stack, key, "labels"), post(stack, f"{key[:-4]}AAAA", "events"), post(stack, "", "events")]
        assert [answer.status_code for answer in refused] == [403, 401, 401]
        found_first = {f"refusal {place}": answer.content for place, answer in enumerate(refused)}
        tokens = msgspec.json.decode(tokens_path(stack.data).read_bytes(), type=Tokens)
        found = {f"answer {url}": text for url, text in answers(stack, tokens).items()} | {"refusal": bad.content}
        found |= found_first
        found |= {f"topic {kind}": b"".join(topic(stack, kind)) for kind in TOPICS}
        found |= {f"span {place}": body for place, body in enumerate(receiver.bodies)}
        capsys.readouterr()
        where = ["--run-dir", str(stack.options.run_dir)]
        for command in (["status", "--once"], ["status", "--json"], ["doctor"], ["doctor", "--json"]):
            cli.main([*command, *where])
            found[f"command {command}"] = capsys.readouterr().out.encode()
        cli.main(["drift", "report", "--out", str(tmp_path / "drift.html"), *where])
        held = {stack.data, tmp_path / "secret"}
        files = [path for path in tmp_path.rglob("*") if path.is_file() and not held & set(path.parents)]
        found |= {f"file {path.relative_to(tmp_path)}": path.read_bytes() for path in files}
        data = [*stack.data.glob("console/spans.db*"), *(p for p in (stack.data / "store").rglob("*") if p.is_file())]
        found |= {f"data {path.name}": path.read_bytes() for path in data}
        spoken = [child for child in stack.children if child.name != "triton"]  # its receiver's URL: see security.md
        found |= {f"command line of {child.name}": "\0".join(child.argv).encode() for child in spoken}
    found |= {f"log {path.name}": path.read_bytes() for path in (tmp_path / "run" / "flights" / "logs").iterdir()}
    assert len(found) > 40
    assert f"me:{secret('otlp')}" in receiver.authorized, "it was used"
    assert b"predict" in found["answer console /metrics"] or b"thalweg" in found["answer console /metrics"]
    made = [token.encode() for token in (tokens.acting, tokens.reading, tokens.key, key[-43:])]
    keys = [(stack.data / "keys" / name).read_bytes() for name in ("private", "vault", "pii")]
    made += [*(tmp_path / "secret" / "key.pem").read_bytes().splitlines()[1:-1]]
    basic = [base64.b64encode(f"me:{secret(place)}".encode()) for place in PLACES]
    secrets = [WORD.encode(), *basic, *made, *keys, *(key.hex().encode() for key in keys)]
    assert showing(found | {str(n): b"<" + one + b">" for n, one in enumerate(secrets)}, secrets) == [
        str(n) for n in range(len(secrets))
    ], "what was planted, and nothing else"


def an_api_key(stack: Stack, capsys: pytest.CaptureFixture[str]) -> str:
    """Make a producer's key, wait until the door has it, and send an event with it."""
    capsys.readouterr()
    where = ["--file", str(stack.data / "ingestion" / "keys.json"), "--streams", "flights"]
    assert cli.main(["keys", "create", "airline", "--scopes", "events:write", *where]) == 0
    key = capsys.readouterr().out.strip()
    until(lambda: post(stack, "", "events").status_code == httpx.codes.UNAUTHORIZED, 30)
    assert post(stack, key, "events").status_code == httpx.codes.ACCEPTED
    return key


def post(stack: Stack, key: str, kind: str, event: dict[str, Any] | None = None) -> httpx.Response:
    """Send an event, or the first one once more: a duplicate, which is accepted and dead-lettered later."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    where = f"{stack.ingestion}/v1/streams/flights/{kind}"
    return httpx.post(where, json=event or first_event(), headers=headers, timeout=20, verify=stack.trusting or True)


@cache
def first_event() -> dict[str, Any]:
    """Return the first of the flights, which takes long to read."""
    (event,) = [record for _, what, record in islice(records(SCHEMAS, "flights", 1), 1) if what == "event"]
    return event


def showing(found: dict[str, bytes], secrets: list[bytes]) -> list[str]:
    return [place for place, content in found.items() if any(one in content for one in secrets)]


def predicted(stack: Stack) -> list[bytes]:
    return topic(stack, "predictions")


def topic(stack: Stack, kind: str) -> list[bytes]:
    return [record.value for batch in read_all(stack.settings, f"flights.{kind}") for record in batch]


def answers(stack: Stack, tokens: Tokens) -> dict[str, bytes]:
    """Ask every process for all that it tells, and the console for its page and what the page asks for."""
    asked = [(name, url, path) for name, url in stack.answering.items() for path in ("/healthz", "/readyz", "/metrics")]
    paths = ["/", "/app.js", "/api/traces", "/api/settings", *(f"/api/{part}" for part in WHOLE)]
    asked += [("console", stack.console, path) for path in paths]
    asked += [("console", stack.console, "/api/session"), ("drift", stack.drift, "/drift")]
    bearer = {"Authorization": f"Bearer {tokens.reading}"}
    with httpx.Client(timeout=20, verify=stack.trusting or True) as client:
        return {
            f"{name} {path}": client.get(url + path, headers=bearer if name == "console" else {}).content
            for name, url, path in asked
        }


# What fails says where, and not with what


def environment(folder: Path, broker: str, **more: str) -> dict[str, str]:
    ours = {"THALWEG_STREAM": "flights", "THALWEG_BROKER": broker, "THALWEG_DATA": str(folder / "data")}
    return {**os.environ, **ours, "PYTHONPATH": str(ROOT), **more}


@pytest.mark.parametrize("kind", ["webhdfs", "ftp"])
def test_a_store_that_is_away_is_named_without_its_password(tmp_path: Path, kind: str) -> None:
    """A service that waits for its snapshots says where they are, in its log and to its probes, and no password."""
    closed, port = brokers.free_ports(2)
    with Children(tmp_path / "logs") as children:
        broker = brokers.start("embedded", children, tmp_path)
        brokers.wait_ready(broker, children)
        brokers.create_topics(broker, {f"flights.{kind}": TopicSpec() for kind in TOPICS})
        store = {"THALWEG_SNAPSHOTS": f"{kind}://me:{secret('store')}@127.0.0.1:{closed}/x"}
        more = store | {"THALWEG_HEALTH_PORT": str(port)}
        argv = [sys.executable, "-m", "services.features"]
        child = children.start("features", argv, env=environment(tmp_path, broker.address, **more), cwd=ROOT)

        def waits() -> str:
            assert child.alive, child.tail()
            try:
                said = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).text
            except httpx.HTTPError:
                return ""
            return said if kind in said else ""

        said = until(waits, 90)
        log = child.log.read_text()
    assert f"@127.0.0.1:{closed}" in said
    assert WORD not in said
    assert WORD not in log


@pytest.mark.parametrize(
    ("service", "variables"),
    [
        ("features", {"THALWEG_SNAPSHOTS": f"sftp://me:{WORD}@host/x"}),
        ("features", {"THALWEG_SNAPSHOTS": f"file://me:{WORD}@host/x"}),
        ("trainer", {"THALWEG_TRAINER_MLFLOV": f"http://me:{WORD}@host"}),
        ("console", {"THALWEG_CONSOLE_STORE_MB": f"{WORD}"}),
    ],
)
def test_a_setting_that_is_refused_is_named_without_what_it_holds(
    tmp_path: Path, service: str, variables: dict[str, str]
) -> None:
    """A service that can't begin ends with 1, and its last words have no secret, though they name the setting."""
    argv = [sys.executable, "-m", f"services.{service}"]
    (closed,) = brokers.free_ports(1)
    ours = environment(tmp_path, f"127.0.0.1:{closed}", **variables)
    done = subprocess.run(argv, env=ours, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.strip()
    assert WORD not in done.stderr + done.stdout


def test_the_command_line_says_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of a command is masked as a log line is."""
    where = ["--run-dir", str(tmp_path), "--schemas", f"https://me:{WORD}@host/schemas"]
    assert cli.main(["verify", "--broker", "127.0.0.1:1", *where]) == 1
    said = capsys.readouterr()
    assert "host" in said.err
    assert WORD not in said.err + said.out


def test_an_error_that_nobody_foresaw_shows_no_secret() -> None:
    """It ends the process with 1 and its traceback is in the log, masked as the log is."""
    code = (
        "from services.runtime.process import run_service\n"
        "def main(): raise RuntimeError('kafka://me:' + 'made-up' * 2 + '@host')\n"
        "run_service('features', main)\n"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "kafka://***@host" in done.stderr
    assert "made-upmade-up" not in done.stderr
