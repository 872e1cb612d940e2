"""The trainer on a real broker: killed at any instant, or without room on its disk, it has each example once."""

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from deltalake import DeltaTable

from infra.chaos.learner import examples
from infra.chaos.trainer import TRAINED_FROM
from infra.local import brokers
from infra.local.brokers import TopicSpec
from infra.local.processes import Child, Children
from services.runtime.errors import Retry, Stop
from services.runtime.frames import rows
from services.runtime.health import Report
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import examples_frame
from services.runtime.signing import make_keys
from services.runtime.stream import load_stream
from services.trainer.store import ExampleStore
from tests.disks import small_disk

ROOT = Path(__file__).parents[2]
STREAM = load_stream(ROOT / "schemas", "flights")
FRAME = examples_frame(STREAM)
EVENTS, KILLS = 1500, 5


@pytest.fixture(scope="module")
def sent() -> list[Outgoing]:
    """Return the examples that real flights and their labels give."""
    return list(examples(STREAM, EVENTS))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of two megabytes."""
    with small_disk(tmp_path, 2) as disk:
        yield disk


class Trainer:
    """The service as a process of its own, its log and its table."""

    def __init__(self, address: str, children: Children, data: Path, store: Path) -> None:
        self._producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "log_level": 0})
        self.table = ExampleStore(str(store), STREAM)
        port = brokers.free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}/readyz"
        ours = {"BROKER": address, "DATA": str(data), "HEALTH_PORT": str(port), "SNAPSHOT_EVERY_S": "0.5"}
        ours |= {"SESSION_TIMEOUT_MS": "2000", "TRAINER_STORE": str(store)}
        ours |= {"TRAINER_COMMIT_EVERY_S": "0.02", "TRAINER_TIDY_EVERY": "3"}
        environment = os.environ | {f"THALWEG_{name}": value for name, value in ours.items()}
        command = [sys.executable, "-m", "services.trainer"]
        self.child: Child = children.start("trainer", command, env=environment, cwd=ROOT)

    def send(self, batches: list[Outgoing]) -> None:
        for out in batches:
            self._producer.produce(out.topic, out.value, partition=0, headers=out.headers)
        assert self._producer.flush(10) == 0

    def versions(self) -> int:
        return len(list(Path(self.table.place).glob("_delta_log/*.json")))

    def ids(self) -> list[str]:
        try:
            return sorted(self.table._read(self.table._fresh().version())["event_id"].to_pylist())
        except (Retry, Stop):  # there is no table yet, or it is being made
            return []

    def wait(self, condition: Callable[[], bool], seconds: float = 40) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.child.tail()
            time.sleep(0.1)

    def is_ready(self) -> bool:
        return (report := self.report()) is not None and report.ready

    def report(self) -> Report | None:
        with contextlib.suppress(httpx.TransportError):
            return Report(**httpx.get(self.url, timeout=2).json())
        return None


@contextmanager
def running(tmp_path: Path, store: Path) -> Iterator[Trainer]:
    with Children(tmp_path / "logs") as children:
        broker = brokers.embedded(children, brokers.free_ports(1)[0])
        brokers.wait_ready(broker, children)
        brokers.create_topics(broker, {STREAM.topic(kind): TopicSpec() for kind in TRAINED_FROM})
        make_keys(tmp_path / "data" / "keys")
        trainer = Trainer(broker.address, children, tmp_path / "data", store)
        yield trainer
        trainer.wait(trainer.is_ready)
        trainer.child.stop()
        assert trainer.child.exit_code == 0, trainer.child.tail()
        children["tansu"].stop(grace=0.1)


def decoded(sent: list[Outgoing]) -> pa.Table:
    batches = [FRAME.decode(Record(out.topic, 0, 0, None, out.value, headers=out.headers)) for out in sent]
    return pa.Table.from_batches(batches)


def test_a_killed_trainer_has_each_example_once(sent: list[Outgoing], tmp_path: Path) -> None:
    """With -9 at random instants while examples flow: its start, a fold, a compaction. No row is lost or doubled."""
    chosen = random.Random(5)  # noqa: S311 - chaos, not secrets
    everything = decoded(sent)
    with running(tmp_path, tmp_path / "store") as trainer:
        share = len(sent) // KILLS
        for kill in range(KILLS):
            first, *others = sent[kill * share : (kill + 1) * share if kill < KILLS - 1 else None]
            held = trainer.versions()
            trainer.send([first])
            if kill % 3:  # else it may still be starting, or waiting for its partition
                trainer.wait(lambda held=held: trainer.versions() > held)
            pause = chosen.uniform(0.005, 0.03)
            for due in others:
                trainer.send([due])
                time.sleep(pause)
            trainer.child.kill()
            trainer.child.restart()
        expected = sorted(everything["event_id"].to_pylist())
        trainer.wait(lambda: len(trainer.ids()) >= len(expected))
        assert trainer.ids() == expected
        found = trainer.table.training_set()
    order = everything.sort_by([("event_time", "ascending"), ("offset", "ascending")]).combine_chunks()
    assert found.features.tobytes() == rows(order["features"].chunk(0)).tobytes()
    operations = [entry["operation"] for entry in DeltaTable(trainer.table.place).history()]
    assert operations.count("WRITE") > KILLS
    assert "OPTIMIZE" in operations


def test_a_trainer_without_room_waits(
    sent: list[Outgoing], tmp_path_factory: pytest.TempPathFactory, disk: Path
) -> None:
    """It says so, stays alive, commits no offset, and goes on once there is room."""
    with running(tmp_path_factory.mktemp("trainer"), disk / "store") as trainer:
        trainer.send(sent[:5])
        first, whole = (decoded(part).num_rows for part in (sent[:5], sent[:30]))
        trainer.wait(lambda: len(trainer.ids()) == first)
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(1024))
        trainer.send(sent[5:30])
        trainer.wait(lambda: (report := trainer.report()) is not None and report.status == "waiting")
        report = trainer.report()
        assert report is not None
        assert "the store of examples at" in str(report.waiting_for)
        assert "No space left on device" in str(report.waiting_for)
        assert len(trainer.ids()) == first
        (disk / "filler").unlink()
        trainer.wait(lambda: len(trainer.ids()) == whole)
