"""A console as a process of its own, on a broker whose topics hold what a test says, and a browser's part of it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from confluent_kafka import Producer

from infra.local import brokers
from infra.local.brokers import Broker, TopicSpec, free_ports
from services.runtime.history import read_all
from services.runtime.records import Outgoing, Record
from services.runtime.settings import Settings
from services.runtime.stream import TOPICS, UNPARTITIONED, Stream, load_stream

ROOT = Path(__file__).parents[1]
Found = TypeVar("Found")


def until(look: Callable[[], Found], seconds: float = 60.0) -> Found:
    """Return what is found, once something is."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)
    return found


def states(program: httpx.Client) -> dict[str, str]:
    """Return the state of each version that a console shows."""
    return {one["name"]: one["state"] for one in program.get("/api/models").json()["versions"]}


class Log:
    """The topics of a stream on a broker, to be written."""

    def __init__(self, broker: Broker, data: Path, schemas: Path = ROOT / "schemas", name: str = "flights") -> None:
        self.stream: Stream = load_stream(schemas, name)
        self.settings = Settings(stream=name, schemas=schemas, broker=broker.address, data=data)
        self._broker = broker
        self._producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})

    def create(self) -> None:
        specs = {self.stream.topic(kind): TopicSpec(1 if kind in UNPARTITIONED else 2, {}) for kind in TOPICS}
        brokers.create_topics(self._broker, specs)

    def say(self, kind: str, *values: Any, partition: int = 0) -> None:
        for value in values:
            content = value if isinstance(value, bytes) else msgspec.json.encode(value)
            self._producer.produce(self.stream.topic(kind), content, partition=partition)
        assert self._producer.flush(10) == 0

    def records(self, kind: str) -> list[Record]:
        """Return all that a topic holds."""
        return [record for batch in read_all(self.settings, self.stream.topic(kind)) for record in batch]

    def write(self, *records: Outgoing) -> None:
        for out in records:
            self._producer.produce(out.topic, out.value, out.key, partition=out.partition or 0, headers=out.headers)
        assert self._producer.flush(10) == 0


class Running:
    """A console that runs, with its tokens."""

    def __init__(self, log: Log, **settings: str) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = log.settings.data
        self.log_file = self.data / "console.log"
        told = {"PORT": str(self.port), "STORE_MB": "16"} | {name.upper(): value for name, value in settings.items()}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("THALWEG_")},
            "THALWEG_STREAM": log.stream.name,
            "THALWEG_SCHEMAS": str(log.settings.schemas),
            "THALWEG_BROKER": log.settings.broker,
            "THALWEG_DATA": str(self.data),
            **{f"THALWEG_CONSOLE_{name}": value for name, value in told.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "services.console"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(argv, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.said
        try:
            return httpx.get(f"{self.url}/healthz", timeout=1).is_success
        except httpx.HTTPError:
            return False

    @property
    def said(self) -> str:
        return self.log_file.read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def token(self, level: str) -> str:
        found: dict[str, str] = msgspec.json.decode((self.data / "console" / "tokens.json").read_bytes())
        return found[level]

    def program(self, level: str = "acting") -> httpx.Client:
        """Return a client that shows a token with each request."""
        headers = {"Authorization": f"Bearer {self.token(level)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False)

    @contextmanager
    def page(self, level: str = "acting") -> Iterator[tuple[httpx.Client, str]]:
        """Yield a client that has a session, as the page does, and what it has to say with each act."""
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            answer = client.post("/api/session", json={"token": self.token(level)})
            assert answer.is_success, answer.text
            yield client, answer.json()["csrf"]

    def live(self, client: httpx.Client, seconds: float = 3.0) -> dict[str, Any]:
        """Return the newest of each part that the live stream brings within so long."""
        found: dict[str, Any] = {}
        end, name = time.monotonic() + seconds, ""
        with client.stream("GET", "/api/live") as lines:
            assert lines.is_success
            for line in lines.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    found[name] = msgspec.json.decode(line.removeprefix("data: "))
                if time.monotonic() > end:
                    return found
        return found
