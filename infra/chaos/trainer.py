"""The trainer killed again and again while it trains: the service, the process that trains for it, or both at once.

In the end the table must hold each example once, every version that has a card must be registered once and be one that
can be opened, no process may be left behind, and there must be nothing left that is due.
"""

import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
from confluent_kafka import Producer
from deltalake import DeltaTable

from infra.chaos.learner import examples
from infra.local import brokers
from infra.local.brokers import TopicSpec
from infra.local.processes import Child, Children
from infra.local.stack import REPOSITORY
from services.runtime.artifacts import Artifacts
from services.runtime.clients import client
from services.runtime.errors import Retry, Stop
from services.runtime.history import read_all
from services.runtime.models import BATCH, Registered, decode_event
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import examples_frame
from services.runtime.settings import Settings
from services.runtime.signing import make_keys
from services.runtime.stream import Stream, load_stream
from services.trainer.cards import Cards
from services.trainer.schedule import is_due
from services.trainer.store import ExampleStore

SCHEMAS = REPOSITORY / "schemas"
TRAINED_FROM = ("examples", "models", "alerts", "commands")  # the topics that a trainer needs
QUICK = {"train_every": '"8h"', "train_after": "200", "epochs": "4", "width": "16", "batch_size": "16"}
LONGEST_S = 12.0  # from a share of the examples to a kill: it may hit a start, a commit, a training or a registration
LEFT_S = 8.0  # how long the process that trains may outlive its service
PATIENCE_S = 180.0
WHOM = ("service", "training", "both")


class Outcome(msgspec.Struct, frozen=True):
    """What was done and found; `violations` says in words what must not be."""

    kills: dict[str, int]
    examples: int
    versions: list[int]
    registered: list[int]
    violations: list[str]


def quick(stream: str, folder: Path) -> Path:
    """Copy the stream folders, and have this stream train often and briefly; return where they are."""
    shutil.copytree(SCHEMAS, folder)
    pipeline = folder / stream / "pipeline.toml"
    text = re.sub(rf"^({'|'.join(QUICK)}) *=.*\n", "", pipeline.read_text(), flags=re.MULTILINE)
    lines = "".join(f"{name} = {value}\n" for name, value in QUICK.items())
    pipeline.write_text(text.replace("[batch]\n", f"[batch]\n{lines}"))
    return folder


def run(folder: Path, events: int, kills: int, seed: int, broker: str, tell: Callable[[str], None]) -> Outcome:
    """Start a broker and a trainer; feed, kill, and look. Everything is stopped again."""
    schemas = quick("flights", folder / "schemas")
    stream = load_stream(schemas, "flights")
    with Children(folder / "logs") as children:
        started = brokers.start(broker, children, folder)
        brokers.wait_ready(started, children)
        brokers.create_topics(started, {stream.topic(kind): TopicSpec() for kind in TRAINED_FROM})
        settings = Settings(broker=started.address, data=folder / "data", schemas=schemas)
        make_keys(settings.data / "keys")
        command = [sys.executable, "-m", "services.trainer"]
        trainer = children.start("trainer", command, env=environment(settings), cwd=REPOSITORY)
        run = Kills(stream, settings, trainer, list(examples(stream, events)))
        run.disturb(kills, random.Random(seed), tell)  # noqa: S311 - chaos, not secrets
        return run.outcome()


def environment(settings: Settings) -> dict[str, str]:
    ours = {"BROKER": settings.broker, "DATA": str(settings.data), "SCHEMAS": str(settings.schemas)}
    ours |= {"SNAPSHOT_EVERY_S": "0.5", "SESSION_TIMEOUT_MS": "2000", "TRAINER_COMMIT_EVERY_S": "0.1"}
    return os.environ | {f"THALWEG_{name}": value for name, value in ours.items()}


class Kills:
    """One run: its log, its trainer, and what is on disk."""

    def __init__(self, stream: Stream, settings: Settings, trainer: Child, sent: Sequence[Outgoing]) -> None:
        self._stream, self._settings, self._trainer, self._sent = stream, settings, trainer, sent
        self._store = ExampleStore(str(settings.data / "store"), stream)
        self._artifacts = Artifacts(settings.data, stream.name)
        self._cards = Cards(self._artifacts, stream.feature_set)
        self._producer = Producer(client(settings, log_level=0, **{"enable.idempotence": True}))
        self._violations: list[str] = []
        self._done: Counter[str] = Counter()

    def disturb(self, kills: int, chosen: random.Random, tell: Callable[[str], None]) -> None:
        share = -(-len(self._sent) // (kills + 1))
        for kill in range(kills):
            self._send(self._sent[kill * share : (kill + 1) * share])
            wait, whom = chosen.uniform(0, LONGEST_S), chosen.choice(WHOM)
            time.sleep(wait)
            hit = self._kill(whom)
            tell(f"kill {kill + 1} of {kills}, after {wait:.1f} s: {hit}; {len(self._cards.all())} versions")
        self._send(self._sent[kills * share :])

    def _send(self, due: Sequence[Outgoing]) -> None:
        for out in due:
            self._producer.produce(out.topic, out.value, partition=0, headers=out.headers)
        if self._producer.flush(PATIENCE_S):
            raise Stop("the broker did not take the examples")

    def _kill(self, whom: str) -> str:
        """Kill with -9, and start the service again if it was hit; return who was."""
        worker = children_of(self._trainer.pid)
        if whom == "training" and not worker:
            whom = "service"
        self._done[whom] += 1
        if whom == "both":
            self._trainer.kill()
        else:
            os.kill(worker[0] if whom == "training" else self._trainer.pid, signal.SIGKILL)
        if whom != "training":
            self._expect_gone(worker)
            self._trainer.restart()
        return whom

    def _expect_gone(self, worker: list[int]) -> None:
        end = time.monotonic() + LEFT_S
        while any(lives(pid) for pid in worker):
            if time.monotonic() > end:
                self._violations.append(f"process {worker} trains on without its service")
                return
            time.sleep(0.05)

    # What is found

    def outcome(self) -> Outcome:
        expected = sorted(self._ids_sent())
        self._wait(lambda: self._store.extent().rows >= len(expected) and self._is_quiet())
        found = sorted(pa.table(DeltaTable(self._store.place).scan(["event_id"]))["event_id"].to_pylist())
        if found != expected:
            different = f"{len(set(found))} of them different; expected {len(expected)}"
            self._violations.append(f"{len(found)} rows in the table, {different}")
        registered = self._registered()
        versions = [card.version for card in self._cards.all()]
        self._judge(versions, registered)
        return Outcome(dict(self._done), len(found), versions, registered, self._violations)

    def _judge(self, versions: list[int], registered: list[int]) -> None:
        self._violations += [f"{BATCH}@{v} was registered {n} times" for v, n in Counter(registered).items() if n > 1]
        if set(registered) != set(versions) or not versions:
            self._violations.append(f"versions {versions} have a card, {registered} are registered")
        for version in set(registered):
            try:
                self._artifacts.read(BATCH, version)
            except Stop as error:
                self._violations.append(str(error))

    def _is_quiet(self) -> bool:
        """Tell whether nothing is due any more, and all that was trained is registered."""
        cards = self._cards.all()
        last = max((card.newest for card in cards), default=None)
        if is_due(self._stream.pipeline.batch, *self._store.extent(), last):
            return False
        return {card.version for card in cards} <= set(self._registered())

    def _wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not self._holds(condition):
            if time.monotonic() > end:
                self._violations.append(f"not done {PATIENCE_S:.0f} s after the last kill: {self._trainer.tail()}")
                return
            time.sleep(0.3)

    def _holds(self, condition: Callable[[], bool]) -> bool:
        try:
            self._store.position(0)  # the table as it is now
            return condition()
        except (Retry, Stop):  # it is being made
            return False

    def _registered(self) -> list[int]:
        records = (record for batch in read_all(self._settings, self._stream.topic("models")) for record in batch)
        return [event.version for event in map(_event, records) if isinstance(event, Registered)]

    def _ids_sent(self) -> list[str]:
        frame = examples_frame(self._stream)
        records = (Record(out.topic, 0, 0, None, out.value, headers=out.headers) for out in self._sent)
        return [name for record in records for name in frame.decode(record)["event_id"].to_pylist()]


def _event(record: Record) -> object:
    return decode_event(record.value)


def children_of(pid: int) -> list[int]:
    """Return the processes that this one has started and that have not ended."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in found if lives(int(child))]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
