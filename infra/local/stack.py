"""A whole Thalweg on this machine: broker, Triton and the services of one stream, each a process of its own."""

import dataclasses
import fcntl
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import msgspec
from msgspec.structs import replace

from infra.kafka import guarding
from infra.kafka.acls import OPERATOR
from infra.local import access, brokers, door, instances, leavings, scraped, topics, triton
from infra.local.access import Access
from infra.local.brokers import Broker, TopicSpec
from infra.local.instances import SERVICES, Instances
from infra.local.processes import Children
from infra.local.triton import Triton
from services.console.access import Tokens
from services.console.tokens import make_tokens, tokens_path
from services.ingestion.key_file import keys_path
from services.runtime.kafka import Tail
from services.runtime.settings import Settings
from services.runtime.signing import make_keys
from services.runtime.stream import TOPICS, Stream

REPOSITORY = Path(__file__).parents[2]
PORTS = {"ingestion": 8080, "drift": 8081, "console": 8090}
CONSOLE, OFF = "console", "off"
UNGROUPED = ("ingestion", "console")  # they read without a consumer group
_EMBEDDED = {"THALWEG_SESSION_TIMEOUT_MS": "3000"}  # Tansu lets a group's first member wait for half of it


@dataclass(frozen=True)
class Options:
    """What to run. `fresh`: the log begins anew, so what came of the one before goes (`leavings.py`)."""

    stream: str
    partitions: int = 3
    broker: str = "embedded"
    run_dir: Path = REPOSITORY / ".run"
    fresh: bool = True
    brokers: int = 1
    instances: Mapping[str, int] = field(default_factory=dict)  # one of each service that it does not name
    settings: Mapping[str, str] = field(default_factory=dict)  # variables of the services, over ours
    guarded: bool = False  # Apache Kafka with TLS, a user for each service, and rules
    otlp: str = CONSOLE  # where everybody's spans go: to the run's own console, `OFF`, or http://127.0.0.1:4318
    through: tuple[str, ...] = ()  # what Python is to run services through, such as -m cProfile

    def __post_init__(self) -> None:
        instances.check(self.instances)
        if self.brokers != 1 and self.broker != "kafka":
            raise ValueError(f"--brokers {self.brokers} needs --broker kafka; {self.broker} is not ours to multiply")
        if self.guarded and self.broker != "kafka":
            raise ValueError(f"--guarded needs --broker kafka; {self.broker} is as it is")


class AlreadyUp(RuntimeError):  # noqa: N818 - a state that the operator can change, as the message says
    """A run of this stream is up already in the same folder."""


class Running(msgspec.Struct, frozen=True):
    """What `<run_dir>/<stream>/running.json` says to other commands while a run is up."""

    pid: int
    broker: str
    ingestion: str
    data: str
    services: dict[str, str]  # where each process answers /healthz and /readyz
    console: str = ""
    triton: str = ""  # where it answers gRPC
    access: dict[str, str] = {}  # what lets a client into the broker, but for passwords
    ingestion_ca: str = ""  # the file of the authority behind ingestion's certificate

    @property
    def trusting(self) -> ssl.SSLContext | None:
        """What a client of ingestion trusts; None where TLS is not spoken."""
        return door.trusted(self.ingestion, self.ingestion_ca)

    def settings(self, stream: str) -> Settings:
        """Return what a client of the run connects with."""
        ours = access.settings(self.broker, access.again(self.access, os.environ))
        return replace(ours, stream=stream, data=Path(self.data))


def claim(run_dir: Path, stream: str) -> TextIO:
    """Return a lock: until it is closed no run of this stream starts in the folder. AlreadyUp if one is up."""
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = (run_dir / f"{stream}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise AlreadyUp(f"{stream} is up already in {run_dir}; stop that one first") from error
    return lock


class Stack:
    """Starts everything on entry, stops everything on exit. `check` raises ChildDied as soon as a part is dead.

    What runs is in `children`, by name: `stack.children["features"].kill()`; `instances` has more of a service join.
    """

    broker: Broker
    triton: Triton
    ingestion: str
    drift: str
    console: str
    trusting: ssl.SSLContext | None  # what a client of ingestion trusts; None where TLS is not spoken
    otlp: str  # where spans go; empty: nothing is traced
    _ports: dict[str, int]
    _tokens: Tokens
    _tokens_are_new: bool
    instances: Instances
    _triton_metrics: int
    _lock: TextIO  # held while the run is up; the kernel lets go of it however this process ends

    def __init__(self, options: Options, stream: Stream, schemas: Path) -> None:
        self.options, self.stream, self._schemas = options, stream, schemas
        self.folder = options.run_dir / stream.name
        self.data = self.folder / "data"
        self.children = Children(self.folder / "logs")
        self._access: dict[str, Access] = {}  # of each service, where each has its own
        self._given = {**access.without(os.environ), **options.settings}  # variables that services are given
        self._cleared: list[str] = []

    @property
    def settings(self) -> Settings:
        """What a client of the run reads from."""
        more = {"stream": self.stream.name, "schemas": self._schemas, "data": self.data}
        return replace(self.broker.settings, **more)

    def __enter__(self) -> Self:
        self._claim()
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def answering(self) -> dict[str, str]:
        """Where each service answers /healthz, /readyz and /metrics, by its name."""
        return self.instances.probes | {"ingestion": self.ingestion, "console": self.console}

    def check(self) -> None:
        self.children.check()

    @property
    def console_page(self) -> str:
        """Where the page is; with the acting token if that was made just now: it is shown once."""
        return f"{self.console}/#token={self._tokens.acting}" if self._tokens_are_new else self.console

    @property
    def was_cleared(self) -> str:
        """What was removed at the start, a line of its own; nothing if nothing was."""
        gone = f"removed, as its log is gone: {', '.join(self._cleared)}; keys and tokens stay" if self._cleared else ""
        return f"\n{gone}" if gone else ""

    @property
    def keys(self) -> Path:
        """The file of the API keys."""
        named = self._given.get(access.variable("ingestion_keys"))
        return Path(named) if named else keys_path(self.data)

    @property
    def _authority(self) -> str:
        """The file of the authority behind ingestion's certificate, for commands that are called elsewhere too."""
        named = self._given.get(door.AUTHORITY, "")
        return str(Path(named).resolve()) if named else ""

    @property
    def _running(self) -> Path:
        return (self.folder / "running.json").resolve()

    def _claim(self) -> None:
        self._lock = claim(self.options.run_dir, self.stream.name)
        if self.options.fresh:
            self._cleared = leavings.clear(self.folder)
        self.data.mkdir(parents=True, exist_ok=True)

    def _start(self) -> None:
        make_keys(self.data / "keys")
        wanted = self.options
        self.broker = brokers.start(wanted.broker, self.children, self.folder, wanted.brokers, guarded=wanted.guarded)
        self._choose_ports()
        address = triton.start(self.children, self.folder, self.data, self.stream, self._triton_metrics, self.otlp)
        brokers.wait_ready(self.broker, self.children)
        self._let_in()
        brokers.create_topics(self.broker, self._topics())
        self._start_services(address)
        self.triton = triton.wait_ready(address, self.children)
        for name, url, trusting in (("ingestion", self.ingestion, self.trusting), ("console", self.console, None)):
            door.wait(url, trusting, self.check, self.children.logs / f"{name}.log")
        brokers.wait_joined(self.broker, self.children, self._groups())
        self._wait_first_version()
        where = self.broker.address, self.ingestion, str(self.data), self.answering, self.console, address
        running = Running(os.getpid(), *where, access=access.to_leave(self.broker.access), ingestion_ca=self._authority)
        self._running.write_bytes(msgspec.json.encode(running))
        self.instances.changed = self._tell_prometheus
        self._tell_prometheus()

    def _let_in(self) -> None:
        """Have a guarded broker know who its clients are; from here on we are one of them."""
        if self.options.guarded:
            users = guarding.prepare(self.broker.settings, self.stream.name, self.folder / "kafka" / "users")
            self.broker = dataclasses.replace(self.broker, access=users.pop(OPERATOR))
            self._access = users

    def _tell_prometheus(self) -> None:
        where = self.options.run_dir, self.stream.name
        scraped.tell(*where, self.answering, f"127.0.0.1:{self._triton_metrics}")

    def _stop(self) -> None:
        self._running.unlink(missing_ok=True)
        scraped.place(self.options.run_dir, self.stream.name).unlink(missing_ok=True)
        # while they end the broker answers what they commit, and the console takes their last spans
        self.children.stop(6.0, set(SERVICES) - {CONSOLE})
        self.children.stop(8.0)
        triton.clean(self.folder)
        self._lock.close()

    def _groups(self) -> dict[str, int]:
        """Return the consumer group of each service, and how many instances are its members."""
        services = [service for service in SERVICES if service not in UNGROUPED]
        return {f"{self.stream.name}.{service}": self.options.instances.get(service, 1) for service in services}

    def _topics(self) -> dict[str, TopicSpec]:
        def spec(kind: str) -> TopicSpec:
            config = {} if self.broker.kind == "embedded" else topics.topic_config(kind)
            return TopicSpec(topics.partitions(kind, self.options.partitions), config)

        return {self.stream.topic(kind): spec(kind) for kind in TOPICS}

    def _choose_ports(self) -> None:
        (self._triton_metrics,) = brokers.free_ports(1)
        self._ports = {name: _port(usual) for name, usual in PORTS.items()}
        self.ingestion = door.address(self._given, self._ports["ingestion"])
        self.drift, self.console = (f"http://127.0.0.1:{self._ports[name]}" for name in ("drift", "console"))
        self.trusting = door.trusted(self.ingestion, self._authority)
        self.otlp = {CONSOLE: self.console, OFF: ""}.get(self.options.otlp, self.options.otlp)

    def _start_services(self, triton_address: str) -> None:
        self._tokens, self._tokens_are_new = make_tokens(tokens_path(self.data))
        environment = {
            **self._given,
            **access.to_environment({} if self._access else self.broker.access),
            "THALWEG_STREAM": self.stream.name,
            "THALWEG_SCHEMAS": str(self._schemas),
            "THALWEG_BROKER": self.broker.address,
            "THALWEG_DATA": str(self.data),
            **(_EMBEDDED if self.broker.kind == "embedded" else {}),
            "THALWEG_INFERENCE_TRITON": triton_address,
            **({"THALWEG_OTLP": self.otlp} if self.otlp else {}),
            **{f"THALWEG_{name}_PORT".upper(): str(port) for name, port in self._ports.items()},
            "THALWEG_CONSOLE_SERVICES": str(self._running),
            **({door.AUTHORITY: self._authority} if self._authority else {}),
            **self.options.settings,
        }
        own = {service: access.to_environment(found) for service, found in self._access.items()}
        self.instances = Instances(self.children, environment, REPOSITORY, own, self.options.through)
        self.instances.start(self.options.instances)

    def _wait_first_version(self) -> None:
        """Wait until a model is live: from here on an event is predicted as fast as it ever will be."""
        models = Tail(self.settings, self.stream.topic("models"), from_beginning=True)
        while not models.poll(1, 0.1):
            self.check()
        models.close()


def read_running(run_dir: Path, stream: str) -> Running | None:
    """Return the run of this stream that is up, if there is one."""
    try:
        running = msgspec.json.decode((run_dir / stream / "running.json").read_bytes(), type=Running)
        os.kill(running.pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return running


def _port(usual: int) -> int:
    """Return the port that the README names, or another if that one is taken."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return brokers.free_ports(1)[0]
    return usual
