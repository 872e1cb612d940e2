"""The console as a process on a real broker: what it writes where people decide."""

import base64
import time
from typing import Any

import httpx
import msgspec
import pytest

from services.runtime.alerts import Alert, Place
from services.runtime.artifacts import Artifacts
from services.runtime.commands import Hold, Silence, decode_command
from services.runtime.dead_letters import DeadLetter
from services.runtime.models import BATCH, Moved, Registered, decode_event
from tests.consoles import Log, Running, states, until
from tests.departures import EVENT

PLACE = Place(1, "flights.scored", 0, 1)


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
    until(lambda: states(program) == {"batch@1": "shadow", "batch@2": "champion"})
    assert program.post("/api/models/batch@1/rollback", json=because).status_code == 409
    assert program.post("/api/models/batch@2/rollback", json=because).is_success
    until(lambda: states(program) == {"batch@1": "champion", "batch@2": "retired"})
    assert program.post("/api/models/batch@1/retire", json=because).is_success
    moves = [event for record in log.records("models") if isinstance(event := decode_event(record.value), Moved)]
    assert [(move.version, move.state) for move in moves[:2]] == [(1, "champion"), (2, "champion")]
    assert {move.actor.partition("@")[0] for move in moves} == {"console"}
    assert moves[0].reason == "it is better"


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
    silence, hold = (decode_command(record.value) for record in log.records("commands"))
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
    (sent,) = log.records("events")
    assert (sent.key, msgspec.json.decode(sent.value)) == (b"JFK", EVENT)
    assert dict(sent.headers or [])["thalweg-replayed"] == b"flights.events/0/0"
    assert program.get("/api/dead/0/0").json()["replayed"] is True
