"""The span store: bounded on disk, oldest traces first, and there again after a restart, whatever has become of it."""

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.console import store as stores
from services.console.span import Span
from services.console.store import Store

MB = 1 << 20
SIZE = 16 * MB


def span(trace: int, number: int = 0, **more: object) -> Span:
    """Make a span of a trace; its attributes compress badly and take half a kilobyte."""
    noise = hashlib.shake_128(f"{trace}/{number}".encode()).hexdigest(200)
    attributes = {"thalweg.event_id": f"event-{trace}", "bytes": noise}
    told = {"service": "features", "kind": "CONSUMER", "start_ns": trace * 1_000, "end_ns": trace * 1_000 + 10}
    fields = {"parent_id": None, "name": "process", "attributes": attributes} | told | more
    return Span(f"{trace + 1:032x}", f"{trace * 100 + number + 1:016x}", **fields)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "console" / "spans.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path, SIZE)
    yield store
    store.close()


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob("spans.db*"))


def fill(store: Store, traces: range, of: int = 4) -> None:
    for trace in traces:
        while not store.offer([span(trace, number) for number in range(of)]):
            time.sleep(0.01)
    store.flush()


def test_a_span_comes_back_as_it_was(store: Store) -> None:
    """All fields of a span are kept, and a trace is in the order of its starts."""
    late = span(7, 1, start_ns=9_000, end_ns=9_500, status="ERROR", message="no", parent_id="00000000000002bd")
    event, link = (
        {"name": "x", "time_ns": 1, "attributes": {}},
        {"trace_id": "1" * 32, "span_id": "2" * 16, "attributes": {}},
    )
    early = span(7, 0, events=[event], links=[link])
    store.offer([late, early])
    store.flush()
    assert store.trace(early.trace_id) == [early, late]
    assert store.of_event("event-7") == early.trace_id
    assert store.trace("f" * 32) == store.trace("no hex") == []


def test_the_size_holds_on_disk_and_the_oldest_go(store: Store, path: Path) -> None:
    """However much comes, database and WAL together stay under the size all the time; the newest are there."""
    largest, watching = 0, True

    def watch() -> None:
        nonlocal largest
        while watching:
            largest = max(largest, size(path))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    fill(store, range(20_000))  # some 50 MB
    watching = False
    watcher.join()
    assert SIZE / 2 < largest <= SIZE
    assert len(store.trace(span(19_999).trace_id)) == 4
    assert store.trace(span(0).trace_id) == []
    assert store.lost == 0


def test_a_trace_goes_whole(store: Store) -> None:
    """No trace is left with a part of its spans, unless they came after the others had gone."""
    fill(store, range(15_000))
    counts = {listed.spans for listed in store.traces(None, 0, 10_000)[:-1]}  # the look may cut the oldest
    assert counts == {4}


def test_it_is_there_again_after_a_restart(path: Path) -> None:
    """What was written is read by the next process, and what is more goes beside it."""
    first = Store(path, SIZE)
    fill(first, range(10))
    first.close()
    second = Store(path, SIZE)
    fill(second, range(10, 20))
    assert [len(second.trace(span(trace).trace_id)) for trace in (0, 19)] == [4, 4]
    second.close()


def test_a_smaller_size_is_kept_at_once(path: Path) -> None:
    """A file that was larger is brought down when it is opened, not only in time."""
    first = Store(path, 3 * SIZE)
    fill(first, range(12_000))
    first.close()
    assert size(path) > SIZE
    second = Store(path, SIZE)
    assert size(path) <= SIZE
    assert len(second.trace(span(11_999).trace_id)) == 4
    second.close()


@pytest.mark.parametrize("damage", ["head", "middle", "text"])
def test_a_damaged_file_is_moved_aside(path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be read any more is put aside with a warning, and spans are taken again."""
    first = Store(path, SIZE)
    fill(first, range(2_000))
    first.close()
    content = bytearray(path.read_bytes())
    if damage == "text":
        content = bytearray(b"this is no database\n" * 400)
    else:
        at = 0 if damage == "head" else len(content) // 2 // 4096 * 4096
        content[at : at + 8192] = b"\xff" * 8192
    path.write_bytes(content)
    second = Store(path, SIZE)
    assert "moved to" in caplog.text
    assert path.with_name("spans.db.damaged").stat().st_size == len(content)
    fill(second, range(5))
    assert len(second.trace(span(4).trace_id)) == 4
    second.close()


def test_damage_while_it_runs_is_found(store: Store, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is destroyed under the running store costs what was in it, and nothing that comes after."""
    fill(store, range(3_000))
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    store._connection.execute("PRAGMA cache_size = 0")  # as if others had taken the memory
    fill(store, range(3_000, 6_000))
    assert len(store.trace(span(5_999).trace_id)) == 4
    assert "damaged" in caplog.text


def test_a_full_queue_takes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is slow what waits is bounded; what was refused was not taken, and later there is room again."""
    monkeypatch.setattr(stores, "QUEUED", 100)
    gate = threading.Event()
    write = store._write
    monkeypatch.setattr(store, "_write", lambda spans: (gate.wait(10), write(spans)))
    assert store.offer([span(0)])
    while store._queued:  # until the writer has it, and waits
        time.sleep(0.001)
    taken = 1 + sum(store.offer([span(trace)]) for trace in range(1, 500))
    assert store.full
    assert taken == 101
    gate.set()
    store.flush()
    assert not store.full
    (rows,) = sqlite3.connect(store._path).execute("SELECT count(*) FROM spans").fetchone()
    assert rows == taken


def test_traces_are_listed_newest_first(store: Store) -> None:
    """The list is of traces: by service, by how long they took, and no more than are asked for."""
    store.offer([span(1), span(1, 1, service="triton", end_ns=5_000_000_000), span(2), span(3)])
    store.flush()
    assert [listed.start_ns for listed in store.traces(None, 0, 2)] == [3_000, 2_000]
    (slow,) = store.traces("triton", 1_000, 10)
    assert (slow.services, slow.spans) == (["features", "triton"], 2)
    assert slow.lasted_ms == pytest.approx(5_000, rel=0.01)
    assert store.traces("nobody", 0, 10) == []
