"""Three nodes of Apache Kafka, one of them killed: skipped, by name, where Java or Maven is missing."""

import shutil
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from infra.local import brokers
from infra.local.brokers import Broker, BrokerUnavailable, TopicSpec
from infra.local.processes import Children

MISSING = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"Apache Kafka needs {' and '.join(MISSING)}, which this machine lacks"
)
PARTITIONS = 3


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    with Children(tmp_path_factory.mktemp("cluster") / "logs") as children:
        yield children


@pytest.fixture(scope="module")
def cluster(children: Children) -> Broker:
    broker = brokers.start("kafka", children, children.logs.parent, nodes=3)
    brokers.wait_ready(broker, children)
    brokers.create_topics(broker, {"events": TopicSpec(PARTITIONS)})
    return broker


class Log:
    """What an idempotent producer was told is durable, and what a reader sees of it."""

    def __init__(self, broker: Broker) -> None:
        at = {"bootstrap.servers": broker.address, "log_level": 0}
        self._producer = Producer({**at, "enable.idempotence": True, "linger.ms": 5})
        self._consumer = Consumer({**at, "group.id": "reader", "isolation.level": "read_committed"})
        self._consumer.assign([TopicPartition("events", n, 0) for n in range(PARTITIONS)])
        self.sent = 0
        self.seen: list[int] = []

    def write(self, records: int) -> None:
        """Send the next numbers, and expect each to be acknowledged by all replicas in step."""
        for _ in range(records):
            self._producer.produce("events", str(self.sent), partition=self.sent % PARTITIONS)
            self.sent += 1
        assert self._producer.flush(30) == 0

    def read(self) -> None:
        """Read until everything that was sent has been seen."""
        deadline = time.monotonic() + 30
        while len(self.seen) < self.sent:
            assert time.monotonic() < deadline, f"{len(self.seen)} of {self.sent} were read"
            for message in self._consumer.consume(1000, timeout=0.2):
                assert message.error() is None
                self.seen.append(int(message.value() or b"-1"))

    def close(self) -> None:
        self._consumer.close()


def commit_a_transaction(broker: Broker) -> None:
    """Make the topic of transactions, and have it used."""
    producer = Producer({"bootstrap.servers": broker.address, "log_level": 0, "transactional.id": "one"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce("transacted", b"once", partition=0)
    producer.commit_transaction(30)


def test_a_topic_has_three_copies_and_two_must_be_written(cluster: Broker) -> None:
    """Replication 3 and min.insync.replicas 2, for our topics and for Kafka's own record of transactions."""
    brokers.create_topics(cluster, {"transacted": TopicSpec()})
    commit_a_transaction(cluster)
    names = ("events", "__transaction_state")
    with AdminClient({"bootstrap.servers": cluster.address, "log_level": 0}) as client:
        topics = client.list_topics(timeout=10).topics
        described = client.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names])
        needed = {resource.name: found.result()["min.insync.replicas"].value for resource, found in described.items()}
    copies = {len(partition.replicas) for name in names for partition in topics[name].partitions.values()}
    assert copies == {3}
    assert needed == dict.fromkeys(names, "2")


def test_a_node_that_is_killed_costs_nothing_and_comes_back(cluster: Broker, children: Children) -> None:
    """A node is killed with -9: what was acknowledged is read once, in order; started again, it is in sync soon."""
    log = Log(cluster)
    log.write(300)
    children["kafka-1"].kill()
    log.write(300)
    log.read()
    with pytest.raises(BrokerUnavailable, match=r"replicas behind: \S+\[\d\]"):
        brokers.wait_in_sync(cluster, children, timeout=0)
    children["kafka-1"].restart()
    brokers.wait_in_sync(cluster, children)
    log.write(300)
    log.read()
    log.close()
    assert sorted(log.seen) == list(range(log.sent))
    for partition in range(PARTITIONS):
        mine = [n for n in log.seen if n % PARTITIONS == partition]
        assert mine == sorted(mine)


def test_data_of_three_nodes_is_not_run_by_one(cluster: Broker, children: Children) -> None:
    """The number of nodes is part of the data, and the message says which number that is."""
    assert cluster.address.count(",") == 2
    with pytest.raises(BrokerUnavailable, match=r"kafka holds the topics of a cluster of 3, not of 1: .*--brokers 3"):
        brokers.start("kafka", children, children.logs.parent)
