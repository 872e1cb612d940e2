"""The HTTP door as its own process on a real broker: what it answers, what then stands on the log, how it ends."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from confluent_kafka import Producer

from infra.local import brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Child, Children
from services.runtime.history import read_all
from services.runtime.records import Record
from services.runtime.settings import Settings
from services.runtime.stream import load_stream
from tests.departures import EVENT, LABEL

ROOT = Path(__file__).parents[2]
STREAM = load_stream(ROOT / "schemas", "flights")
MAX_BODY, QUEUE, PARTITIONS = 20_000, 10, 3
NDJSON = "application/x-ndjson"
JSON = "application/json"
EXAMPLES = {"events": EVENT, "labels": LABEL}


def line(kind: str, name: str, **other: Any) -> bytes:
    """Return a good record named `name`, as some producer would write it: spaces, and an order of its own."""
    return json.dumps(
        {**other, **{k: v for k, v in EXAMPLES[kind].items() if k not in other}, "event_id": name}
    ).encode()


class Door:
    """A running ingestion, and the log behind it. Every answer to a POST is held against the OpenAPI document."""

    def __init__(self, broker: Broker, tansu: Child, child: Child, url: str) -> None:
        self.tansu, self.child = tansu, child
        self.settings = Settings(broker=broker.address)
        self.http = httpx.Client(base_url=url, timeout=20)

    def memory(self) -> int:
        """Return the bytes that the process holds in memory."""
        return int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def post(self, kind: str, body: bytes | Iterator[bytes], content_type: str = NDJSON) -> httpx.Response:
        path = f"/v1/streams/flights/{kind}"
        answer = self.http.post(path, content=body, headers={"Content-Type": content_type})
        described = self.http.get("/openapi.json").json()["paths"][path]["post"]["responses"]
        media = described[str(answer.status_code)]["content"]
        assert answer.headers["content-type"] in media
        complain(answer.json(), media[answer.headers["content-type"]]["schema"], "answer")
        return answer

    def watch(self, kind: str) -> Callable[[int], list[Record]]:
        """Return a function that waits until that many records, and no more, were put on the topic since now."""
        heights = Counter(record.position for record in self.log(kind))

        def fresh() -> list[Record]:
            return [record for record in self.log(kind) if record.offset >= heights[record.position]]

        def take(n: int) -> list[Record]:
            end = time.monotonic() + 10
            while len(found := fresh()) < n and time.monotonic() < end:
                time.sleep(0.05)
            assert len(found) == n, found
            return found

        return take

    def log(self, kind: str) -> list[Record]:
        return [record for batch in read_all(self.settings, STREAM.topic(kind)) for record in batch]

    def predict(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Put predictions on their topic, a batch each: in its watermarks Tansu counts a batch as one record."""
        producer = Producer({"bootstrap.servers": self.settings.broker, "log_level": 0})
        for key, value in records:
            producer.produce("flights.predictions", value, key)
            assert producer.flush(10) == 0


def complain(value: Any, schema: dict[str, Any], place: str) -> None:
    """Hold a value against the JSON Schema words that the document uses."""
    kinds = {"object": dict, "array": list, "integer": int, "string": str}
    assert isinstance(value, kinds[schema["type"]]), f"{place}: {value!r} is no {schema['type']}"
    assert value in schema.get("enum", [value]), f"{place}: {value!r} is none of {schema['enum']}"
    assert set(schema) <= {"type", "enum", "required", "properties", "items", "minimum", "description"}, place
    if isinstance(value, dict):
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), f"{place}: {sorted(value)}"
        for name, inner in value.items():
            complain(inner, schema["properties"][name], f"{place}.{name}")
    if isinstance(value, list):
        for number, inner in enumerate(value):
            complain(inner, schema["items"], f"{place}[{number}]")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, Child]]:
    with Children(tmp_path_factory.mktemp("broker")) as children:
        broker = brokers.embedded(children, brokers.free_ports(1)[0])
        brokers.wait_ready(broker, children)
        topics = ("events", "labels", "predictions")
        brokers.create_topics(broker, {STREAM.topic(kind): TopicSpec(PARTITIONS) for kind in topics})
        yield broker, children["tansu"]


@contextmanager
def ingestion(log: tuple[Broker, Child], logs: Path) -> Iterator[Door]:
    port = brokers.free_ports(1)[0]
    environment = {
        "THALWEG_BROKER": log[0].address,
        "THALWEG_INGESTION_PORT": str(port),
        "THALWEG_INGESTION_MAX_BODY": str(MAX_BODY),
        "THALWEG_INGESTION_QUEUE": str(QUEUE),
    }
    with Children(logs) as children:
        argv = [sys.executable, "-m", "services.ingestion"]
        child = children.start("ingestion", argv, env={**os.environ, **environment}, cwd=ROOT)
        door = Door(*log, child, f"http://127.0.0.1:{port}")
        with door.http:
            wait_until(lambda: healthy(door, children))
            yield door


def healthy(door: Door, children: Children) -> bool:
    children.check()
    try:
        return door.http.get("/healthz").is_success
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def door(log: tuple[Broker, Child], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with ingestion(log, tmp_path_factory.mktemp("door")) as door:
        yield door
        assert door.child.alive, door.child.tail()


@pytest.mark.parametrize("kind", ["events", "labels"])
def test_one_object_is_on_the_log_as_the_bytes_that_it_came_in(door: Door, kind: str) -> None:
    """202 for a JSON object: its topic has one record more, the same bytes, keyed by the stream's key."""
    body = b"\n " + json.dumps(EXAMPLES[kind], indent=3).encode() + b"\n"
    take = door.watch(kind)
    answer = door.post(kind, body, f"{JSON}; charset=utf-8")
    [record] = take(1)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": []})
    assert (record.key, record.value) == (b"JFK", body)


def test_what_was_answered_with_202_is_already_on_the_log(door: Door) -> None:
    """An answer comes after durability: whoever reads the log after it finds the record."""
    door.post("events", line("events", "durable"))
    assert any(b'"durable"' in record.value for record in door.log("events"))


def test_lines_of_one_key_are_on_one_partition_in_their_order(door: Door) -> None:
    """A key's whole story stays on one partition, in the order of the lines, across requests too."""
    bodies = [[line("events", f"{n}", origin=("JFK", "EWR", "LGA")[n % 3]) for n in range(at, at + 9)] for at in (0, 9)]
    take = door.watch("events")
    for body in bodies:
        assert door.post("events", b"\n".join(body)).json()["accepted"] == 9
    records = take(18)
    for key in (b"JFK", b"EWR", b"LGA"):
        mine = [record for record in records if record.key == key]
        assert len({record.partition for record in mine}) == 1
        assert [r.value for r in mine] == [sent for body in bodies for sent in body if b'"%b"' % key in sent]


@pytest.mark.parametrize("kind", ["events", "labels"])
def test_a_bad_line_costs_nobody_but_itself(door: Door, kind: str) -> None:
    """202 where one line is good: it is on the log, and each other is listed with its number, reason and message."""
    good = [line(kind, "first"), line(kind, "last")]
    lines = [good[0], b"{", line(kind, "x", origin=7), b'{"a":"\xff"}', b"[" * 5000, line(kind, ""), good[1]]
    take = door.watch(kind)
    answer = door.post(kind, b"\n".join(lines) + b"\n")
    records = take(2)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    rejected = answer.json()["rejected"]
    assert [r["line"] for r in rejected] == [2, 3, 4, 5, 6]
    assert [r["reason"] for r in rejected][:2] == ["json", "schema"]
    assert "$.origin" in rejected[1]["message"]
    assert sorted(r.value for r in records) == sorted(good)


def test_a_label_is_no_event(door: Door) -> None:
    """Each endpoint has a schema of its own: what belongs to the other is refused, and not on the log."""
    events, labels = door.watch("events"), door.watch("labels")
    assert door.post("events", line("labels", "a")).status_code == 422
    assert door.post("labels", line("events", "a")).status_code == 422
    assert (events(0), labels(0)) == ([], [])


@pytest.mark.parametrize(
    ("body", "content_type", "lines"),
    [
        (b"", NDJSON, []),
        (b"\n \n", NDJSON, []),
        (b"null\n{}\n", NDJSON, [1, 2]),
        (b"", JSON, [1]),
        (json.dumps([EVENT]).encode(), JSON, [1]),
        (json.dumps({**EVENT, "unknown": 1}).encode(), JSON, [1]),
        (json.dumps({**EVENT, "departed_at": "2013-01-01T10:42:00"}).encode(), JSON, [1]),
        (json.dumps({**EVENT, "departure_delay_min": 1e9}).encode(), JSON, [1]),
    ],
)
def test_a_request_without_a_good_line_is_422(door: Door, body: bytes, content_type: str, lines: list[int]) -> None:
    """422 where nothing was accepted: every line is listed, and nothing is on the log."""
    take = door.watch("events")
    answer = door.post("events", body, content_type)
    take(0)
    assert answer.status_code == 422
    assert answer.json()["accepted"] == 0
    assert [r["line"] for r in answer.json()["rejected"]] == lines


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_413_as_a_whole(door: Door, chunked: bool) -> None:  # noqa: FBT001
    """413 above THALWEG_INGESTION_MAX_BODY, length announced or not; none of its lines is on the log; at it, 202."""
    good = line("events", "large")
    fits = good + b" " * (MAX_BODY - len(good))
    take = door.watch("events")
    answer = door.post("events", iter([fits, b"\n"]) if chunked else fits + b"\n")
    assert answer.status_code == 413
    assert str(MAX_BODY) in answer.json()["error"]
    assert door.post("events", iter([fits]) if chunked else fits).status_code == 202
    take(1)


@pytest.mark.parametrize(("method", "kind"), [("POST", "events"), ("POST", "labels"), ("GET", "predictions")])
def test_an_unknown_stream_is_404(door: Door, method: str, kind: str) -> None:
    """404 names the stream that was asked for and the one that is served."""
    answer = door.http.request(method, f"/v1/streams/tides/{kind}", content=line("events", "a"))
    assert answer.status_code == 404
    assert "'tides'" in answer.json()["error"]
    assert "'flights'" in answer.json()["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v2", 404), ("DELETE", "/healthz", 405)])
def test_every_refusal_is_json(door: Door, method: str, path: str, status: int) -> None:
    """What the application does not know is refused in its own form: `{"error": …}`."""
    answer = door.http.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, JSON)
    assert list(answer.json()) == ["error"]


def test_a_full_queue_is_503_and_nothing_of_that_request_is_taken(door: Door) -> None:
    """While the broker hangs, `queue` records wait; the next request is refused at once, and those that wait arrive."""
    bodies = [line("events", f"waiting-{n}") for n in range(QUEUE)]
    take = door.watch("events")
    with ThreadPoolExecutor(QUEUE) as senders:
        os.kill(door.tansu.pid, signal.SIGSTOP)
        try:
            waiting = [senders.submit(door.post, "events", body) for body in bodies]
            time.sleep(0.5)
            began = time.monotonic()
            refused = door.post("events", line("events", "one too many"))
            took = time.monotonic() - began
        finally:
            os.kill(door.tansu.pid, signal.SIGCONT)
        assert [answer.result().status_code for answer in waiting] == [202] * QUEUE
        assert sorted(record.value for record in take(QUEUE)) == sorted(bodies)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert took < 5
    assert door.post("events", line("events", "again")).status_code == 202


def test_ready_is_who_can_put_records_on_the_log(door: Door) -> None:
    """/readyz is 200 while the broker answers, 503 with the reason while it does not, and again 200 afterwards."""
    wait_until(lambda: door.http.get("/readyz").status_code == 200)
    assert door.http.get("/readyz").json()["status"] == "ready"
    os.kill(door.tansu.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: door.http.get("/readyz").status_code == 503, 5)
        away = door.http.get("/readyz").json()
        assert away["status"] == "waiting"
        assert "the broker, to say where flights.events is" in away["waiting_for"]
        assert door.http.get("/healthz").status_code == 200, "another start would not help it"
    finally:
        os.kill(door.tansu.pid, signal.SIGCONT)
    wait_until(lambda: door.http.get("/readyz").status_code == 200)


# The document


def test_the_document_describes_what_is_there(door: Door) -> None:
    """/openapi.json is OpenAPI 3.1: each path answers, and the bodies are the stream's own schemas."""
    document = door.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    assert set(document["info"]) >= {"title", "version"}
    prefix = "/v1/streams/flights"
    paths = {f"{prefix}/events": "post", f"{prefix}/labels": "post", f"{prefix}/predictions": "get"}
    paths |= {"/healthz": "get", "/readyz": "get", "/metrics": "get"}
    assert {path: next(iter(methods)) for path, methods in document["paths"].items()} == paths
    for kind, schema in (("events", STREAM.event), ("labels", STREAM.label)):
        content = document["paths"][f"{prefix}/{kind}"]["post"]["requestBody"]["content"]
        assert set(content) == {JSON, NDJSON}
        assert content[JSON]["schema"]["properties"] == schema["properties"]
        assert content[JSON]["schema"]["required"] == schema["required"]
        assert content[JSON]["schema"]["additionalProperties"] is False


def test_every_operation_has_described_answers(door: Door) -> None:
    """Each answer has a status and a description, as OpenAPI demands."""
    for path, methods in door.http.get("/openapi.json").json()["paths"].items():
        for operation in methods.values():
            assert operation["responses"], path
            for status, answer in operation["responses"].items():
                assert 200 <= int(status) < 600
                assert answer["description"], (path, status)


# Predictions, as server-sent events


class Listener:
    """A client of the event stream on a thread of its own; `seen` has what came, in order."""

    def __init__(self, door: Door, key: str | None = None) -> None:
        self.seen: list[dict[str, str]] = []
        self._client = httpx.Client(base_url=door.http.base_url, timeout=30)
        self._request = self._client.stream(
            "GET", "/v1/streams/flights/predictions", params={"key": key} if key else {}
        )

    def __enter__(self) -> Self:
        self.answer = self._request.__enter__()
        self._lines = self.answer.iter_lines()
        assert next(self._lines).startswith(":")  # the door listens from here on
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        event: dict[str, str] = {}
        try:
            for text in self._lines:
                if text and not text.startswith(":"):
                    name, _, value = text.partition(": ")
                    event[name] = value
                elif event:
                    self.seen.append(event)
                    event = {}
        except httpx.TransportError:
            return

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the door may have closed it
            self.answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._request.__exit__(None, None, None)
        self._client.close()


def prediction(name: str) -> bytes:
    return json.dumps({"event_id": name, "prediction": {"late": 0.25}}).encode()


def test_a_listener_gets_what_is_predicted_from_then_on(door: Door) -> None:
    """Server-sent events: what is put on `predictions` after the first line came is delivered, byte for byte, once."""
    door.predict([("JFK", prediction("before"))])
    with Listener(door) as listener:
        assert listener.answer.headers["content-type"].startswith("text/event-stream")
        sent = [prediction(f"after-{n}") for n in range(5)]
        door.predict([("JFK", value) for value in sent])
        wait_until(lambda: len(listener.seen) >= 5)
    assert [event["data"].encode() for event in listener.seen] == sent
    assert all(event["id"].count("-") == 1 for event in listener.seen)


def test_a_listener_of_one_key_hears_nothing_else(door: Door) -> None:
    """`?key=` filters, and does not take away from listeners of other keys."""
    with Listener(door, "JFK") as jfk, Listener(door, "LGA") as lga, Listener(door) as everything:
        door.predict([(key, prediction(f"{key}-{n}")) for n in range(4) for key in ("JFK", "EWR", "LGA")])
        wait_until(lambda: len(everything.seen) >= 12 and len(jfk.seen) >= 4 and len(lga.seen) >= 4)
    assert [json.loads(event["data"])["event_id"] for event in jfk.seen] == [f"JFK-{n}" for n in range(4)]
    assert [json.loads(event["data"])["event_id"] for event in lga.seen] == [f"LGA-{n}" for n in range(4)]
    assert len(everything.seen) == 12


def test_a_listener_that_does_not_read_costs_nobody_memory(door: Door) -> None:
    """50,000 predictions (50 MB) pass one client that reads none of them and one that reads all: nothing piles up.

    What a first such client made of it (its queue, the allocator's share) is what all of them may have together.
    """
    with Listener(door) as listener:
        with deaf(door):
            flood(door, listener, 50_000)
            before = door.memory()
            with deaf(door):
                flood(door, listener, 50_000)
        assert door.memory() - before < 12 << 20


def flood(door: Door, listener: Listener, number: int) -> None:
    """Predict so many events, a kilobyte each, no faster than the listener reads."""
    value = json.dumps({"event_id": "x" * 1000, "prediction": {"late": 0.25}}).encode()
    producer = Producer({"bootstrap.servers": door.settings.broker, "log_level": 0, "linger.ms": 5})
    end = len(listener.seen) + number
    while (left := end - len(listener.seen)) > 0:
        for _ in range(min(left, 2500)):
            producer.produce("flights.predictions", value, b"JFK")
        assert producer.flush(60) == 0
        wait_until(lambda: len(listener.seen) >= end - left + min(left, 2500), 60)


@contextmanager
def deaf(door: Door) -> Iterator[None]:
    """Have a client that follows the predictions and never reads."""
    with socket.create_connection((door.http.base_url.host, door.http.base_url.port or 80), 5) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /v1/streams/flights/predictions HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield


# The end


def test_sigterm_ends_it_in_order(log: tuple[Broker, Child], tmp_path: Path) -> None:
    """SIGTERM: exit code 0 within seconds, with a listener connected, and what was accepted is on the log."""
    with ingestion(log, tmp_path) as door, Listener(door):
        assert door.post("events", line("events", "the last one")).status_code == 202
        began = time.monotonic()
        door.child.terminate()
        wait_until(lambda: not door.child.alive)
        assert time.monotonic() - began < 8
        assert door.child.exit_code == 0, door.child.tail()
        assert any(b"the last one" in record.value for record in door.log("events"))


def test_a_setting_that_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    """A mistyped variable ends the process with 1 and names it; nothing starts with half of its settings."""
    with Children(tmp_path) as children:
        wrong = {**os.environ, "THALWEG_INGESTION_PROT": "8080"}
        child = children.start("ingestion", [sys.executable, "-m", "services.ingestion"], env=wrong, cwd=ROOT)
        wait_until(lambda: not child.alive)
        assert child.exit_code == 1
        assert "THALWEG_INGESTION_PROT: no such setting" in child.tail()
        assert "Traceback" not in child.tail()
