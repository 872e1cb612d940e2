"""`thalweg forget` on a real run's leavings, on Apache Kafka: of the key no byte is left, and all else is as it was."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local import brokers
from infra.local.processes import Children
from infra.local.stack import read_running
from services.trainer.forgetting import rows_of
from tests.departures import EVENT, LABEL
from tests.kept import THALWEG, Done, Run, kept
from tests.marked import marked_schemas
from tests.searched import Searched, raw

MISSING = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"Apache Kafka needs {' and '.join(MISSING)}, which this machine lacks"),
    pytest.mark.timeout(600),
]
KEY, PHONE, SHARED = "airfield-of-ada-4711", "+44-7946-0018-11", "+44-0000-1"
VISITS = [f"ada-visit-{number}" for number in range(12)]
WORDS = [KEY, "ada-visit-", "ada-late"]
KEYED = ("flights.events", "flights.labels", "flights.late", "flights.predictions", "flights.dead-letter")
TRACED = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}


def schemas(folder: Path) -> Path:
    """Make the flights stream with a long key and a field that has tokens."""
    made = marked_schemas(folder, {"phone": "tokenise"})
    for name in ("event.json", "label.json"):
        path = made / "flights" / name
        path.write_text(path.read_text().replace('"maxLength": 3', '"maxLength": 64'))
    return made


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Play some flights, and some of the key with labels, a trace, a repeated id and a late one; then end the run."""
    folder = tmp_path_factory.mktemp("forget")
    options = ["--schemas", str(schemas(folder / "schemas")), "--events", "300", "--speed", "max", "--partitions", "2"]
    with kept(folder, *options, "--broker", "kafka") as run:
        post(run, "events", *(event(number, name) for number, name in enumerate(VISITS)))
        post(run, "events", event(3, VISITS[3]), {**event(1, "other"), "origin": "JFK", "phone": SHARED})
        post(run, "events", {**event(0, "ada-late"), "departed_at": "2012-12-01T00:00:00Z"})
        run.wait("flights.predictions", VISITS[-1])
        post(run, "labels", *({**LABEL, "event_id": name, "origin": KEY} for name in VISITS))
        run.wait_letters(1)
        table = tables(folder)
        wait(lambda: sum(rows_of(place, KEY) for place in table()) == len(VISITS))
        wait(lambda: spans_of(folder, VISITS[0]))
    return folder


def event(number: int, name: str) -> dict[str, Any]:
    when = f"2013-01-02T10:{number:02d}:00Z"
    phone = SHARED if number == 1 else PHONE
    return {**EVENT, "event_id": name, "origin": KEY, "departed_at": when, "phone": phone}


def post(run: Run, kind: str, *records: dict[str, Any]) -> None:
    up = json.loads((run.folder / "flights" / "running.json").read_bytes())
    content = b"\n".join(json.dumps(record).encode() for record in records)
    headers = {"Content-Type": "application/x-ndjson", **TRACED}
    url = f"{up['ingestion']}/v1/streams/flights/{kind}"
    answer = httpx.post(url, content=content, headers=headers, timeout=30, trust_env=False)
    assert answer.json() == {"accepted": len(records), "rejected": []}


def wait(look: Any) -> None:
    end = time.monotonic() + 90
    while not look():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.5)


def spans_of(folder: Path, event_id: str) -> int:
    with contextlib.closing(sqlite3.connect(folder / "flights" / "data" / "console" / "spans.db")) as store:
        [found] = store.execute("SELECT count(*) FROM spans WHERE event = ?", (event_id,)).fetchone()
        return int(found)


def tables(folder: Path) -> Any:
    return lambda: [str(path) for path in (folder / "flights" / "data" / "store").glob("flights/examples/*")]


@contextlib.contextmanager
def kafka(folder: Path) -> Iterator[str]:
    with Children(folder / "broker-logs") as children:
        broker = brokers.kafka(children, folder / "flights")
        brokers.wait_ready(broker, children)
        yield broker.address


def forget(folder: Path, *options: str) -> Done:
    run = Run.__new__(Run)
    run.folder = folder
    return run.thalweg("forget", KEY, "--schemas", folder / "schemas", *options)


def standing(broker: str) -> dict[tuple[str, int, int], bytes]:
    return {(topic, partition, offset): content for topic, partition, offset, content in raw(broker)}


def of_key(folder: Path, broker: str | None) -> list[str]:
    """Return where the key or one of its ids is: in all files of the run, the broker's too, and on topics."""
    searched = Searched()
    if broker:
        searched.topics(broker)
    searched.files(folder / "flights")
    return searched.where(WORDS)


def test_a_key_is_forgotten_and_nothing_else(left: Path) -> None:
    """No byte has the key or an id, other records stand where they stood, and a second call finds nothing to do.

    A dry run has counted the same, and changed nothing.
    """
    with kafka(left) as broker:
        before, found = standing(broker), " ".join(of_key(left, broker))
        for place in (
            *KEYED,
            "flights.features",
            "flights.scored",
            "flights.examples",
            "spans.db",
            "store/",
            "/kafka/",
        ):
            assert place in found
        for place in ("state/flights/features", "state/flights/labels"):
            assert place in found
        dry = forget(left, "--broker", broker, "--dry-run")
        assert dry.returncode == 0, dry.stdout + dry.stderr
        assert standing(broker) == before
        done = forget(left, "--broker", broker)
        assert done.returncode == 0, done.stdout + done.stderr
        assert counts(done) == counts(dry)
        assert counts(done)["vault of tokens"] == 1
        assert plain(standing(broker)) == plain(before)
        assert all("-delete/" in place for place in of_key(left, broker)), "beside what the broker deletes in a minute"
        assert "the broker deletes its old files within a minute" in done.stdout
    again = forget(left)  # with a broker of its own, whose deleted files it removes
    assert again.returncode == 0, again.stdout + again.stderr
    assert not any(counts(again).values()), again.stdout
    assert of_key(left, None) == []


def plain(stands: dict[tuple[str, int, int], bytes]) -> dict[tuple[str, int, int], bytes]:
    """Return what stands on the topics of one record a message that is not of the key, and was not aborted."""
    ours = {place: content for place, content in stands.items() if place[0] in KEYED[:4] and content.strip(b"\0")}
    return {place: content for place, content in ours.items() if not any(word.encode() in content for word in WORDS)}


def test_the_run_goes_on_where_it_was(left: Path) -> None:
    """Services fold the log anew that has the key no more, predict what comes, and all of it verifies bit for bit."""
    with up(left) as run:
        post(run, "events", {**EVENT, "event_id": "afterwards"})
        run.wait("flights.predictions", "afterwards", 60)
        done = run.thalweg("verify", "--schemas", left / "schemas")
        assert done.returncode == 0, done.stdout + done.stderr
        assert of_key(left, run.broker) == []


@contextlib.contextmanager
def up(folder: Path) -> Iterator[Run]:
    """Start it again on what the run has left."""
    output = folder / "up.txt"
    argv = [THALWEG, "up", "--broker", "kafka", "--schemas", folder / "schemas", "--run-dir", folder]
    with output.open("wb") as file:
        process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait(lambda: process.poll() is not None or "is up" in output.read_text())
        assert process.poll() is None, output.read_text()
        running = read_running(folder, "flights")
        assert running is not None
        yield Run(folder, running)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def counts(done: Done) -> dict[str, int]:
    """Return how many of each were removed, by where."""
    lines = [line.split("  ") for line in done.stdout.splitlines()[1:]]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {cell[0]: int(cell[1].split()[0]) for cell in cells}
