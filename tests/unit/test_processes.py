"""The launcher's children: a death is named, and stopping leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import processes
from infra.local.processes import Child, ChildDied, Children

STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"
POLITE = "trap 'echo down; exit 3' TERM; echo up; while :; do sleep 0.05; done"


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    with Children(tmp_path / "logs") as started:
        yield started


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def shell(children: Children, name: str, script: str) -> Child:
    child = children.start(name, ["sh", "-c", script])
    wait_until(lambda: not child.alive or "up" in child.tail())
    return child


def members(group: int) -> list[int]:
    """Return the processes of a group that still run: field 5 of /proc/PID/stat, Linux's proc(5)."""
    running = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == group and state != "Z":
            running.append(int(stat.parent.name))
    return running


def test_a_death_is_named_with_its_exit_code_and_last_lines(children: Children) -> None:
    """check() raises for a child that ended by itself, and says which, how and what it said last."""
    shell(children, "steady", "echo up; exec sleep 60")
    died = shell(children, "features", "for i in $(seq 40); do echo line $i; done; echo boom >&2; exit 7")
    with pytest.raises(ChildDied, match="features exited with code 7") as caught:
        children.check()
    assert str(caught.value).endswith("line 40\nboom")
    assert "line 27\n" in str(caught.value)
    assert "line 26\n" not in str(caught.value)
    assert died.exit_code == 7


def test_a_program_that_is_not_there_is_a_named_death(children: Children) -> None:
    missing = children.start("ghost", ["/no/such/program"])
    wait_until(lambda: not missing.alive)
    with pytest.raises(ChildDied, match="ghost exited with code 127"):
        children.check()


def test_running_and_stopped_children_pass_the_check(children: Children) -> None:
    """A child that we stopped on purpose is not a death."""
    stopped = shell(children, "stopped", POLITE)
    children.check()
    stopped.stop()
    assert stopped.exit_code == 3
    children.check()


def test_stop_kills_the_group_of_one_that_ignores_sigterm(children: Children) -> None:
    """After the grace SIGKILL reaches the child and what it started, and the child is reaped."""
    stubborn = shell(children, "stubborn", f"sh -c 'sleep 60' & {STUBBORN}")
    assert len(members(stubborn.pid)) >= 2
    stubborn.stop(grace=0.2)
    assert stubborn.exit_code == -signal.SIGKILL
    wait_until(lambda: not members(stubborn.pid))


def test_children_stop_in_reverse_within_one_grace(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM goes to each, last started first; the grace is shared, and nothing is left running."""
    order: list[str] = []
    terminate = Child.terminate

    def noting(child: Child) -> None:
        order.append(child.name)
        terminate(child)

    monkeypatch.setattr(Child, "terminate", noting)
    started = [shell(children, name, script) for name, script in (("a", POLITE), ("b", STUBBORN), ("c", STUBBORN))]
    began = time.monotonic()
    children.stop(grace=0.5)
    assert time.monotonic() - began < 0.95
    assert order == ["c", "b", "a"]
    assert [child.exit_code for child in started] == [3, -signal.SIGKILL, -signal.SIGKILL]
    wait_until(lambda: not any(members(child.pid) for child in started))


def test_some_kinds_stop_and_the_others_run_on(children: Children) -> None:
    """stop() of some kinds leaves the rest alone: a broker outlives its clients."""
    broker = shell(children, "broker", POLITE)
    client = children.start("client-1", ["sleep", "60"], kind="client")
    children.stop(5.0, ("client",))
    assert not client.alive
    assert broker.alive


def test_leaving_the_context_stops_all_even_after_an_error(tmp_path: Path) -> None:
    started = Children(tmp_path)
    child = shell(started, "one", POLITE)
    with pytest.raises(KeyError), started:
        raise KeyError
    assert child.exit_code == 3


def states(group: int) -> set[str]:
    """Return the states of a group's processes: field 3 of /proc/PID/stat."""
    stats = [Path(f"/proc/{pid}/stat").read_text() for pid in members(group)]
    return {stat.rpartition(")")[2].split()[0] for stat in stats}


def test_killed_on_purpose_is_no_death_and_takes_all_that_it_started(children: Children) -> None:
    """kill() sends SIGKILL to the group and waits; check() is content, until it dies by itself another time."""
    child = shell(children, "tree", f"sh -c 'sleep 60' & {POLITE}")
    child.kill()
    assert child.exit_code == -signal.SIGKILL
    assert not members(child.pid)
    children.check()
    child.restart()
    children.check()
    os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: child.died)
    with pytest.raises(ChildDied, match="tree exited with code -9"):
        children.check()


def test_paused_and_resumed_with_all_that_it_started(children: Children) -> None:
    child = shell(children, "tree", "sleep 60 & echo up; wait")
    child.pause()
    wait_until(lambda: states(child.pid) == {"T"})
    children.check()
    child.resume()
    wait_until(lambda: "T" not in states(child.pid))
    child.kill()


def test_a_paused_child_stops_politely(children: Children) -> None:
    """SIGTERM reaches a frozen process only when it goes on, so it does."""
    child = shell(children, "frozen", POLITE)
    child.pause()
    child.stop(grace=5)
    assert child.exit_code == 3


def test_a_restart_repeats_command_environment_and_folder(children: Children, tmp_path: Path) -> None:
    """A restarted child is told what it was told first; what it left is killed, and cleared away before it starts."""
    cleared: list[int] = []
    script = 'echo "$0 $COLOUR"; pwd; exec sleep 60'
    child = children.start(
        "again", ["sh", "-c", script], env={"COLOUR": "red"}, cwd=tmp_path, before=lambda: cleared.append(1)
    )
    said = f"sh red\n{tmp_path}"
    wait_until(lambda: child.tail() == said)
    first = child.pid
    child.restart()
    wait_until(lambda: child.tail() == said)
    assert child.pid != first
    assert not members(first)
    assert len(cleared) == 2


def test_children_are_found_by_name_and_listed_with_their_kind(children: Children) -> None:
    """A name stands for one that runs; one that is removed is stopped and forgotten, and an unknown one refused."""
    one = shell(children, "one", POLITE)
    two = children.start("two-1", ["sleep", "60"], kind="two")
    assert children["one"] is one
    assert [(child.name, child.kind) for child in children] == [("one", "one"), ("two-1", "two")]
    with pytest.raises(ValueError, match=f"one runs already, as process {one.pid}"):
        children.start("one", ["sleep", "60"])
    children.remove("two-1")
    assert not two.alive
    with pytest.raises(LookupError, match="no child 'two-1'; there are one"):
        children["two-1"]


def test_output_is_appended_and_the_tail_is_this_process_only(children: Children) -> None:
    """A restart keeps the earlier log, and tail() does not mistake it for its own."""
    shell(children, "again", "echo first up").stop()
    child = shell(children, "again", "echo second up")
    child.stop()
    assert child.log.read_text() == "first up\nsecond up\n"
    assert child.tail() == "second up"


def test_a_log_keeps_its_newer_half(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has grown too long loses its beginning, whole lines of it, and the child writes on behind the rest."""
    monkeypatch.setattr(processes, "LONGEST_LOG", 100)
    shell(children, "wordy", "echo up earlier").stop()
    gate = children.logs / "gate"
    os.mkfifo(gate)
    child = shell(children, "wordy", f"seq 100 130; echo up; read _ <{gate}; echo on")
    child.trim_log()
    rest = [*map(str, range(120, 131)), "up"]
    assert child.log.read_text().splitlines() == rest
    child.trim_log()
    gate.write_text("\n")
    child.reap(10)
    assert child.tail().splitlines() == [*rest, "on"]
    child.log.unlink()
    child.trim_log()


def test_env_and_cwd_reach_the_child(children: Children, tmp_path: Path) -> None:
    child = children.start(
        "env", ["sh", "-c", 'echo "$COLOUR ${HOME-no home}"; pwd'], env={"COLOUR": "blue"}, cwd=tmp_path
    )
    wait_until(lambda: not child.alive)
    child.stop()
    assert child.tail().splitlines() == ["blue no home", str(tmp_path)]


def test_a_child_is_in_its_own_session(children: Children) -> None:
    """A terminal's Ctrl-C goes to the launcher's group, of which the child is no member."""
    child = shell(children, "apart", POLITE)
    assert os.getsid(child.pid) == child.pid != os.getsid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the children of a killed launcher")
def test_children_do_not_outlive_a_killed_launcher(tmp_path: Path) -> None:
    launcher = (
        "import pathlib, sys, time; from infra.local.processes import Children\n"
        "print(Children(pathlib.Path(sys.argv[1])).start('orphan', ['sleep', '60']).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", launcher, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        orphan = int(process.stdout.readline())
        wait_until(lambda: Path(f"/proc/{orphan}/comm").read_text() == "sleep\n")
        process.kill()
    wait_until(lambda: not members(orphan))
