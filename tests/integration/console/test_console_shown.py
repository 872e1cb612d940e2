"""The console as a process on a real broker: what it shows."""

import httpx

from tests.consoles import Log, Running, until
from tests.spanned import PROTOBUF, spans


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
