"""Both brokers of the launcher, started for real: what services may rely on, and that they leave nothing behind."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from infra.local import brokers
from infra.local.brokers import Broker, BrokerUnavailable, TopicSpec
from infra.local.processes import ChildDied, Children
from services.runtime.kafka import Tail
from services.runtime.settings import Settings


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Start a broker, or skip by name where this machine lacks what it needs; stopping it leaves no process."""
    run_dir, before = tmp_path_factory.mktemp(request.param), offspring()
    with Children(run_dir / "logs") as children:
        yield begin(request.param, children, run_dir)
        children.check()
    assert offspring() == before, "stopping the broker left a process behind"


def begin(spec: str, children: Children, run_dir: Path) -> Broker:
    try:
        broker = brokers.start(spec, children, run_dir)
    except BrokerUnavailable as lacking:
        if "apt-get install" not in str(lacking):
            raise
        pytest.skip(f"no broker {spec}: {lacking}")
    brokers.wait_ready(broker, children)
    return broker


def offspring() -> set[str]:
    """Return our child processes, those that nobody reaped included."""
    return {pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}


def at(broker: Broker) -> dict[str, str | int | float | bool]:
    return {"bootstrap.servers": broker.address, "log_level": 0}


def transactional(broker: Broker, name: str) -> Producer:
    producer = Producer({**at(broker), "transactional.id": name})
    producer.init_transactions(30)
    return producer


def read(broker: Broker, topic: str, until: bytes) -> list[bytes | None]:
    """Return what a read_committed consumer sees of partition 0, up to the value `until`."""
    settings = {**at(broker), "group.id": "reader", "isolation.level": "read_committed"}
    consumer, deadline = Consumer(settings), time.monotonic() + 30
    seen: list[bytes | None] = []
    consumer.assign([TopicPartition(topic, 0, 0)])
    while until not in seen:
        assert time.monotonic() < deadline, f"{until!r} did not come; seen: {seen}"
        for message in consumer.consume(100, timeout=0.2):
            assert message.error() is None
            seen.append(message.value())
    consumer.close()
    return seen


def test_what_is_produced_is_read_in_order(broker: Broker) -> None:
    brokers.create_topics(broker, {"plain": TopicSpec(partitions=2)})
    producer = Producer(at(broker))
    for n in range(100):
        producer.produce("plain", b"%d" % n, partition=0)
    assert producer.flush(30) == 0
    assert read(broker, "plain", until=b"99") == [b"%d" % n for n in range(100)]


def test_a_committed_transaction_is_read(broker: Broker) -> None:
    brokers.create_topics(broker, {"committed": TopicSpec()})
    producer = transactional(broker, "committing")
    producer.begin_transaction()
    for value in (b"one", b"two"):
        producer.produce("committed", value, partition=0)
    producer.commit_transaction(30)
    assert read(broker, "committed", until=b"two") == [b"one", b"two"]


def test_an_aborted_transaction_is_never_read(broker: Broker) -> None:
    """What exactly-once rests on: a read_committed consumer does not see what was aborted before it."""
    if broker.kind == "embedded":
        pytest.skip("Tansu shows aborted transactions; exactly-once is proven on Apache Kafka")
    brokers.create_topics(broker, {"aborted": TopicSpec()})
    producer = transactional(broker, "aborting")
    producer.begin_transaction()
    producer.produce("aborted", b"never", partition=0)
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
    producer.begin_transaction()
    producer.produce("aborted", b"after", partition=0)
    producer.commit_transaction(30)
    assert read(broker, "aborted", until=b"after") == [b"after"]


def test_who_listens_from_now_on_hears_nothing_of_before(broker: Broker) -> None:
    """Whether a transaction is open when it begins or not; what that one writes may be heard."""
    brokers.create_topics(broker, {"heard": TopicSpec()})
    producer = transactional(broker, "speaking")

    def say(value: bytes) -> None:
        producer.begin_transaction()
        producer.produce("heard", value, partition=0)
        assert producer.flush(30) == 0

    say(b"before")
    producer.commit_transaction(30)
    say(b"open")
    tail = Tail(Settings(broker=broker.address), "heard", from_beginning=False)
    producer.commit_transaction(30)
    say(b"after")
    producer.commit_transaction(30)
    heard, deadline = set[bytes](), time.monotonic() + 30
    while b"after" not in heard:
        assert time.monotonic() < deadline, heard
        heard |= {record.value for record in tail.poll(100, 0.2)}
    tail.close()
    assert heard <= {b"open", b"after"}


def test_topics_are_created_once_and_keep_everything_unless_told(broker: Broker) -> None:
    """Creating a topic again changes nothing, and `retention.ms` is always explicit."""
    wanted = {"forever": TopicSpec(partitions=3), "brief": TopicSpec(config={"retention.ms": "60000"})}
    for _ in range(2):
        brokers.create_topics(broker, wanted)
    with AdminClient(at(broker)) as client:
        topics = client.list_topics(timeout=10).topics
        described = client.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in wanted])
        retention = {resource.name: future.result()["retention.ms"].value for resource, future in described.items()}
    assert {name: len(topics[name].partitions) for name in wanted} == {"forever": 3, "brief": 1}
    assert retention == {"forever": "-1", "brief": "60000"}


def test_kafka_keeps_its_topics_over_a_restart(tmp_path: Path) -> None:
    """A run folder is formatted once; the next start, on other ports, finds what the last one left."""
    for topics in ({"kept": TopicSpec()}, {}):
        with Children(tmp_path / "logs") as children:
            broker = begin("kafka", children, tmp_path)
            brokers.create_topics(broker, topics)
            with AdminClient(at(broker)) as client:
                assert "kept" in client.list_topics(timeout=10).topics


def test_a_broker_that_dies_at_its_start_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken, Children(tmp_path) as children:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        broker = brokers.embedded(children, taken.getsockname()[1])
        with pytest.raises(ChildDied, match=r"tansu exited with code \d+(.|\n)*AddrInUse"):
            brokers.wait_ready(broker, children, timeout=20)


def test_a_cluster_that_is_not_there_is_reported_and_nothing_else_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address = f"127.0.0.1:{brokers.free_ports(1)[0]}"
    with Children(tmp_path) as children:
        broker = brokers.start(address, children, tmp_path)
        with pytest.raises(BrokerUnavailable, match=f"after 0.3 s: no answer from {address}"):
            brokers.wait_ready(broker, children, timeout=0.3)
    assert broker == Broker(address, "external", "unknown")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("spec", ["", "rabbit", "host", "host:", ":9092", "host:port", "a:1,b", "http://a:1"])
def test_a_spec_that_names_no_broker_is_refused(spec: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'embedded', 'kafka' or HOST:PORT"):
        brokers.start(spec, Children(tmp_path), tmp_path)


def test_without_java_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerUnavailable, match=r"needs java; .*apt-get install openjdk-17-jre-headless maven"):
        brokers.start("kafka", Children(tmp_path), tmp_path)


def test_an_interrupted_fetch_is_not_taken_for_a_complete_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Maven that fails half-way leaves no folder of jars behind, nor a temporary one."""
    for name, script in {
        "java": "exit 0",
        "mvn": 'for last; do :; done; mkdir "${last#*=}"; echo lost; exit 1',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(BrokerUnavailable, match=r"exit code 1 from: .*mvn(.|\n)*lost"):
        brokers.start("kafka", Children(tmp_path), tmp_path)
    assert not list((tmp_path / "cache" / "thalweg").iterdir())
