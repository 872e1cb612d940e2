"""The broker: whether it answers, what it says of its topics, and whether its clock agrees with this machine's.

The broker stamps `events` and `labels`. A stamp from the future shows a clock that is ahead; one that is behind can't
be told from a quiet stream.
"""

import time
from collections.abc import Sequence
from contextlib import closing

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.admin._resource import ResourceType

from infra.doctor.findings import Finding, ok, wrong
from infra.doctor.topics import Partition, Topic, judge
from services.runtime.clients import client
from services.runtime.errors import Stop
from services.runtime.kafka import reader
from services.runtime.settings import Settings
from services.runtime.stream import Stream

PATIENCE_S = 4.0
EMBEDDED = "tansu"
SKEW_S = 2.0
NEWEST = 3  # records at the end of a partition


def look(settings: Settings, stream: Stream) -> list[Finding]:
    """Return what there is to say of the broker, the stream's topics and the clocks."""
    try:
        admin = AdminClient(client(settings, **{"log_level": 0, "socket.timeout.ms": 5000}))
        cluster = admin.list_topics(timeout=PATIENCE_S)
    except Stop as error:
        return [wrong("broker", f"{settings.broker} and this client can't come to terms", str(error))]
    except KafkaException as error:
        do = "start it, or name the right one: --broker HOST:PORT"
        return [wrong("broker", f"no answer from {settings.broker}: {error.args[0].str()}", do)]
    embedded = str(cluster.cluster_id).startswith(EMBEDDED)
    kind = "embedded, in memory: it forgets everything when it ends" if embedded else f"cluster {cluster.cluster_id}"
    count = len(cluster.brokers)
    said = ok("broker", f"{settings.broker} answers, {count} node{'s' if count > 1 else ''}, {kind}")
    names = [name for name in cluster.topics if name.startswith(f"{stream.name}.")]
    topics = _describe(admin, cluster, names)
    return [said, *judge(stream, topics, count, embedded=embedded), *_clocks(settings, stream, cluster)]


def _describe(admin: AdminClient, cluster: ClusterMetadata, names: Sequence[str]) -> dict[str, Topic]:
    wanted = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = admin.describe_configs(wanted, request_timeout=PATIENCE_S) if wanted else {}
    configs: dict[str, dict[str, str] | None] = {}
    for resource, future in answers.items():
        try:
            configs[resource.name] = {name: entry.value for name, entry in future.result(PATIENCE_S).items()}
        except (KafkaException, TimeoutError):
            configs[resource.name] = None
    return {
        name: Topic(
            tuple(
                Partition(one.leader, tuple(one.replicas), tuple(one.isrs))
                for _, one in sorted(cluster.topics[name].partitions.items())
            ),
            configs.get(name),
        )
        for name in names
    }


def _clocks(settings: Settings, stream: Stream, cluster: ClusterMetadata) -> list[Finding]:
    stamped = [stream.topic(kind) for kind in ("events", "labels") if stream.topic(kind) in cluster.topics]
    with closing(reader(settings, **{"enable.partition.eof": True})) as consumer:
        places = [TopicPartition(topic, number) for topic in stamped for number in cluster.topics[topic].partitions]
        stamps = [stamp for place in places for stamp in _newest(consumer, place)]
    return [clocks(max(stamps) / 1000, time.time())] if stamps else [ok("clocks", "no record to compare with")]


def _newest(consumer: Consumer, place: TopicPartition) -> list[int]:
    """Return the stamps of the last records of a partition; of one that has no leader now there are none to be had."""
    try:
        low, high = consumer.get_watermark_offsets(place, timeout=PATIENCE_S)
    except KafkaException:
        return []
    consumer.assign([TopicPartition(place.topic, place.partition, max(low, high - NEWEST))])
    found = consumer.consume(NEWEST, PATIENCE_S / 4) if high > low else []
    return [message.timestamp()[1] for message in found if message.error() is None]


def clocks(newest: float, now: float) -> Finding:
    """Compare the newest stamp with this machine's clock, both in seconds since 1970."""
    ahead = newest - now
    if ahead > SKEW_S:
        do = "set the clocks of brokers, producers and this machine by one time server"
        return wrong("clocks", f"the newest record is stamped {ahead:.1f} s ahead of this machine's clock", do)
    return ok("clocks", f"the newest record is {max(-ahead, 0):.0f} s old by this machine's clock")
