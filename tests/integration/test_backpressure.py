"""What a stage has no room for stays on a real broker, whatever the client has fetched of it already."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Children
from services.runtime.history import read_all
from services.runtime.kafka import KafkaSource
from services.runtime.loop import Loop
from services.runtime.records import Outgoing
from services.runtime.settings import Settings
from services.runtime.sinks import open_sink
from services.runtime.snapshots import Snapshots
from tests.loops import Roomy

VALUES = 5000
MOST, BATCH = 100, 50


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Children(tmp_path / "logs") as children:
        broker = brokers.start("embedded", children, tmp_path)
        brokers.wait_ready(broker, children)
        yield broker
        children.check()


def test_a_full_input_waits_on_the_broker(broker: Broker, tmp_path: Path) -> None:
    """Thousands of values of one input, none of the other: few are read; when the others come, each is said once."""
    brokers.create_topics(broker, {name: TopicSpec() for name in ("left", "right", "out")})
    settings = Settings(stream="s", broker=broker.address, session_timeout_ms=3000)
    put = open_sink("at_least_once", settings, "put", KafkaSource(settings, "put"))
    values = [b"%d" % n for n in range(VALUES)]
    put.commit([Outgoing("left", value, partition=0) for value in values], {})

    source, stage = KafkaSource(settings, "join"), Roomy(MOST)
    sink = open_sink("exactly_once", settings, "join", source)
    loop = Loop(["left", "right"], stage, source, sink, Snapshots(tmp_path, "s", "join", "rule"), batch=BATCH)
    held = []

    def send() -> None:
        held.append(len(stage.cores[0].seen["left"]))
        put.commit([Outgoing("right", value, partition=0) for value in values], {})

    timer = threading.Timer(6.0, send)
    timer.start()
    loop.run(count=2 * VALUES, timeout=60)
    timer.join()
    loop.close()
    assert MOST <= held[0] < MOST + 2 * BATCH
    said = [record.value for batch in read_all(settings, "out") for record in batch]
    assert sorted(said) == sorted(values)
