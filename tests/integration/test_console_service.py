"""The console as a process on a real broker: who may do what, what it shows, what it writes, and what it outlives."""

import base64
import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from infra.local import brokers
from infra.local.processes import Children
from services.runtime.alerts import Alert, Place
from services.runtime.artifacts import Artifacts
from services.runtime.commands import Hold, Silence, decode_command
from services.runtime.dead_letters import DeadLetter
from services.runtime.history import read_all
from services.runtime.models import BATCH, Moved, Registered, decode_event
from services.runtime.records import Record
from services.runtime.signing import make_keys
from tests.consoles import Log, Running, until

PROTOBUF = {"Content-Type": "application/x-protobuf"}
PLACE = Place(1, "flights.scored", 0, 1)
EVENT = {
    "event_id": "2014-01-01-AA-1-JFK",
    "origin": "JFK",
    "dest": "MIA",
    "carrier": "AA",
    "flight": 1,
    "tailnum": None,
    "scheduled_at": "2014-01-01T10:40:00Z",
    "departed_at": "2014-01-01T10:42:00Z",
    "departure_delay_min": 2.0,
    "distance_mi": 1089.0,
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    folder = tmp_path_factory.mktemp("console")
    with Children(folder / "logs") as children:
        broker = brokers.start("embedded", children, folder)
        brokers.wait_ready(broker, children)
        log = Log(broker, folder / "data")
        log.create()
        make_keys(log.settings.data / "keys")
        yield log


@pytest.fixture(scope="module")
def console(log: Log) -> Iterator[Running]:
    console = Running(log)
    console.start()
    yield console
    console.kill()


@pytest.fixture
def program(console: Running) -> Iterator[httpx.Client]:
    with console.program() as client:
        yield client


def records(log: Log, kind: str) -> list[Record]:
    return [record for batch in read_all(log.settings, log.stream.topic(kind)) for record in batch]


def spans(*ids: int, service: str = "features", event_id: str = "e1") -> bytes:
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_spans.add()
    for number in ids:
        span = scope.spans.add(
            trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"), name="process", kind=5
        )
        span.start_time_unix_nano, span.end_time_unix_nano = time.time_ns(), time.time_ns() + 2_000_000
        span.attributes.add(key="thalweg.event_id").value.string_value = event_id
    return made.SerializeToString()


# Who may do what


@pytest.mark.parametrize(
    "path", ["live", "quality", "models", "alerts", "drift", "dead", "dead/0/0", "predictions/x", "traces", "settings"]
)
def test_nobody_looks_without_a_token(console: Running, path: str) -> None:
    """Each of them is 401 without a token, with a wrong one and with a made-up cookie, and says what to do."""
    for headers in ({}, {"Authorization": "Bearer x"}, {"Cookie": f"thalweg-{console.port}=acting.9999999999.n.0"}):
        answer = httpx.get(f"{console.url}/api/{path}", headers=headers)
        assert answer.status_code == 401
        assert set(answer.json()) == {"error", "do"}


ACTS = [
    "models/batch@1/promote",
    "models/batch@1/rollback",
    "models/batch@1/retire",
    "alerts/x/silence",
    "hold",
    "dead/0/0/replay",
]


@pytest.mark.parametrize("path", ACTS)
def test_who_may_look_may_not_act(console: Running, path: str) -> None:
    """No act with the reading token, with a session that does not say its CSRF token, or from another site's page."""
    body: dict[str, Any] = {"reason": "r", "on": True, "hours": 1}
    with console.program("reading") as reader:
        assert reader.post(f"/api/{path}", json=body).status_code == 403
    with console.page() as (page, csrf):
        _refuses_all(page, csrf, path, body)
    assert httpx.post(f"{console.url}/api/{path}", json=body).status_code == 401


def _refuses_all(page: httpx.Client, csrf: str, path: str, body: dict[str, Any]) -> None:
    said = {"X-Thalweg-CSRF": csrf}
    strange = [
        {},
        {"X-Thalweg-CSRF": "x"},
        said | {"Origin": "http://evil.example"},
        said | {"Sec-Fetch-Site": "cross-site"},
        said | {"Sec-Fetch-Site": "same-site"},
    ]
    for headers in strange:
        assert page.post(f"/api/{path}", json=body, headers=headers).status_code == 403


def test_a_session_is_a_cookie_that_no_script_reads(console: Running) -> None:
    """A good token becomes an HttpOnly, SameSite=Strict cookie; a bad one, or one from elsewhere, becomes nothing."""
    answer = httpx.post(f"{console.url}/api/session", json={"token": console.token("reading")})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert answer.json() | {"csrf": ""} == {"reading": True, "acting": False, "csrf": ""}
    assert console.token("reading") not in answer.text + cookie
    bad = httpx.post(f"{console.url}/api/session", json={"token": "x"})
    assert (bad.status_code, "set-cookie" in bad.headers) == (401, False)
    foreign = {"Origin": "http://evil.example"}
    assert (
        httpx.post(f"{console.url}/api/session", json={"token": console.token("reading")}, headers=foreign).status_code
        == 403
    )
    nobody = httpx.get(f"{console.url}/api/session").json()
    assert nobody == {"reading": False, "acting": False, "csrf": ""}
    with console.page() as (page, csrf):
        assert page.get("/api/session").json() == {"reading": True, "acting": True, "csrf": csrf}
        page.delete("/api/session")
        assert page.get("/api/session").json()["reading"] is False


@pytest.mark.parametrize("path", ["/", "/api/session", "/nothing", "/api/quality", "/api/predictions/x"])
def test_every_answer_keeps_other_scripts_out(console: Running, path: str) -> None:
    """Pages, answers and errors alike say what a browser may run and frame, and are kept by no cache."""
    answer = httpx.get(console.url + path)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"


def test_no_token_is_in_what_it_says(console: Running, program: httpx.Client) -> None:
    """Neither the log nor the settings nor any part holds a token; their file is its owner's alone."""
    shown = program.get("/api/settings").text + console.said + program.get("/api/models").text
    for level in ("reading", "acting", "key"):
        assert console.token(level) not in shown
    assert (console.data / "console" / "tokens.json").stat().st_mode & 0o077 == 0
    assert program.get("/api/settings").json()["store_mb"] == 16


# Spans


def test_spans_come_in_either_encoding_and_out_again(console: Running, program: httpx.Client) -> None:
    """Protobuf, gzip and JSON (as Triton posts it) are taken without a token, and are in their trace a moment later."""
    url = f"{console.url}/v1/traces"
    answer = httpx.post(url, content=gzip.compress(spans(11)), headers=PROTOBUF | {"Content-Encoding": "gzip"})
    assert answer.headers["content-type"] == PROTOBUF["Content-Type"]
    assert not ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans
    ids = {"traceId": f"{11:032x}", "spanId": f"{12:016x}", "parentSpanId": f"{11:016x}"}
    span = ids | {"name": "InferRequest", "kind": 1, "startTimeUnixNano": "5", "endTimeUnixNano": "9"}
    triton = {
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "triton"}}]},
        "scopeSpans": [{"spans": [span]}],
    }
    assert httpx.post(url, json={"resourceSpans": [triton]}).json() == {}
    found = until(lambda: _two(program.get(f"/api/traces/{11:032x}").json().get("spans", [])))
    assert {span["service"] for span in found} == {"features", "triton"}
    assert found[0]["parent_id"] == f"{11:016x}"
    listed = program.get("/api/traces", params={"service": "triton"}).json()["traces"]
    assert listed[0]["trace_id"] == f"{11:032x}"
    assert program.get("/api/traces", params={"limit": "many"}).status_code == 400
    assert program.get(f"/api/traces/{99:032x}").status_code == 404


def _two(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return found if len(found) == 2 else []


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"\xff\xff", PROTOBUF, 400),
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"x", PROTOBUF | {"Content-Encoding": "gzip"}, 400),
        (b"x", {"Content-Type": "text/plain"}, 415),
        (b"x", PROTOBUF | {"Content-Encoding": "br"}, 415),
        (gzip.compress(b"\0" * (9 << 20)), PROTOBUF | {"Content-Encoding": "gzip"}, 413),
        (b"", PROTOBUF | {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_what_is_no_span_is_refused(console: Running, content: bytes, headers: dict[str, str], status: int) -> None:
    """Other bytes, types and codings, a bomb, another site's page: each has its status, and the console goes on."""
    answer = httpx.post(f"{console.url}/v1/traces", content=content, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "do"}


# What it shows


def test_an_empty_system_is_shown_as_one(console: Running, program: httpx.Client) -> None:
    """Each part comes once on connect, whatever is in it; what is not there says what to do."""
    found = console.live(program, 2.0)
    assert set(found) == {"flow", "quality", "tape", "models", "alerts", "drift", "dead"}
    assert found["flow"]["waiting_for"] is None
    missing = program.get("/api/predictions/no-such-event")
    assert missing.status_code == 404
    assert "thalweg trace no-such-event" in missing.json()["do"]
    assert program.get("/api/dead/0/77").status_code == 404


def test_a_prediction_is_found_and_shown_with_its_label(log: Log, console: Running, program: httpx.Client) -> None:
    """It is on the tape; asked for, it says its versions, weights and label, and its trace is that of its spans."""
    found = {
        "event_id": "e1",
        "key": "JFK",
        "event_time": "2014-01-01T10:42:00Z",
        "prediction": {"late": 0.25},
        "scores": {"online@3": 0.25},
        "weights": {"online@3": 1.0},
        "source": {"partition": 1, "offset": 5},
    }
    log.say("predictions", found, partition=1)
    log.say(
        "labels", {"event_id": "e1", "origin": "JFK", "late": True, "landed_at": "2014-01-01T12:00:00Z"}, partition=1
    )
    httpx.post(f"{console.url}/v1/traces", content=spans(21), headers=PROTOBUF)
    until(lambda: program.get(f"/api/traces/{21:032x}").is_success)
    tape = until(lambda: console.live(program, 1.5)["tape"]["predictions"])
    assert (tape[0]["event_id"], tape[0]["score"], tape[0]["offset"]) == ("e1", 0.25, 5)
    story = program.get("/api/predictions/e1").json()
    assert (story["versions"], story["weights"]) == (["online@3"], {"online@3": 1.0})
    assert (story["label"]["late"], story["label"]["time"]) == (True, "2014-01-01T12:00:00Z")
    assert story["trace"]["trace_id"] == f"{21:032x}"
    assert story["features"] == []
    assert console.live(program, 1.5)["tape"]["predictions"][0]["label"] == 1.0


# What it writes


def test_a_person_decides_on_versions(log: Log, console: Running, program: httpx.Client) -> None:
    """Promote, roll back and retire write what the command line writes, with who and why; else it says why not."""
    artifacts = Artifacts(log.settings.data, log.stream.name)
    for version in (1, 2):
        artifacts.write(BATCH, version, b"a network")
        log.say("models", Registered(BATCH, version, log.stream.feature_set, 1000, 0.3, 0.5, "schedule"))
    because = {"reason": "it is better"}
    assert program.post("/api/models/batch@9/promote", json=because).status_code == 409
    assert program.post("/api/models/online@1/promote", json=because).status_code == 409
    assert program.post("/api/models/batch@1/promote", json={"reason": " "}).status_code == 422
    assert program.post("/api/models/batch@1/promote", json=because).is_success
    with console.page() as (page, csrf):
        assert page.post("/api/models/batch@2/promote", json=because, headers={"X-Thalweg-CSRF": csrf}).is_success
    until(lambda: _states(program) == {"batch@1": "shadow", "batch@2": "champion"})
    assert program.post("/api/models/batch@1/rollback", json=because).status_code == 409
    assert program.post("/api/models/batch@2/rollback", json=because).is_success
    until(lambda: _states(program) == {"batch@1": "champion", "batch@2": "retired"})
    assert program.post("/api/models/batch@1/retire", json=because).is_success
    moves = [event for record in records(log, "models") if isinstance(event := decode_event(record.value), Moved)]
    assert [(move.version, move.state) for move in moves[:2]] == [(1, "champion"), (2, "champion")]
    assert {move.actor.partition("@")[0] for move in moves} == {"console"}
    assert moves[0].reason == "it is better"


def _states(program: httpx.Client) -> dict[str, str]:
    return {one["name"]: one["state"] for one in program.get("/api/models").json()["versions"]}


def test_a_person_silences_and_holds(log: Log, program: httpx.Client) -> None:
    """A silence is of the alert's subject and kind, until then; a hold holds until it is let go. Both are shown."""
    alert = Alert(
        "loss:online:served/1", 0, "raised", "loss", "online", "critical", PLACE, PLACE, "log_loss", 0.2, "worse"
    )
    log.say("alerts", alert)
    until(lambda: program.get("/api/alerts").json()["open"])
    assert program.post("/api/alerts/none/silence", json={"hours": 1, "reason": "r"}).status_code == 404
    assert program.post(f"/api/alerts/{alert.id}/silence", json={"hours": -1, "reason": "r"}).status_code == 422
    assert program.post(f"/api/alerts/{alert.id}/silence", json={"hours": 2, "reason": "known"}).is_success
    assert program.post("/api/hold", json={"on": True, "reason": "a storm"}).is_success
    shown = until(lambda: _held(program.get("/api/alerts").json()))
    assert shown["hold"]["reason"] == "a storm"
    silence, hold = (decode_command(record.value) for record in records(log, "commands"))
    assert isinstance(silence, Silence)
    assert (silence.subject, silence.kind) == ("online", "loss")
    assert silence.until == pytest.approx((time.time() + 7200) * 1e6, abs=60e6)
    assert isinstance(hold, Hold)
    assert program.post("/api/hold", json={"on": False, "reason": "over"}).is_success


def _held(said: dict[str, Any]) -> dict[str, Any]:
    return said if said["hold"] and said["silences"] else {}


def test_a_letter_is_mended_and_sent_once(log: Log, program: httpx.Client) -> None:
    """A letter shows its bytes; fixed, it goes under its right key with a mark, and never a second time."""
    bad = msgspec.json.encode(EVENT | {"distance_mi": "far"})
    letter = DeadLetter(
        "features", "schema", "Expected a number", "flights.events", 0, 0, None, base64.b64encode(bad).decode()
    )
    log.say("dead-letter", letter)
    until(lambda: program.get("/api/dead").json()["count"] == 1)
    found = program.get("/api/dead/0/0").json()
    assert (found["bytes"], found["encoding"], found["topic"]) == (bad.decode(), "text", "flights.events")
    assert found["replayed"] is False
    still_bad = program.post("/api/dead/0/0/replay", json={"fixed": found["bytes"]})
    assert still_bad.status_code == 409
    fixed = msgspec.json.encode(EVENT).decode()
    assert program.post("/api/dead/0/0/replay", json={"fixed": fixed}).is_success
    again = program.post("/api/dead/0/0/replay", json={"fixed": None})
    assert (again.status_code, "already" in again.json()["error"]) == (409, True)
    (sent,) = records(log, "events")
    assert (sent.key, msgspec.json.decode(sent.value)) == (b"JFK", EVENT)
    assert dict(sent.headers or [])["thalweg-replayed"] == b"flights.events/0/0"
    assert program.get("/api/dead/0/0").json()["replayed"] is True


# What it outlives


def test_a_killed_console_is_there_again(log: Log, tmp_path: Path) -> None:
    """Sessions, spans and the picture are there after a kill: in cookies, on disk, read anew."""
    mine = Log.__new__(Log)
    mine.__dict__ |= log.__dict__ | {"settings": msgspec.structs.replace(log.settings, data=tmp_path)}
    console = Running(mine)
    console.start()
    with console.page() as (page, csrf):
        httpx.post(f"{console.url}/v1/traces", content=spans(31), headers=PROTOBUF)
        until(lambda: page.get(f"/api/traces/{31:032x}").is_success)
        console.kill()
        console.start()
        assert page.get("/api/session").json() == {"reading": True, "acting": True, "csrf": csrf}
        assert page.get(f"/api/traces/{31:032x}").is_success
    assert console.stop() == 0


def test_a_broker_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """Without a broker the page says for what it waits; with one it reads, with another anew."""
    with Children(tmp_path / "logs") as children:
        broker = brokers.start("embedded", children, tmp_path)
        brokers.wait_ready(broker, children)
        log = Log(broker, tmp_path / "data")
        log.create()
        log.say("models", *(Registered(BATCH, n, log.stream.feature_set, 9, 0.3, 0.5, "schedule") for n in (1, 2)))
        children["tansu"].stop()
        console = Running(log)
        console.start()
        try:
            with console.program() as program:
                until(lambda: "broker" in (console.live(program, 1.5)["flow"]["waiting_for"] or ""))
                assert program.get("/api/predictions/x").status_code == 503
                children["tansu"].restart()
                brokers.wait_ready(broker, children)
                until(lambda: "not there" in (console.live(program, 1.5)["flow"]["waiting_for"] or ""), 40)
                log.create()
                log.say("models", Registered(BATCH, 1, log.stream.feature_set, 9, 0.3, 0.5, "schedule"))
                until(lambda: console.live(program, 1.5)["flow"]["waiting_for"] is None, 40)
                until(lambda: _states(program) == {"batch@1": "registered"}, 40)
        finally:
            console.kill()
