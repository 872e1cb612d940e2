"""Apache Kafka on this machine: the jars through Maven, one KRaft node or three, everything on the loopback interface.

Every node is broker and controller. The quorum's voters stand in the settings and not in the log, so a cluster comes up
again on other ports. A guarded one has TLS on all listeners: clients log in (SCRAM) and may do what rules allow, and
nodes know each other by their certificate.
"""

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from infra.local.authority import BROKER, Certificates
from services.runtime.credentials import MECHANISM

_POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
_INSTALL = "install it with: apt-get install openjdk-17-jre-headless maven"
# A broker for one machine's cores: the serial collector starts faster than G1 and pauses for milliseconds at this heap.
_JVM = ("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
_QUICK = "-XX:TieredStopAtLevel=1"  # compile once: a third less work until a node is up
# A node that is dead is noticed in three seconds, and a consumer or a transaction that is given up soon after.
_SERVER = """\
process.roles=broker,controller
node.id={node.id}
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={data}
auto.create.topics.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
default.replication.factor={replicas}
min.insync.replicas={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.num.partitions=8
offsets.topic.replication.factor={replicas}
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
"""
_OPEN = """\
listeners=PLAINTEXT://{node.address},CONTROLLER://{node.controller_address}
advertised.listeners=PLAINTEXT://{node.address},CONTROLLER://{node.controller_address}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
"""
_GUARDED = """\
listeners=CLIENTS://{node.address},BROKERS://{node.inner_address},CONTROLLER://{node.controller_address}
advertised.listeners=CLIENTS://{node.address},BROKERS://{node.inner_address},CONTROLLER://{node.controller_address}
listener.security.protocol.map=CLIENTS:SASL_SSL,BROKERS:SSL,CONTROLLER:SSL
inter.broker.listener.name=BROKERS
listener.name.brokers.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
listener.name.clients.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
sasl.enabled.mechanisms={mechanism}
ssl.keystore.type=PEM
ssl.keystore.location={certificates.both}
ssl.truststore.type=PEM
ssl.truststore.location={certificates.authority}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:CN={broker};User:{admin}
"""
ADMIN = "admin"
_LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n
"""


class BrokerUnavailable(RuntimeError):  # noqa: N818 - a state that the operator can change, as the message says
    """The broker asked for cannot be started or does not answer."""


@dataclass(frozen=True)
class Node:
    """One broker and controller: its number from 1, and its ports for clients, for the quorum and for other brokers."""

    id: int
    port: int
    controller: int
    inner: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def inner_address(self) -> str:
        return f"127.0.0.1:{self.inner}"

    @property
    def controller_address(self) -> str:
        return f"127.0.0.1:{self.controller}"


class _Cluster(msgspec.Struct, frozen=True):
    """Whose data the folders of the nodes hold, kept beside them."""

    id: str
    nodes: int
    guarded: bool = False


class Guard(NamedTuple):
    """What a guarded cluster is started with: who vouches for it, and the file of its admin's password."""

    certificates: Certificates
    password: Path


def prepare(home: Path, nodes: Sequence[Node], guard: Guard | None = None) -> tuple[str, list[list[str | Path]]]:
    """Return the version and each node's command; `home/ID` holds its settings and data, formatted when they are new.

    BrokerUnavailable says what to install, or that the data in `home` is that of another kind of cluster.
    """
    java, (version, jars) = _tool("java"), fetch_jars()
    cluster = _cluster(home, len(nodes), guarded=guard is not None)
    run = [java, *_JVM, f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}", "-cp", f"{jars}/*"]
    (home / "log4j2.properties").write_text(_LOG4J)
    servers = [_configure(home / str(node.id), node, nodes, guard) for node in nodes]
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(lambda server: _format(run, server, cluster, guard), servers))
    heap = ["-Xmx1g"] if len(nodes) == 1 else ["-Xmx512m", _QUICK]
    return version, [[java, *heap, *run[1:], "kafka.Kafka", server] for server in servers]


def _cluster(home: Path, nodes: int, *, guarded: bool) -> _Cluster:
    """Return the cluster whose data is in `home`; a new one where there is none."""
    file = home / "cluster.json"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(_Cluster(secrets.token_urlsafe(16), nodes, guarded)))
    found = msgspec.json.decode(file.read_bytes(), type=_Cluster)
    if found.nodes != nodes:
        raise BrokerUnavailable(
            f"{home} holds the topics of a cluster of {found.nodes}, not of {nodes}: run it with --brokers"
            f" {found.nodes}, or remove that folder, and so its topics"
        )
    if found.guarded != guarded:
        kind = "a guarded cluster: run it with --guarded" if found.guarded else "a cluster that is open: run it without"
        raise BrokerUnavailable(f"{home} holds the topics of {kind}, or remove that folder, and so its topics")
    return found


def _configure(home: Path, node: Node, nodes: Sequence[Node], guard: Guard | None) -> Path:
    home.mkdir(exist_ok=True)
    server = home / "server.properties"
    voters = ",".join(f"{voter.id}@{voter.controller_address}" for voter in nodes)
    replicas = len(nodes)
    text = _SERVER.format(node=node, voters=voters, data=home / "data", replicas=replicas, in_sync=(replicas + 1) // 2)
    server.write_text(text + _listeners(node, guard))
    return server


def _listeners(node: Node, guard: Guard | None) -> str:
    if guard is None:
        return _OPEN.format(node=node)
    more = {"mechanism": MECHANISM, "broker": BROKER, "admin": ADMIN}
    return _GUARDED.format(node=node, certificates=guard.certificates, **more)


def _format(java: Sequence[str | Path], server: Path, cluster: _Cluster, guard: Guard | None) -> None:
    if (server.parent / "data" / "meta.properties").exists():
        return
    words = ["format", f"--cluster-id={cluster.id}", f"--config={server}"]
    if guard is not None:
        words.append(f"--add-scram={MECHANISM}=[name={ADMIN},password={guard.password.read_text()}]")
    arguments = server.with_name("format")  # a command's own words can be read by everybody on the machine
    arguments.touch(0o600)
    arguments.write_text("\n".join(words))
    try:
        _run([*java, _QUICK, "kafka.tools.StorageTool", f"@{arguments}"])
    finally:
        arguments.unlink()


def fetch_jars() -> tuple[str, Path]:
    """Return the version and the jars' folder; fetch what the pom names if this is the first time.

    The folder gets its name when it is complete, so an interrupted fetch is never mistaken for a whole one.
    """
    version = re.findall(r"<kafka.version>(.+?)<", _POM.read_text())[0]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thalweg"
    jars = cache / f"kafka-{version}"
    if not jars.exists():
        mvn = _tool("mvn")
        print(f"fetching Apache Kafka {version} (44 MB, once) into {jars}", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache) as scratch:
            _run([mvn, "-q", "-B", "-f", _POM, "dependency:copy-dependencies", f"-DoutputDirectory={scratch}/jars"])
            _keep(Path(scratch) / "jars", jars)
    return version, jars


def _keep(fetched: Path, jars: Path) -> None:
    try:
        fetched.rename(jars)
    except OSError:
        if not jars.exists():  # else another launcher was faster
            raise


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise BrokerUnavailable(f"Apache Kafka needs {name}; {_INSTALL}")
    return path


def _run(argv: Sequence[str | Path]) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        command = " ".join(map(str, argv))
        raise BrokerUnavailable(f"exit code {done.returncode} from: {command}\n{done.stdout[-2000:]}")
