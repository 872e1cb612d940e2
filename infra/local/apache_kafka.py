"""Apache Kafka on this machine: the jars through Maven, one KRaft node or three, everything on the loopback interface.

Every node is broker and controller. The quorum's voters stand in the settings and not in the log, so a cluster comes up
again on other ports.
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

import msgspec

_POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
_INSTALL = "install it with: apt-get install openjdk-17-jre-headless maven"
# A broker for one machine's cores: the serial collector starts faster than G1 and pauses for milliseconds at this heap.
_JVM = ("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
_QUICK = "-XX:TieredStopAtLevel=1"  # compile once: a third less work until a node is up
# A node that is dead is noticed in three seconds, and a consumer or a transaction that is given up soon after.
_SERVER = """\
process.roles=broker,controller
node.id={node.id}
listeners=PLAINTEXT://{node.address},CONTROLLER://{node.controller_address}
advertised.listeners=PLAINTEXT://{node.address},CONTROLLER://{node.controller_address}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
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
    """One broker and controller: its number from 1, and its ports for clients and for the quorum."""

    id: int
    port: int
    controller: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def controller_address(self) -> str:
        return f"127.0.0.1:{self.controller}"


class _Cluster(msgspec.Struct, frozen=True):
    """Whose data the folders of the nodes hold, kept beside them."""

    id: str
    nodes: int


def prepare(home: Path, nodes: Sequence[Node]) -> tuple[str, list[list[str | Path]]]:
    """Return the version and each node's command; `home/ID` holds its settings and data, formatted when they are new.

    BrokerUnavailable says what to install, or that the data in `home` is that of another number of nodes.
    """
    java, (version, jars) = _tool("java"), _jars()
    cluster = _cluster(home, len(nodes))
    run = [java, *_JVM, f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}", "-cp", f"{jars}/*"]
    (home / "log4j2.properties").write_text(_LOG4J)
    servers = [_configure(home / str(node.id), node, nodes) for node in nodes]
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(lambda server: _format(run, server, cluster), servers))
    heap = ["-Xmx1g"] if len(nodes) == 1 else ["-Xmx512m", _QUICK]
    return version, [[java, *heap, *run[1:], "kafka.Kafka", server] for server in servers]


def _cluster(home: Path, nodes: int) -> _Cluster:
    """Return the cluster whose data is in `home`; a new one where there is none."""
    file = home / "cluster.json"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(_Cluster(secrets.token_urlsafe(16), nodes)))
    found = msgspec.json.decode(file.read_bytes(), type=_Cluster)
    if found.nodes != nodes:
        raise BrokerUnavailable(
            f"{home} holds the topics of a cluster of {found.nodes}, not of {nodes}: run it with --brokers"
            f" {found.nodes}, or remove that folder, and so its topics"
        )
    return found


def _configure(home: Path, node: Node, nodes: Sequence[Node]) -> Path:
    home.mkdir(exist_ok=True)
    server = home / "server.properties"
    voters = ",".join(f"{voter.id}@{voter.controller_address}" for voter in nodes)
    replicas = len(nodes)
    text = _SERVER.format(node=node, voters=voters, data=home / "data", replicas=replicas, in_sync=(replicas + 1) // 2)
    server.write_text(text)
    return server


def _format(java: Sequence[str | Path], server: Path, cluster: _Cluster) -> None:
    if not (server.parent / "data" / "meta.properties").exists():
        identity = f"--cluster-id={cluster.id}"
        _run([*java, _QUICK, "kafka.tools.StorageTool", "format", identity, "--config", server])


def _jars() -> tuple[str, Path]:
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
