"""What the learner needs goes away: room on its disk, its broker. It says so, stays alive, and goes on afterwards."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Producer

from infra.local import brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Child, Children
from services.runtime.frames import matrix, times
from services.runtime.health import Report
from services.runtime.history import read_all
from services.runtime.models import Published, decode_event
from services.runtime.schemas import BESIDE, SCORE, examples_frame
from services.runtime.settings import Settings
from services.runtime.stream import load_stream
from tests.disks import small_disk

ROOT = Path(__file__).parents[2]
STREAM = load_stream(ROOT / "schemas", "flights")
FRAME = examples_frame(STREAM)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of one megabyte."""
    with small_disk(tmp_path, 1) as disk:
        yield disk


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(1024))


class Learner:
    """The service as a process of its own, and the log that it reads and writes."""

    def __init__(self, broker: Broker, children: Children, data: Path) -> None:
        self._settings = Settings(broker=broker.address)
        self._producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
        self._children = children
        self.broker = children["tansu"]
        self.address = broker.address
        port = brokers.free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}"
        ours = {"BROKER": broker.address, "DATA": str(data), "HEALTH_PORT": str(port), "SNAPSHOT_EVERY_S": "0.2"}
        ours |= {"SESSION_TIMEOUT_MS": "3000"}
        environment = os.environ | {f"THALWEG_{name}": value for name, value in ours.items()}
        self.child: Child = children.start(
            "learner", [sys.executable, "-m", "services.learner"], env=environment, cwd=ROOT
        )

    def report(self) -> Report | None:
        """Return what /readyz says; its code and /healthz are held against it."""
        self._children.check()
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=2)
        except httpx.TransportError:
            return None
        report = Report(**answer.json())
        assert answer.status_code == (200 if report.ready else 503)
        assert httpx.get(f"{self.url}/healthz", timeout=2).is_success
        return report

    def wait(self, condition: Callable[[Report], bool], seconds: float = 30) -> Report:
        end = time.monotonic() + seconds
        while (report := self.report()) is None or not condition(report):
            assert time.monotonic() < end, f"{report} {self.child.tail()}"
            time.sleep(0.05)
        return report

    def teach(self, rows: int) -> None:
        columns = [
            pa.array([f"e{row}" for row in range(rows)]),
            pa.array(["JFK"] * rows),
            times(np.zeros(rows, np.int64)),
            pa.array(range(rows), pa.int64()),
            matrix(np.ones((rows, len(STREAM.columns)), np.float32)),
            pa.array([0.5] * rows),
            pa.array([{"version": 0, "score": 0.5, "weight": 1.0}] * rows, SCORE),
            pa.array([[]] * rows, BESIDE),
            pa.array([0] * rows, pa.int32()),
            pa.array([1.0] * rows),
            times(np.zeros(rows, np.int64)),
            pa.array(["label"] * rows),
            pa.nulls(rows, pa.float64()),
        ]
        self._producer.produce(STREAM.topic("examples"), FRAME.encode(columns), headers=FRAME.headers)
        assert self._producer.flush(10) == 0

    def published(self) -> list[Published]:
        found = read_all(self._settings, STREAM.topic("models"))
        events = [decode_event(record.value) for batch in found for record in batch]
        return [event for event in events if isinstance(event, Published)]


@contextmanager
def running(data: Path, logs: Path) -> Iterator[Learner]:
    with Children(logs) as children:
        broker = brokers.embedded(children, brokers.free_ports(1)[0])
        brokers.wait_ready(broker, children)
        brokers.create_topics(broker, {STREAM.topic(kind): TopicSpec(1) for kind in ("examples", "models")})
        learner = Learner(broker, children, data)
        yield learner
        learner.child.stop()
        assert learner.child.exit_code == 0, learner.child.tail()
        learner.broker.stop(grace=0.1)  # with nobody to serve Tansu takes seconds to end


@pytest.fixture
def learner(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learner]:
    with running(disk, tmp_path_factory.mktemp("logs")) as learner:
        yield learner


def test_a_learner_without_room_learns_on(learner: Learner, disk: Path) -> None:
    """No version that could not be stored is published, nothing stays of it, and the newest one goes out later."""
    learner.wait(lambda report: report.ready)
    learner.teach(10)
    learner.wait(lambda report: report.folded == 1)
    learner.wait(lambda _: learner.published()[-1].learned == 10)
    fill(disk / "filler")
    learner.teach(20)
    report = learner.wait(lambda report: report.status == "waiting")
    assert "model/flights/online/30 can't be stored" in str(report.waiting_for)
    assert "No space left on device" in str(report.waiting_for)
    learner.teach(5)
    learner.wait(lambda report: report.folded == 3)
    assert learner.published()[-1].learned == 10
    (disk / "filler").unlink()
    learner.wait(lambda report: report.ready)
    assert learner.published()[-1].learned == 35
    stored = {path.name for path in (disk / "artifacts" / "flights" / "online").iterdir()}
    assert stored == {f"{published.version}.model" for published in learner.published()}
    assert "going on after" in learner.child.tail()


def test_a_learner_without_its_broker_waits(tmp_path: Path) -> None:
    """It names what it waits for, whether the broker does not answer or is gone; then it goes on where it was."""
    with running(tmp_path / "data", tmp_path / "logs") as learner:
        learner.wait(lambda report: report.ready)
        learner.teach(10)
        learner.wait(lambda report: report.folded == 1)
        learner.broker.pause()
        try:
            report = learner.wait(lambda report: not report.ready)
        finally:
            learner.broker.resume()
        assert "broker" in str(report.waiting_for)
        learner.wait(lambda report: report.ready)
        learner.teach(20)
        learner.wait(lambda _: learner.published()[-1].learned == 30)  # after a rejoin the first ten are folded again
        learner.broker.stop(grace=0.1)
        report = learner.wait(lambda report: "no connection" in str(report.waiting_for))
        assert report.waiting_for == f"no connection to the broker at {learner.address}"
        log = learner.child.log.read_text()
        assert log.count("waiting, nothing is lost: no connection") == 1
        assert log.count("Connection refused") < 10, "librdkafka says so many times a second"
