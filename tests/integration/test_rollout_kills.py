"""Rollout on a real broker: killed at any instant, it decides what an undisturbed one decides, each thing once."""

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from confluent_kafka import Producer

from infra.local import brokers
from infra.local.brokers import TopicSpec
from infra.local.processes import Child, Children
from services.runtime.health import Report
from services.runtime.history import Following
from services.runtime.models import BATCH, Event, Moved, Weighed, decode_event
from services.runtime.records import Record
from services.runtime.settings import Settings
from services.runtime.signing import make_keys
from services.runtime.stream import load_stream
from tests.duels import EXAMPLES, MODELS, NEW, Model, World, registered, write_folder

ROOT = Path(__file__).parents[2]
STEP, KILLS = 20, 6


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the stream of duels as its only one."""
    return write_folder(tmp_path_factory.mktemp("schemas"))


class Rollout:
    """The service as a process of its own, and its log."""

    def __init__(self, address: str, children: Children, folder: Path, schemas: Path) -> None:
        self._producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "log_level": 0})
        self.settings = Settings(stream="made", broker=address, schemas=schemas, data=folder / "data")
        port = brokers.free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}/readyz"
        ours = {"STREAM": "made", "SCHEMAS": str(schemas), "BROKER": address}
        ours |= {"DATA": str(folder / "data"), "HEALTH_PORT": str(port), "SNAPSHOT_EVERY_S": "0.5"}
        environment = os.environ | {f"THALWEG_{name}": value for name, value in ours.items()}
        environment["THALWEG_SESSION_TIMEOUT_MS"] = "2000"
        self._models, self._read = Following(self.settings, MODELS), list[Record]()
        command = [sys.executable, "-m", "services.rollout"]
        self.child: Child = children.start("rollout", command, env=environment, cwd=ROOT)

    def say(self, *events: Event) -> None:
        for event in events:
            self._producer.produce(MODELS, msgspec.json.encode(event), partition=0)
        assert self._producer.flush(10) == 0

    def send(self, records: list[Record]) -> None:
        for record in records:
            self._producer.produce(EXAMPLES, record.value, partition=0, headers=record.headers)
        assert self._producer.flush(10) == 0

    def models(self) -> list[Record]:
        self._read += self._models.rest()
        return self._read

    def moves(self) -> list[Moved]:
        return [event for record in self.models() if isinstance(event := decode_event(record.value), Moved)]

    def states(self) -> list[str]:
        return [f"{moved.version} {moved.state}" for moved in self.moves()]

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.states(), self.child.tail())
            time.sleep(0.1)

    def report(self) -> Report | None:
        with contextlib.suppress(httpx.TransportError):
            return Report(**httpx.get(self.url, timeout=2).json())
        return None

    def is_ready(self) -> bool:
        return (report := self.report()) is not None and report.ready

    def folded(self) -> int:
        return report.folded if (report := self.report()) else 0


@contextmanager
def running(tmp_path: Path, schemas: Path) -> Iterator[Rollout]:
    with Children(tmp_path / "logs") as children:
        broker = brokers.embedded(children, brokers.free_ports(1)[0])
        brokers.wait_ready(broker, children)
        brokers.create_topics(broker, {EXAMPLES: TopicSpec(), MODELS: TopicSpec()})
        make_keys(tmp_path / "data" / "keys")
        rollout = Rollout(broker.address, children, tmp_path, schemas)
        yield rollout
        rollout.wait(rollout.is_ready)
        rollout.child.stop()
        assert rollout.child.exit_code == 0, rollout.child.tail()
        children["tansu"].stop(grace=0.1)


def given(world: World) -> list[Event]:
    """Return what others say at the beginning."""
    first, second = (registered(version, world.stream.feature_set) for version in (1, 2))
    return [first, Moved(BATCH, 1, "champion", "ann@desk", "first"), second]


@pytest.fixture(scope="module")
def world(schemas: Path) -> World:
    """Return a world in which a version rises and falls, as an undisturbed stage saw it."""
    models = {1: Model(1.5), 2: Model(NEW, bad_from=4000)}
    world = World(models, online=Model(1.6), given=load_stream(schemas, "made"))
    world.say(*given(world))
    world.run(5500, STEP)
    return world


def test_a_killed_rollout_decides_everything_once(world: World, schemas: Path, tmp_path: Path) -> None:
    """With -9 at random instants while examples flow: no decision is lost or made twice."""
    chosen = random.Random(7)  # noqa: S311 - chaos, not secrets
    with running(tmp_path, schemas) as rollout:
        rollout.say(*given(world))
        rollout.wait(lambda: "2 shadow" in rollout.states())
        for part in range(KILLS):
            share = -(-len(world.sent) // KILLS)
            records = world.sent[part * share : (part + 1) * share]
            rollout.send(records)
            if part % 3:  # else it may still be starting, or waiting for its partition
                rollout.wait(lambda: rollout.folded() > 0)
            time.sleep(chosen.uniform(0.0, 0.3))
            rollout.child.kill()
            rollout.child.restart()
        expected = [msgspec.to_builtins(moved) for moved in world.moves()]
        rollout.wait(lambda: len(rollout.moves()) >= len(expected))
        rollout.wait(rollout.is_ready)
        time.sleep(1)
        assert [msgspec.to_builtins(moved) for moved in rollout.moves()] == expected
        weighed = [event for record in rollout.models() if isinstance(event := decode_event(record.value), Weighed)]
        assert weighed[-1].weights == world.stage._cores[0].weights()
        keys = [record.key for record in rollout.models() if record.key and record.key.startswith(b"batch@")]
        assert len(set(keys)) == len(keys) == len(expected) - 1
