"""A death under supervision: named, healed after a pause that grows, and given up when it comes over and over."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import processes
from infra.local.processes import Child, ChildDied, Children
from infra.local.supervision import BACKOFF_S, DEATHS, WITHIN_S, Supervisor


class Watched:
    """Real children and a clock that we move."""

    def __init__(self, children: Children) -> None:
        self.children, self.now = children, 0.0
        self.supervisor = Supervisor(children, final={"log"}, now=lambda: self.now)

    def start(self, name: str, script: str = "echo alive; exec sleep 60", kind: str | None = None) -> Child:
        child = self.children.start(name, ["sh", "-c", script], kind=kind)
        deadline = time.monotonic() + 10
        while child.alive and not child.tail():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return child

    def kill(self, child: Child) -> None:
        """Kill it behind the back of who watches."""
        os.kill(child.pid, signal.SIGKILL)
        while child.alive:
            time.sleep(0.01)

    def die(self, child: Child) -> None:
        """Have it die, and start again when it is due."""
        self.kill(child)
        self.supervisor.check()
        self.now += BACKOFF_S * 2**DEATHS
        self.supervisor.check()
        assert child.alive


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Children(tmp_path / "logs") as children:
        yield Watched(children)


def test_a_death_is_said_once_with_its_last_lines_and_healed_when_due(
    watched: Watched, capfd: pytest.CaptureFixture[str]
) -> None:
    """It says who died, how, the last log lines and when it starts again; not before then, it starts."""
    child, other = watched.start("features-2", kind="features"), watched.start("labels")
    steady = other.pid
    watched.kill(child)
    watched.supervisor.check()
    watched.now = BACKOFF_S * 0.9
    watched.supervisor.check()
    assert not child.alive
    said = capfd.readouterr().out
    assert said.count("features-2 exited with code -9; ") == 1
    assert said.endswith(f"ends:\nalive\nfeatures-2 starts again in {BACKOFF_S:g} s, death 1 of {DEATHS}\n")
    watched.now = BACKOFF_S
    watched.supervisor.check()
    assert child.alive
    assert other.pid == steady


def test_logs_are_kept_short(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs for months does not fill the disk with what was said."""
    monkeypatch.setattr(processes, "LONGEST_LOG", 1000)
    child = watched.start("wordy", "seq 1000; exec sleep 60")
    while not child.tail().endswith("1000"):
        time.sleep(0.01)
    watched.supervisor.check()
    assert child.log.stat().st_size <= 500


def test_the_pause_doubles(watched: Watched, capfd: pytest.CaptureFixture[str]) -> None:
    child = watched.start("features")
    for _ in range(DEATHS - 1):
        watched.die(child)
    said = capfd.readouterr().out
    assert [f"again in {BACKOFF_S * 2**n:g} s" in said for n in range(DEATHS)] == [True] * (DEATHS - 1) + [False]


def test_what_dies_over_and_over_ends_the_run(watched: Watched) -> None:
    """The fifth death of one child within a minute is the end; those of others do not count."""
    child, other = watched.start("features"), watched.start("labels")
    for turn in range(DEATHS - 1):
        watched.now = turn * WITHIN_S / DEATHS
        watched.die(child)
        watched.die(other)
    watched.now = WITHIN_S - 1
    watched.kill(child)
    with pytest.raises(ChildDied, match=r"5 deaths of features in 59 s, the last: features exited with code -9"):
        watched.supervisor.check()


def test_deaths_of_more_than_a_minute_ago_are_forgotten(watched: Watched) -> None:
    child = watched.start("features")
    for turn in range(2 * DEATHS):
        watched.now = turn * WITHIN_S / (DEATHS - 1)
        watched.die(child)


def test_what_lost_all_that_it_kept_is_not_started_again(watched: Watched) -> None:
    """The death of the log ends the run, by name."""
    child = watched.start("log")
    watched.kill(child)
    with pytest.raises(ChildDied, match="log exited with code -9"):
        watched.supervisor.check()


def test_what_was_killed_or_stopped_on_purpose_stays_down(watched: Watched) -> None:
    for child in (watched.start("killed"), watched.start("stopped")):
        child.kill() if child.name == "killed" else child.stop()
    watched.supervisor.check()
    watched.now = WITHIN_S
    watched.supervisor.check()
    assert [child.alive for child in watched.children] == [False, False]
