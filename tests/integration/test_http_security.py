"""The HTTP door with keys, as its own process on a real broker: who is let in, for what, how much, and what is told."""

import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families as parse

from infra.cli import main
from infra.local import authority, brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Child, Children
from infra.local.replayer import Replayer
from services.runtime.history import read_all
from services.runtime.settings import Settings
from services.runtime.stream import load_stream
from tests.departures import EVENT, LABEL

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
STREAM = load_stream(ROOT / "schemas", "flights")
PREFIX = "/v1/streams/flights"
EXAMPLES = {"events": EVENT, "labels": LABEL}
WRITE = "events:write"
REASONS = set(tomllib.loads((ROOT / "infra" / "telemetry.toml").read_text())["values"]["refusal"])
ALL = f"{WRITE},labels:write,predictions:read"


class Keys:
    """A file of keys, changed by the command as an operator would; `shown` has every key that was ever shown."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.shown, self._capsys = path, list[str](), capsys

    def __call__(self, *arguments: str) -> str:
        assert main(["keys", *arguments, "--file", str(self.path)]) == 0
        said = self._capsys.readouterr().out.strip()
        if said.startswith("thalweg_"):
            self.shown.append(said)
        return said

    def create(self, name: str, scopes: str = ALL, *more: str) -> str:
        return self("create", name, "--scopes", scopes, *more)


class Door:
    """A running ingestion."""

    def __init__(self, child: Child, url: str, broker: str, trust: ssl.SSLContext | None) -> None:
        self.child, self.url, self.settings = child, url, Settings(broker=broker)
        self.http = httpx.Client(base_url=url, timeout=30, verify=True if trust is None else trust)

    def post(self, key: str | None, kind: str = "events", **event: Any) -> httpx.Response:
        body = json.dumps(EXAMPLES[kind] | event).encode()
        return self.post_lines(key, body, kind, "application/json")

    def post_lines(
        self, key: str | None, body: bytes, kind: str = "events", media: str = "application/x-ndjson"
    ) -> httpx.Response:
        return self.http.post(f"{PREFIX}/{kind}", content=body, headers=bearer(key) | {"Content-Type": media})

    def ids(self, kind: str = "events") -> Counter[str]:
        """Return how often each event's id is on the log."""
        found = (record for batch in read_all(self.settings, STREAM.topic(kind)) for record in batch)
        return Counter(json.loads(record.value)["event_id"] for record in found)

    def log(self) -> str:
        return self.child.log.read_text()

    def refusals(self) -> Counter[str]:
        """Return how many refusals the log tells of, by reason."""
        told = Counter[str]()
        for found in re.finditer(r"refused status=\d+ reason=(\w+) .*times=(\d+)", self.log()):
            told[found[1]] += int(found[2])
        return told

    def counted(self) -> Counter[str]:
        """Return how many the metric counts, by reason."""
        told = Counter[str]()
        for family in parse(self.http.get("/metrics").text):
            for sample in family.samples:
                if sample.name == "thalweg_refused_requests_total":
                    told[sample.labels["reason"]] += int(sample.value)
        return told


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Children(tmp_path_factory.mktemp("broker")) as children:
        broker = brokers.embedded(children, brokers.free_ports(1)[0])
        brokers.wait_ready(broker, children)
        brokers.create_topics(
            broker, {STREAM.topic(kind): TopicSpec(3) for kind in ("events", "labels", "predictions")}
        )
        yield broker


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Keys:
    return Keys(tmp_path / "keys.json", capsys)


@contextlib.contextmanager
def ingestion(
    broker: Broker,
    keys: Keys,
    trust: ssl.SSLContext | None = None,
    **settings: object,
) -> Iterator[Door]:
    """Have a door with these keys; afterwards its log has none of them and no traceback, its metric no other reason."""
    port = brokers.free_ports(1)[0]
    given = {"THALWEG_BROKER": broker.address, "THALWEG_INGESTION_PORT": str(port)}
    given |= {f"THALWEG_INGESTION_{name}": str(value) for name, value in {"KEYS": keys.path, **settings}.items()}
    scheme = "http" if trust is None else "https"
    with Children(keys.path.parent / "logs") as children:
        child = children.start(
            "ingestion", [sys.executable, "-m", "services.ingestion"], env=os.environ | given, cwd=ROOT
        )
        door = Door(child, f"{scheme}://127.0.0.1:{port}", broker.address, trust)
        with door.http:
            wait_until(lambda: healthy(door, children), 30)
            yield door
            children.check()
            assert set(door.counted()) <= REASONS
        told = door.log()
        assert "Traceback" not in told
        assert not [key for key in keys.shown if key[-43:] in told]


def healthy(door: Door, children: Children) -> bool:
    children.check()
    try:
        return door.http.get("/healthz").is_success
    except httpx.TransportError:
        return False


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_a_key_is_good_for_its_scopes_on_its_stream(broker: Broker, keys: Keys) -> None:
    """202, or the event stream, for what a key is for; 403 for the rest; 401 for none; and nothing of it on the log."""
    writer, labeller = keys.create("writer", WRITE), keys.create("labeller", "labels:write", "--streams", "*")
    reader, stranger = keys.create("reader", "predictions:read"), keys.create("elsewhere", ALL, "--streams", "bikes")
    expected = {
        writer: (202, 403, 403),
        labeller: (403, 202, 403),
        reader: (403, 403, 200),
        stranger: (403, 403, 403),
        None: (401, 401, 401),
        "thalweg_" + "0" * 12 + "_" + "A" * 43: (401, 401, 401),
        writer[:-1] + ("A" if writer[-1] != "A" else "B"): (401, 401, 401),
    }
    with ingestion(broker, keys) as door:
        for number, (key, statuses) in enumerate(expected.items()):
            found = [door.post(key, kind, event_id=f"scoped-{number}") for kind in ("events", "labels")]
            with door.http.stream("GET", f"{PREFIX}/predictions", headers=bearer(key)) as stream:
                assert (*(one.status_code for one in found), stream.status_code) == statuses, key
                challenge = stream.headers.get("www-authenticate", "")
            assert challenge.startswith('Bearer realm="thalweg"') == (statuses[2] >= 400)
            assert ("insufficient_scope" in challenge) == (statuses[2] == 403)
        assert [name for name in door.ids() if name.startswith("scoped-")] == ["scoped-0"]
        assert [name for name in door.ids("labels") if name.startswith("scoped-")] == ["scoped-1"]
        assert door.http.get("/openapi.json").status_code == door.http.get("/readyz").status_code == 200


def test_every_refusal_is_told(broker: Broker, keys: Keys) -> None:
    """Who by key id, from where, what and why: the log's lines and the metric tell of each, and of as many."""
    key, reader = keys.create("airline"), keys.create("reader", "predictions:read")
    with ingestion(broker, keys, MAX_BODY=5000) as door:
        for _ in range(40):
            assert door.post(None).status_code == 401
        assert door.post(reader).status_code == 403
        assert door.post_lines(key, b"x" * 6000).status_code == 413
        assert door.post_lines(key, b"{}", media="text/plain").status_code == 415
        assert door.http.get("/elsewhere").status_code == 404
        expected = Counter(none=40, scope=1, size=1, type=1, path=1)
        wait_until(lambda: door.refusals() == expected)
        assert door.counted() == expected
        who = "address=127.0.0.1 key={} producer={} times=1"
        route = "method=POST route=/v1/streams/{stream}/events"
        assert f"status=403 reason=scope {route} {who.format(reader[8:20], 'reader')}" in door.log()
        assert f"status=413 reason=size {route} {who.format(key[8:20], 'airline')}" in door.log()
        assert door.log().count("reason=none") < 20


def test_a_quota_is_429_and_who_waits_gets_through(broker: Broker, keys: Keys) -> None:
    """Over its records or bytes a second: 429 with Retry-After, not on the log; after it, 202. Others don't notice."""
    few, small = keys.create("few", WRITE, "--records", "5"), keys.create("small", WRITE, "--bytes", "400")
    free = keys.create("free", WRITE)
    with ingestion(broker, keys) as door:
        line = json.dumps(EVENT | {"event_id": "paid"}).encode()
        assert 200 < len(line) < 300
        waits = []
        for key, lines in ((few, 20), (small, 7)):  # a full bucket takes more than it holds: 3 seconds' debt
            assert door.post_lines(key, b"\n".join([line] * lines)).status_code == 202
            refused = door.post(key, event_id="refused")
            assert refused.status_code == 429
            assert "a second that" in refused.json()["error"]
            waits.append(int(refused.headers["retry-after"]))
        assert door.post(free, event_id="free").status_code == 202
        assert min(waits) >= 2
        time.sleep(max(waits))
        assert [door.post(key, event_id="later").status_code for key in (few, small)] == [202, 202]
        found = door.ids()
        assert [found[name] for name in ("paid", "refused", "free", "later")] == [27, 0, 1, 2]
        assert door.counted() == {"records": 1, "bytes": 1}


def test_a_producer_has_so_many_listeners(broker: Broker, keys: Keys) -> None:
    """A third of two is 429; another producer is let in, and once one of the two has left, so is the third."""
    key, other = keys.create("many"), keys.create("other")
    with ingestion(broker, keys, LISTENERS=2) as door, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=door.url, timeout=30)) for _ in range(4)]

        def listen(client: httpx.Client, key: str) -> int:
            stream = stack.enter_context(client.stream("GET", f"{PREFIX}/predictions", headers=bearer(key)))
            return stream.status_code

        assert [listen(client, key) for client in clients[:3]] == [200, 200, 429]
        assert listen(clients[3], other) == 200
        clients[0].close()
        wait_until(lambda: listen(clients[2], key) == 200)


def test_the_rate_is_what_the_quota_says(broker: Broker, keys: Keys) -> None:
    """The replayer, which honours Retry-After, gets all of 900 events through at 300 a second, each once, no faster."""
    key = keys.create("steady", ALL, "--records", "300")
    timed = [(float(n), "event", EVENT | {"event_id": f"steady-{n}"}) for n in range(900)]
    with ingestion(broker, keys) as door:
        began = time.monotonic()
        sender = Replayer(STREAM, door.url, iter(timed), float("inf"), lambda: None, most=100, key=key)
        sender.run(lambda: None)
        assert time.monotonic() - began > 1.9, "600 of them have to wait, and the last hundred is paid off afterwards"
        found = {name: times for name, times in door.ids().items() if name.startswith("steady-")}
        assert found == {f"steady-{n}": 1 for n in range(900)}
        assert door.counted()["records"] > 0


class Sender(threading.Thread):
    """Posts one event after the other with the newest key; `answers` has each one's status by the event's id."""

    def __init__(self, door: Door, name: str, held: list[str]) -> None:
        super().__init__(daemon=True)
        self._door, self._name, self._held = door, name, held
        self.answers: dict[str, int] = {}
        self.stopping = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._door.url, timeout=30) as client:
            for number in count():
                if self.stopping.is_set():
                    return
                name = f"{self._name}-{number}"
                body = json.dumps(EVENT | {"event_id": name})
                headers = bearer(self._held[-1]) | {"Content-Type": "application/json"}
                self.answers[name] = client.post(f"{PREFIX}/events", content=body, headers=headers).status_code


def test_rotation_under_load_loses_no_request(broker: Broker, keys: Keys) -> None:
    """Six rotations under four senders' load: every request is 202 and on the log once; old keys end in time."""
    held = [keys.create("airline", WRITE)]
    with ingestion(broker, keys) as door:
        pid = door.child.pid
        senders = [Sender(door, f"rotated-{number}", held) for number in range(4)]
        for sender in senders:
            sender.start()
        for _ in range(6):
            time.sleep(0.4)
            fresh = keys("rotate", "airline", "--grace", "30s")
            time.sleep(0.1)  # a producer takes a while to be given its key
            held.append(fresh)
        time.sleep(0.4)
        for sender in senders:
            sender.stopping.set()
        for sender in senders:
            sender.join(30)
        answers = {name: status for sender in senders for name, status in sender.answers.items()}
        assert Counter(answers.values()) == {202: len(answers)}
        assert len(answers) > 7 * len(senders), "there was hardly any load"
        on_log = door.ids()
        assert {name: on_log[name] for name in answers} == dict.fromkeys(answers, 1)
        assert door.post(held[0]).status_code == 202
        keys("rotate", "airline", "--grace", "0.000001s")
        wait_until(lambda: {door.post(key).status_code for key in held} == {401})
        assert door.post(keys.shown[-1]).status_code == 202
        assert door.child.pid == pid
        assert door.child.alive


def test_a_revoked_key_is_refused_at_once(broker: Broker, keys: Keys) -> None:
    """The request after `revoke` is 401, on a connection that is open too, and whoever listens with it is let go."""
    key, other = keys.create("airline"), keys.create("other")
    with ingestion(broker, keys) as door:
        assert door.post(key).status_code == 202
        with door.http.stream("GET", f"{PREFIX}/predictions", headers=bearer(key)) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith(":")
            keys("revoke", "airline")
            refused = door.post(key)
            assert (refused.status_code, "revoked" in refused.json()["error"]) == (401, True)
            assert door.post(other).status_code == 202
            predict(broker)
            told = (line for line in lines if line)
            assert list(islice(told, 2)) == ["event: refused", f"data: {GOOD_NO_MORE}"]
            assert not list(told), "the stream ends"
        wait_until(lambda: door.refusals()["revoked"] == 2)


GOOD_NO_MORE = "the key that this was asked for with is good no more"


def predict(broker: Broker) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
    producer.produce("flights.predictions", b'{"event_id": "secret"}', b"JFK")
    assert producer.flush(10) == 0


def test_a_door_without_keys_closes_with_the_first(broker: Broker, keys: Keys) -> None:
    """On this machine alone nobody needs a key; from the first one on everybody does; a broken file opens nothing."""
    with ingestion(broker, keys) as door:
        assert door.post(None).status_code == 202
        assert {} in door.http.get("/openapi.json").json()["paths"][f"{PREFIX}/events"]["post"]["security"]
        key = keys.create("first")
        assert (door.post(None).status_code, door.post(key).status_code) == (401, 202)
        assert {} not in door.http.get("/openapi.json").json()["paths"][f"{PREFIX}/events"]["post"]["security"]
        keys.path.unlink()
        assert (door.post(None).status_code, door.post(key).status_code) == (401, 202)
        keys.path.write_text("{")
        assert (door.post(None).status_code, door.post(key).status_code) == (401, 202)
        assert "stay in force" in door.log()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - what is to be refused
def test_strangers_need_keys(broker: Broker, keys: Keys, host: str) -> None:
    """On another host than this machine a start without keys is refused, and the line says what to do."""
    given = {"THALWEG_BROKER": broker.address, "THALWEG_INGESTION_HOST": host, "THALWEG_INGESTION_KEYS": str(keys.path)}
    argv = [sys.executable, "-m", "services.ingestion"]
    done = subprocess.run(
        argv, env=os.environ | given, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"thalweg keys create NAME --file {keys.path}" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_keys_it_listens_to_strangers(broker: Broker, keys: Keys) -> None:
    """On every address with keys: it starts, and warns that they come in the clear."""
    key = keys.create("airline")
    with ingestion(broker, keys, HOST="0.0.0.0") as door:  # noqa: S104 - a test's own machine
        assert (door.post(key).status_code, door.post(None).status_code) == (202, 401)
        assert "keys come in the clear" in door.log()


def test_tls_and_a_new_certificate_without_a_restart(broker: Broker, keys: Keys, tmp_path: Path) -> None:
    """HTTPS alone is spoken, 1.2 and above, keys as ever; a new certificate is shown to whoever comes after it."""
    key, made = keys.create("airline"), authority.issue(tmp_path)
    serial, trust = authority.serial(made.chain), ssl.create_default_context(cafile=made.authority)
    files = {"TLS_CERTIFICATE": made.chain, "TLS_KEY": made.key}
    with ingestion(broker, keys, trust, **files) as door:
        assert (door.post(key).status_code, door.post(None).status_code) == (202, 401)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{door.url}/healthz", timeout=20)
        with pytest.raises(httpx.TransportError):
            httpx.get(door.url.replace("https", "http") + "/healthz", timeout=20)
        with door.http.stream("GET", f"{PREFIX}/predictions", headers=bearer(key)) as stream:
            assert next(stream.iter_lines()).startswith(":")
            assert shown(door) == serial
            renewed = authority.serial(authority.issue(tmp_path).chain)
            wait_until(lambda: shown(door) == renewed)
            trust.load_verify_locations(made.authority)
            assert not stream.is_closed
            assert door.post(key).status_code == 202


def shown(door: Door) -> int:
    """Return the serial number of the certificate that a newcomer is shown."""
    address = ("127.0.0.1", httpx.URL(door.url).port or 0)
    from cryptography import x509  # noqa: PLC0415 - here alone

    return x509.load_pem_x509_certificate(ssl.get_server_certificate(address, timeout=20).encode()).serial_number


def test_schemathesis_with_a_key_finds_nothing(broker: Broker, keys: Keys, tmp_path: Path) -> None:
    """With a key the answers are as described, and schemathesis finds no operation that lets it in without."""
    key = keys.create("prober")
    with ingestion(broker, keys) as door:
        command: list[str | Path] = [Path(sys.executable).with_name("st"), "run", f"{door.url}/openapi.json"]
        command += ["--include-path-regex", "events$", "--max-examples", "10", "--seed", "1", "--no-color"]
        command += ["--header", f"Authorization: Bearer {key}"]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(HERE)}
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No issues found" in done.stdout
