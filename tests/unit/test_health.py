"""What a probe is told: alive or not, ready or not, and what is waited for since when."""

import json
from typing import Any

import msgspec
import pytest

from services.runtime.health import (
    COMMIT,
    CONNECT,
    ENDED,
    FOLD,
    READ,
    RESTORE,
    SLOW_S,
    SNAPSHOT,
    START,
    STOP,
    STUCK_S,
    Health,
    Step,
)
from services.runtime.memory import ManualClock
from services.runtime.statistics import statistics


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def health(clock: ManualClock) -> Health:
    """Return the health of a service that is ready and between two steps."""
    health = Health("service", clock)
    health.enter(READ)
    health.own((0, 2), {})
    return health


def test_a_ready_service_says_what_it_has(health: Health) -> None:
    """The whole report, as JSON."""
    health.folded, health.lag = 7, {"in": 3}
    assert json.loads(msgspec.json.encode(health.report())) == {
        "service": "service",
        "status": "ready",
        "waiting_for": None,
        "since_s": None,
        "partitions": [0, 2],
        "restoring": {},
        "folded": 7,
        "lag": {"in": 3},
        "busy": None,
        "labelled": None,
    }
    assert (health.report().alive, health.report().ready) == (True, True)


def test_a_start_is_waited_for(clock: ManualClock) -> None:
    """A service that starts is alive however long it takes, and not ready before it was given partitions."""
    health = Health("service", clock)
    clock.time = 1000.0
    report = health.report()
    assert (report.status, report.waiting_for, report.since_s) == ("waiting", START.name, 1000.0)
    assert (report.alive, report.ready) == (True, False)
    health.enter(READ)
    report = health.report()
    assert (report.status, report.since_s, report.alive, report.ready) == ("joining", 1000.0, True, False)


@pytest.mark.parametrize("step", [READ, FOLD])
def test_a_step_of_its_own_that_does_not_end_is_stuck(clock: ManualClock, health: Health, step: Step) -> None:
    """Reading and folding depend on nobody outside: slow ones are waited for, and one that lasts a minute is stuck."""
    health.enter(step)
    clock.time += SLOW_S
    assert health.report().ready
    clock.time += 0.1
    report = health.report()
    assert (report.status, report.waiting_for, report.since_s, report.alive) == ("waiting", step.name, 3.1, True)
    clock.time = STUCK_S
    assert health.report().alive
    clock.time += 0.1
    report = health.report()
    assert (report.status, report.waiting_for, report.alive, report.ready) == ("stuck", step.name, False, False)
    health.enter(READ)
    assert health.report().ready


@pytest.mark.parametrize("step", [CONNECT, COMMIT, RESTORE, SNAPSHOT, FOLD])
def test_a_step_that_depends_on_others_is_waited_for(clock: ManualClock, step: Step) -> None:
    """It is named, and another start would not help: alive for however long, ready only while it is short."""
    health = Health("service", clock, Step("Triton at x"))
    health.own((), {})
    health.enter(step)
    assert health.report().ready
    clock.time += 1e4
    report = health.report()
    name = "Triton at x" if step is FOLD else step.name
    assert (report.status, report.waiting_for, report.alive, report.ready) == ("waiting", name, True, False)


@pytest.mark.parametrize(("step", "status", "alive"), [(STOP, "stopping", True), (ENDED, "ended", False)])
def test_the_end_is_not_ready(clock: ManualClock, health: Health, step: Step, status: str, *, alive: bool) -> None:
    """Who stops is out of service but not to be killed; a loop that has ended is dead."""
    health.enter(step)
    clock.time += 100
    assert (health.report().status, health.report().alive, health.report().ready) == (status, alive, False)


def test_the_oldest_of_several_waits_is_named(clock: ManualClock, health: Health) -> None:
    """Several things may be waited for; ready is who waits for none of them. A fold that is stuck comes first."""
    first, second = health.wait(), health.wait()
    clock.time = 1.0
    second.note("the disk")
    clock.time = 2.0
    first.note("Triton")
    clock.time = 5.0
    assert (health.report().status, health.report().waiting_for, health.report().since_s) == ("waiting", "the disk", 4)
    second.over()
    assert (health.report().waiting_for, health.report().since_s) == ("Triton", 3)
    health.enter(FOLD)
    clock.time += STUCK_S + 1
    assert health.report().status == "stuck"
    health.enter(READ)
    first.over()
    assert health.report().ready


def test_restoring_has_a_beginning(clock: ManualClock, health: Health) -> None:
    """While records are folded in silence it is restoring since the first of them; without partitions, joining."""
    clock.time = 1.0
    health.own((0, 1), {1: 500})
    clock.time = 2.0
    health.own((0, 1), {1: 200})
    health.enter(READ)
    report = health.report()
    assert (report.status, report.since_s, report.restoring, report.ready) == ("restoring", 1.0, {1: 200}, False)
    health.own(None, {})
    assert (health.report().status, health.report().since_s) == ("joining", 0.0)
    health.own((), {})
    assert health.report().ready


# What the client says about the broker


def said(state: str, *partitions: tuple[bool, int, int]) -> str:
    """Return statistics as librdkafka writes them: more than is read, and a partition -1 of its own."""
    found: dict[str, Any] = {
        str(number): {"desired": desired, "ls_offset": end, "app_offset": at, "hi_offset": end + 1}
        for number, (desired, end, at) in enumerate(partitions)
    }
    found["-1"] = {"desired": False, "ls_offset": -1001, "app_offset": -1001}
    brokers = {"127.0.0.1:1/1": {"state": state, "nodeid": 1}, "GroupCoordinator": {"state": "TRY_CONNECT"}}
    return json.dumps({"brokers": brokers, "topics": {"in": {"topic": "in", "partitions": found}}, "txmsgs": 0})


def test_a_broker_that_is_away_is_waited_for(clock: ManualClock, health: Health) -> None:
    """Without a connection to any broker the service is not ready, though its loop does not notice."""
    hear: Any = statistics(health, "kafka:9092")["stats_cb"]
    hear(said("UP"))
    assert health.report().ready
    clock.time = 10.0
    hear(said("DOWN"))
    clock.time = 12.0
    hear(said("TRY_CONNECT"))
    health.enter(READ)
    report = health.report()
    assert (report.waiting_for, report.since_s) == ("no connection to the broker at kafka:9092", 2.0)
    hear(said("UP"))
    assert health.report().ready


def test_lag_is_what_is_not_read(health: Health) -> None:
    """It counts what stands on assigned partitions beyond what was read, from their beginning if that is nothing."""
    hear: Any = statistics(health, "kafka:9092")["stats_cb"]
    hear(said("UP", (True, 10, 4), (True, 7, -1001), (True, 5, 5), (False, 100, 0), (True, -1001, -1001)))
    assert health.report().lag == {"in": 13}
