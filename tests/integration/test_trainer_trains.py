"""The trainer by itself on a real broker: examples in, a version out that is signed, registered, and can be opened."""

import getpass
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Producer

from infra import cli
from infra.chaos.learner import examples
from infra.chaos.trainer import TRAINED_FROM, children_of, environment, lives, quick
from infra.local import brokers
from infra.local.brokers import TopicSpec
from infra.local.processes import Child, Children
from infra.local.stack import REPOSITORY
from services.runtime.alerts import Alert, Place
from services.runtime.artifacts import Artifacts
from services.runtime.commands import Hold
from services.runtime.frames import micros
from services.runtime.history import read_all
from services.runtime.models import Registered
from services.runtime.onnx_session import open_session
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import examples_frame
from services.runtime.settings import Settings
from services.runtime.signing import make_keys
from services.runtime.stream import Stream, load_stream
from services.trainer.cards import Cards

EVENTS = 900


class Run:
    """A broker, the service, and what stands on `models`."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder, self.schemas = folder, quick("flights", folder / "schemas")
        self.stream = load_stream(self.schemas, "flights")
        broker = brokers.embedded(children, brokers.free_ports(1)[0])
        brokers.wait_ready(broker, children)
        brokers.create_topics(broker, {self.stream.topic(kind): TopicSpec() for kind in TRAINED_FROM})
        data = folder / "flights" / "data"
        self.settings = Settings(broker=broker.address, data=data, schemas=self.schemas)
        make_keys(data / "keys")
        self.artifacts = Artifacts(data, "flights")
        command = [sys.executable, "-m", "services.trainer"]
        self.trainer: Child = children.start("trainer", command, env=environment(self.settings), cwd=REPOSITORY)

    def send(self) -> None:
        producer = Producer({"bootstrap.servers": self.settings.broker, "log_level": 0})
        for out in examples(self.stream, EVENTS):
            producer.produce(out.topic, out.value, partition=0, headers=out.headers)
        assert producer.flush(10) == 0

    def say(self, kind: str, value: object) -> None:
        producer = Producer({"bootstrap.servers": self.settings.broker, "log_level": 0})
        producer.produce(self.stream.topic(kind), msgspec.json.encode(value), partition=0)
        assert producer.flush(10) == 0

    def registered(self) -> list[Registered]:
        records = (record for batch in read_all(self.settings, "flights.models") for record in batch)
        return [msgspec.json.decode(record.value, type=Registered) for record in records]

    def wait(self, condition: Callable[[], bool], seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.trainer.tail(40)
            time.sleep(0.1)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Children(tmp_path / "logs") as children:
        yield Run(tmp_path, children)


def test_examples_become_a_version(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """By itself when it is due, by hand when somebody asks, and after a restart nothing again."""
    run.send()
    run.wait(lambda: len(run.registered()) == 1)
    [first] = run.registered()
    [card] = Cards(run.artifacts, run.stream.feature_set).all()
    assert first == Registered("batch", 1, card.feature_set, card.rows, card.loss, card.prior_loss, "schedule")
    assert card.rows >= 200
    session = open_session(run.artifacts.read("batch", 1))
    vectors = np.random.default_rng(1).standard_normal((5, len(run.stream.columns))).astype(np.float32)
    [scores] = session.run(["SCORE"], {"FEATURES": vectors})
    assert (np.ravel(scores).shape, bool(np.isfinite(scores).all())) == ((5,), True)
    by_hand = ["train", "--run-dir", str(run.folder), "--schemas", str(run.schemas), "--device", "cpu"]
    run.wait(lambda: cli.main(by_hand) == 0)  # it is refused while the service trains
    run.wait(lambda: {record.by.partition("@")[0] for record in run.registered()} == {"schedule", getpass.getuser()})
    assert "the service `trainer` registers it" in capsys.readouterr().out
    known = run.registered()
    assert sorted(record.version for record in known) == list(range(1, len(known) + 1))
    worker = children_of(run.trainer.pid)
    run.trainer.stop()
    assert run.trainer.exit_code == 0, run.trainer.tail()
    assert not any(map(lives, worker))
    run.trainer.restart()
    run.wait(lambda: bool(children_of(run.trainer.pid)))
    assert run.registered() == known


def test_an_alert_becomes_a_version_for_it(run: Run) -> None:
    """Held by command, then not; killed while it trains, the service goes on; a restart trains nothing again."""
    half = int(np.median([micros(table_times(run.stream, out)).min() for out in examples(run.stream, EVENTS)]))
    run.say("commands", Hold(held=True, actor="ann@desk", reason="a test"))
    place = Place(half, "flights.examples", 0, 1)
    raised = Alert("loss-1", 0, "raised", "loss", "online", "critical", place, place, "adwin", 1.0, "it is worse")
    run.say("alerts", raised)
    run.send()
    run.wait(lambda: len(run.registered()) == 1)  # what is due by schedule goes on
    assert run.registered()[0].by == "schedule"
    run.say("commands", Hold(held=False, actor="ann@desk", reason="a test"))
    run.wait(lambda: bool(children_of(run.trainer.pid)))
    time.sleep(2)
    run.trainer.kill()
    run.trainer.restart()
    run.wait(lambda: len(run.registered()) == 2)
    version = run.registered()[1]
    [card] = [card for card in Cards(run.artifacts, run.stream.feature_set).all() if card.version == version.version]
    assert (version.by, version.alert, card.by, card.since) == ("alert:loss-1", "loss-1", "alert:loss-1", half)
    assert card.window in {"all", *card.windows}
    assert run.artifacts.read("batch", version.version)
    run.trainer.stop()
    run.trainer.restart()
    time.sleep(5)
    assert len(run.registered()) == 2


def table_times(stream: Stream, out: Outgoing) -> pa.Array:
    record = Record(out.topic, 0, 0, None, out.value, headers=out.headers)
    return examples_frame(stream).decode(record)["event_time"]
