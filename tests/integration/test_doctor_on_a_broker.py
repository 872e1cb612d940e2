"""`thalweg doctor` on a real broker: faults of topics and clocks are made there, and it says which."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from infra import cli
from infra.local import apache_kafka, brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Children
from infra.local.topics import topic_config
from services.runtime.stream import TOPICS, UNPARTITIONED

OUT = pytest.CaptureFixture[str]


def make(broker: Broker, stream: str = "flights", **changed: TopicSpec) -> None:
    ours = broker.kind == "kafka"
    usual = {kind: TopicSpec(1 if kind in UNPARTITIONED else 2, topic_config(kind) if ours else {}) for kind in TOPICS}
    brokers.create_topics(broker, {f"{stream}.{kind}": spec for kind, spec in (usual | changed).items()})


def doctor(broker: Broker, folder: Path, out: OUT, stream: str = "flights") -> tuple[int, str]:
    status = cli.main(["doctor", "--stream", stream, "--broker", broker.address, "--run-dir", str(folder)])
    return status, out.readouterr().out


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Broker]:
    with Children(tmp_path / "logs") as children:
        broker = brokers.start("embedded", children, tmp_path)
        brokers.wait_ready(broker, children)
        yield broker


def test_topics_that_are_well(embedded: Broker, tmp_path: Path, capsys: OUT) -> None:
    """A broker without topics is a warning; with them all is well, and what was written is of now."""
    status, text = doctor(embedded, tmp_path, capsys)
    assert status == 0, text
    assert "warning  flights has none on this broker" in text
    make(embedded)
    write(embedded, int(time.time() * 1000))
    status, text = doctor(embedded, tmp_path, capsys)
    assert status == 0, text
    assert f"{len(TOPICS)}, with partitions that match" in text
    assert "s old by this machine's clock" in text


def test_partitions_that_differ_and_a_topic_that_is_gone(embedded: Broker, tmp_path: Path, capsys: OUT) -> None:
    """Both are named, and the exit status is 1."""
    make(embedded, labels=TopicSpec(5))
    admin = AdminClient({"bootstrap.servers": embedded.address, "log_level": 0})
    admin.delete_topics(["flights.alerts"])["flights.alerts"].result(10)
    status, text = doctor(embedded, tmp_path, capsys)
    assert status == 1
    assert "WRONG    partition counts of flights differ: events 2, labels 5" in text
    assert "WRONG    flights.alerts is missing" in text


def test_a_clock_that_is_ahead(embedded: Broker, tmp_path: Path, capsys: OUT) -> None:
    """A record that is stamped with a time to come shows it."""
    make(embedded)
    write(embedded, int(time.time() * 1000) + 3_600_000)
    status, text = doctor(embedded, tmp_path, capsys)
    assert status == 1
    assert "s ahead of this machine's clock; set the clocks" in text


def write(broker: Broker, stamp: int) -> None:
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})
    producer.produce("flights.events", b"{}", key=b"JFK", timestamp=stamp)
    assert producer.flush(10) == 0


def test_settings_on_apache_kafka(tmp_path: Path, capsys: OUT) -> None:
    """As the launcher makes topics all is well; compaction that is switched off, and a week's retention, are named."""
    try:
        apache_kafka._tool("java"), apache_kafka._tool("mvn")
    except brokers.BrokerUnavailable as error:
        pytest.skip(str(error))
    with Children(tmp_path / "logs") as children:
        broker = brokers.start("kafka", children, tmp_path)
        brokers.wait_ready(broker, children)
        make(broker)
        status, text = doctor(broker, tmp_path, capsys)
        assert status == 0, text
        assert "topic settings      ok" in text
        assert "1 replica of each partition, in sync" in text
        make(broker, "electricity", models=TopicSpec(1), events=TopicSpec(2, {"retention.ms": "604800000"}))
        status, text = doctor(broker, tmp_path, capsys, "electricity")
    assert status == 1
    assert "WRONG    electricity.models: cleanup.policy is delete, not compact" in text
    assert "WRONG    electricity.events: message.timestamp.type is CreateTime, not LogAppendTime" in text
    assert "warning  electricity.events keeps records for 7 days" in text
