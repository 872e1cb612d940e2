"""Topics of Apache Kafka, written again without some of their records: every other one is where it was."""

import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.forgetting.rewriting import Cluster, refilled, spooled
from infra.forgetting.spool import Partition, Spool
from infra.local import brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Children
from services.runtime.errors import Stop
from services.runtime.history import KafkaHistory
from services.runtime.records import Record
from services.runtime.settings import Settings

MISSING = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"Apache Kafka needs {' and '.join(MISSING)}, which this machine lacks"),
    pytest.mark.timeout(600),
]
CONFIG = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "9000000"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("rewriting")
    with Children(folder / "logs") as children:
        broker = brokers.start("kafka", children, folder)
        brokers.wait_ready(broker, children)
        yield broker


class Topic:
    """A topic with a story: plain records, transactions that ended in either way, and a beginning that was deleted."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.name, self.settings = name, Settings(stream="s", broker=broker.address)
        self.admin = AdminClient({"bootstrap.servers": broker.address})
        brokers.create_topics(broker, {name: TopicSpec(3, CONFIG)})
        at: dict[str, Any] = {"bootstrap.servers": broker.address, "log_level": 0, "enable.idempotence": True}
        self._plain = Producer(at)
        self._named = [Producer(at | {"transactional.id": f"{name}-{n}"}) for n in range(2)]
        for producer in self._named:
            producer.init_transactions(30)

    def tell(self, seed: int, acts: int) -> None:
        """Write to partitions 0 and 1; the third stays empty."""
        draw = random.Random(seed)  # noqa: S311 - no secret
        for act in range(acts):
            kind = draw.choice(["plain", "plain", "commit", "abort", "both"])
            number, count = draw.randrange(2), draw.randrange(1, 4)
            if kind == "plain":
                self._write(self._plain, number, f"{act}", count)
            elif kind == "both":  # two transactions end one behind the other
                for producer in self._named:
                    producer.begin_transaction()
                    self._write(producer, number, f"{act}", count)
                for producer in self._named:
                    producer.commit_transaction(30)
            else:
                self._named[0].begin_transaction()
                self._write(self._named[0], number, f"{act}", count)
                (self._named[0].commit_transaction if kind == "commit" else self._named[0].abort_transaction)(30)

    def _write(self, producer: Producer, number: int, act: str, count: int) -> None:
        for place in range(count):
            key = b"gone" if (int(act) + place) % 3 == 0 else b"kept"
            producer.produce(self.name, f"{act}/{place}", key, number, headers=[("h", act.encode())])
        assert producer.flush(30) == 0

    def records(self) -> list[Record]:
        with closing(KafkaHistory(self.settings)) as history:
            return [record for batch in history.read_topic(self.name) for record in batch]

    def commit(self, group: str, offset: int) -> None:
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(self.name, 0, offset)])
        self.admin.alter_consumer_group_offsets([asked])[group].result()

    def committed(self, group: str) -> int:
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(self.name, 0)])
        return int(self.admin.list_consumer_group_offsets([asked])[group].result().topic_partitions[0].offset)


def stays(record: Record) -> Record | None:
    return None if record.key == b"gone" else record


@pytest.mark.parametrize("seed", range(2))
def test_what_stays_is_where_it_was(broker: Broker, tmp_path: Path, seed: int) -> None:
    """Offset, key, value, headers and time of each record that stays; where it begins and ends; settings and groups."""
    topic = Topic(broker, f"s.story{seed}")
    topic.tell(seed, 20)
    before = topic.records()
    first = [record for record in before if record.partition == 0]
    topic.commit("s.reader", first[-1].offset + 1)
    with closing(Cluster(topic.settings)) as cluster:
        ends = [cluster.bounds(topic.name, number)[1] for number in range(3)]
        rewrite(cluster, topic, Spool(tmp_path / "spool"))
        assert topic.records() == [record for record in before if record.key != b"gone"]
        assert [cluster.bounds(topic.name, number)[1] for number in range(3)] == ends
        plan = cluster.plan(topic.name, "s.", [Partition(number, 0, 0, []) for number in range(3)])
    assert {name: plan.config[name] for name in CONFIG} == CONFIG
    kept = [record.offset for record in first if record.key != b"gone"]
    assert topic.committed("s.reader") == kept[-1] + 1
    assert not (tmp_path / "spool").exists()


def test_a_rewriting_that_was_cut_off_is_finished(broker: Broker, tmp_path: Path) -> None:
    """Once the spool is whole the topic comes of it, whatever of the topic is there; before, it was not touched."""
    topic = Topic(broker, "s.cut")
    topic.tell(7, 15)
    before = topic.records()
    spool = Spool(tmp_path / "spool")
    with closing(Cluster(topic.settings)) as cluster:
        spool.begin()
        refilled(cluster, spool)
        assert topic.records() == before
        keep(cluster, topic, spool)
        topic.admin.delete_topics([topic.name])[topic.name].result()
        refilled(cluster, spool)
        assert topic.records() == [record for record in before if record.key != b"gone"]
        keep(cluster, topic, spool)
        topic._write(topic._plain, 0, "1", 1)  # half of a topic that was being filled
        refilled(cluster, spool)
    assert topic.records() == [record for record in before if record.key != b"gone"]


def test_who_writes_meanwhile_is_noticed(broker: Broker, tmp_path: Path) -> None:
    """A record that comes while the topic is read stops it before the topic is touched."""
    topic = Topic(broker, "s.busy")
    topic.tell(1, 5)

    def busy(record: Record) -> Record | None:
        topic._write(topic._plain, record.partition, "2", 1)
        return stays(record)

    spool = Spool(tmp_path / "spool")
    with closing(Cluster(topic.settings)) as cluster, closing(KafkaHistory(topic.settings)) as history:
        with pytest.raises(Stop, match="does anybody else write to it"):
            spooled(cluster, history, spool, topic.name, "s.", busy)
        assert spool.plan() is None


def rewrite(cluster: Cluster, topic: Topic, spool: Spool) -> None:
    keep(cluster, topic, spool)
    refilled(cluster, spool)


def keep(cluster: Cluster, topic: Topic, spool: Spool) -> None:
    with closing(KafkaHistory(topic.settings)) as history:
        spooled(cluster, history, spool, topic.name, "s.", stays)
