"""A run through its operations, on Apache Kafka: a back-up while it is up, a rolling restart, a wipe and a restore."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra import cli
from infra.local.demo import PROMPT
from infra.local.replayer import Replayer, records
from infra.local.stack import Options, Stack, read_running
from infra.local.status import read_status
from services.runtime.history import read_all
from services.runtime.models import ONLINE, Published, decode_event
from services.runtime.snapshots import Snapshots
from services.runtime.stream import load_stream
from tests.consoles import until

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "schemas"
STATEFUL = ("features", "labels", "learner", "rollout", "trainer")
EVENTS = 1200
OLD = "a format of long ago"
PATIENCE_S = 150.0


@contextmanager
def a_run(folder: Path) -> Iterator[Stack]:
    """Start the run in this folder, on what is there already."""
    options = Options("flights", 2, "kafka", folder / "run", fresh=False, settings=PROMPT, otlp="off")
    with Stack(options, load_stream(SCHEMAS, "flights"), SCHEMAS) as stack:
        yield stack


class Kept(msgspec.Struct, frozen=True):
    """A snapshot file: what its state is of, how far it had read, and the state."""

    path: Path
    fingerprint: str
    partition: int
    offsets: dict[str, int]
    state: bytes


def newest(stack: Stack, service: str) -> list[Kept]:
    """Return the newest snapshot of each partition."""
    found = []
    for folder in sorted((stack.data / "state" / "flights" / service).iterdir()):
        if files := sorted(folder.glob("*.snapshot")):
            line, _, state = files[-1].read_bytes().partition(b"\n")
            header: dict[str, Any] = msgspec.json.decode(line.partition(b" ")[2])
            found.append(Kept(files[-1], header["fingerprint"], header["partition"], header["offsets"], state))
    return found


def age(stack: Stack, service: str) -> None:
    """Have every snapshot of a service be of another format: signed by this installation, and laid out otherwise."""
    old = Snapshots(stack.data, "flights", service, OLD)
    for folder in (stack.data / "state" / "flights" / service).iterdir():
        for path in folder.glob("*.snapshot"):
            header = msgspec.json.decode(path.read_bytes().partition(b"\n")[0].partition(b" ")[2])
            old.write(header["partition"], header["offsets"], b"laid out otherwise")


def settle(stack: Stack) -> None:
    """Return once every service is ready and has read all that is there."""

    def settled() -> bool:
        stack.check()
        running = read_running(stack.options.run_dir, "flights")
        states = read_status("flights", running) if running else {}
        stateful = {name: state for name, state in states.items() if name in (*STATEFUL, "inference")}
        nonlocal seen
        seen = {name: (state.ready, state.behind) for name, state in stateful.items()}
        return bool(seen) and all(ready and not any(behind.values()) for ready, behind in seen.values())

    seen: dict[str, Any] = {}
    end = time.monotonic() + PATIENCE_S
    while not settled():
        assert time.monotonic() < end, str(seen)
        time.sleep(0.3)


def stop(stack: Stack) -> dict[str, list[Kept]]:
    """Stop what keeps a state, one after the other; each ends with 0, and leaves a snapshot of all that it read."""
    for service in STATEFUL:
        stack.children[service].stop(30)
        assert stack.children[service].exit_code == 0, stack.children[service].tail()
    return {service: newest(stack, service) for service in STATEFUL}


@pytest.mark.timeout(900)
def test_nothing_is_lost_in_a_rolling_restart_nor_by_a_restore(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A graceful stop ends with 0 and keeps all that was read; a state of another format is folded again, to the byte.

    A back-up that was made while the run was up brings a wiped installation back on the same log: with the same keys,
    tokens and versions, and every event is predicted once, those after the back-up too.
    """
    if shutil.which("java") is None or shutil.which("mvn") is None:
        pytest.skip("needs Java and Maven: apt-get install openjdk-17-jre-headless maven")
    where = ["--run-dir", str(tmp_path / "run")]
    with a_run(tmp_path) as stack:
        sent = play(stack, 0, EVENTS)
        settle(stack)
        assert cli.main(["backup", str(tmp_path / "copy"), *where]) == 0, capsys.readouterr()
        restart_on_another_format(stack)
        sent |= play(stack, EVENTS, EVENTS + 300)
        settle(stack)
        data, known, before = stack.data, installed(stack.data), versions(stack)
    shutil.rmtree(data)
    assert cli.main(["restore", str(tmp_path / "copy"), *where]) == 0, capsys.readouterr()
    assert installed(data) == known
    with a_run(tmp_path) as stack:
        sent |= play(stack, EVENTS + 300, EVENTS + 400)
        settle(stack)
        until(lambda: versions(stack)[-1] > before[-1], PATIENCE_S)
        after = versions(stack)
        told = [record for batch in read_all(stack.settings, "flights.predictions") for record in batch]
        logs = {name: stack.children[name].log.read_text() for name in STATEFUL}
    assert after[: len(before)] == before
    assert after == sorted(after), "it goes on from where it was"
    assert sorted(msgspec.json.decode(record.value)["event_id"] for record in told) == sorted(sent)
    assert all("not signed" not in log for log in logs.values())


def installed(data: Path) -> dict[str, bytes]:
    """Return what makes an installation this one: its keys and tokens."""
    files = [*(data / "keys").iterdir(), data / "console" / "tokens.json"]
    return {path.name: path.read_bytes() for path in files}


def versions(stack: Stack) -> list[int]:
    """Return the versions of the online model in the order in which they were published."""
    found = [record.value for batch in read_all(stack.settings, "flights.models") for record in batch]
    events = [decode_event(value) for value in found if value]
    return [event.version for event in events if isinstance(event, Published) and event.model == ONLINE]


def restart_on_another_format(stack: Stack) -> None:
    before = stop(stack)
    assert {service: bool(kept) for service, kept in before.items()} == dict.fromkeys(STATEFUL, True)
    for service in STATEFUL:
        age(stack, service)
        stack.children[service].restart()
    settle(stack)
    after = stop(stack)
    for service in STATEFUL:
        assert f"of {OLD}, while this service now runs" in stack.children[service].log.read_text(), service
        assert [one.offsets for one in after[service]] == [one.offsets for one in before[service]], service
        assert {one.fingerprint for one in after[service]} == {one.fingerprint for one in before[service]}
        assert [one.state for one in after[service]] == [one.state for one in before[service]], service
    for service in STATEFUL:
        stack.children[service].restart()


def play(stack: Stack, first: int, last: int) -> set[str]:
    """Send these events, and the labels of those that have one by then."""
    timed = list(records(SCHEMAS, "flights", last))
    starts = [place for place, (_, kind, _) in enumerate(timed) if kind == "event"]
    part = timed[starts[first] : starts[last] if last < len(starts) else None]
    return set(Replayer(stack.stream, stack.ingestion, iter(part), float("inf"), stack.check).run(lambda: None).events)
