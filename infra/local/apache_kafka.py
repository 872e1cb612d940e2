"""Apache Kafka on this machine: the jars through Maven, one KRaft node, everything on the loopback interface."""

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_POM = Path(__file__).parents[1] / "kafka" / "pom.xml"
_INSTALL = "install it with: apt-get install openjdk-17-jre-headless maven"
# A broker for one machine's cores: the serial collector starts faster than G1 and pauses for milliseconds at this heap.
_JVM = ("-Xmx1g", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
_SERVER = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=8
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
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


def prepare(home: Path, port: int, controller: int) -> tuple[str, list[str | Path]]:
    """Return the version and the command that runs it; `home` holds settings and data, formatted when they are new."""
    java_bin, (version, jars) = _tool("java"), _jars()
    server, data = _configure(home, port, controller)
    java = [java_bin, *_JVM, f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}", "-cp", f"{jars}/*"]
    if not (data / "meta.properties").exists():
        identity = f"--cluster-id={secrets.token_urlsafe(16)}"
        _run([*java, "kafka.tools.StorageTool", "format", "--standalone", identity, "--config", server])
    return version, [*java, "kafka.Kafka", server]


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


def _configure(home: Path, port: int, controller: int) -> tuple[Path, Path]:
    home.mkdir(parents=True, exist_ok=True)
    server, data = home / "server.properties", home / "data"
    server.write_text(_SERVER.format(port=port, controller=controller, data=data))
    (home / "log4j2.properties").write_text(_LOG4J)
    return server, data


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
