"""Waiting that says so: when it begins, less and less often while it lasts, and when it is over."""

import logging

import pytest

from services.runtime.memory import ManualClock
from services.runtime.waiting import Wait


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def wait(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> Wait:
    caplog.set_level(logging.INFO)
    return Wait(clock)


def words(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_it_says_when_it_begins_and_when_it_is_over(
    clock: ManualClock, wait: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    """One line at the first note, one at the end with how long it took; before and after, nothing is waited for."""
    wait.over()
    assert wait.why is None
    wait.note("Triton")
    assert (wait.why, wait.since) == ("Triton", 0.0)
    clock.time = 1.5
    wait.note("Triton")
    clock.time = 1.75
    wait.over()
    wait.over()
    assert wait.why is None
    assert words(caplog) == [
        ("WARNING", "waiting, nothing is lost: Triton"),
        ("INFO", "going on after 1.8 s; it was: Triton"),
    ]


def test_it_says_so_less_and_less_often(clock: ManualClock, wait: Wait, caplog: pytest.LogCaptureFixture) -> None:
    """While it lasts it is said again after 2, 4, 8 … seconds and then every minute, with how long it has lasted."""
    said = []
    for second in range(310):
        clock.time = second
        wait.note("Triton")
        if caplog.records:
            said.append((second, caplog.messages[-1]))
            caplog.clear()
    assert [second for second, _ in said] == [0, 2, 4, 8, 16, 32, 64, 124, 184, 244, 304]
    assert said[5][1] == "waiting for 32 s already, nothing is lost: Triton"


def test_another_reason_is_news(clock: ManualClock, wait: Wait, caplog: pytest.LogCaptureFixture) -> None:
    """A reason that changes is said within a second, but not more often, and the wait goes on as one."""
    for tenth in range(100):
        clock.time = tenth / 10
        wait.note(f"reason {tenth}" if tenth < 50 else "the last")
    assert len(caplog.records) == 6
    assert caplog.messages[-1] == "waiting for 5 s already, nothing is lost: the last"
    assert wait.since == 0.0


def test_the_attempt_that_failed_was_waiting_too(
    clock: ManualClock, wait: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    """What took ten seconds to fail has been waited for since it began; later attempts don't move that."""
    clock.time = 30.0
    wait.note("Triton", since=20.0)
    clock.time = 41.0
    wait.note("Triton", since=31.0)
    assert wait.since == 20.0
    wait.over()
    assert words(caplog) == [
        ("WARNING", "waiting for 10 s already, nothing is lost: Triton"),
        ("WARNING", "waiting for 21 s already, nothing is lost: Triton"),
        ("INFO", "going on after 21.0 s; it was: Triton"),
    ]


def test_a_new_wait_starts_over(clock: ManualClock, wait: Wait, caplog: pytest.LogCaptureFixture) -> None:
    """After it was over the next wait has its own beginning, is said at once, and pauses shortly again."""
    for _ in range(6):
        wait.pause("Triton")
    assert clock.time == pytest.approx(0.05 + 0.1 + 0.2 + 0.4 + 0.8 + 1.0)
    wait.over()
    caplog.clear()
    before = clock.time
    wait.pause("Triton")
    assert clock.time == pytest.approx(before + 0.05)
    assert wait.since == before
    assert words(caplog) == [("WARNING", "waiting, nothing is lost: Triton")]
