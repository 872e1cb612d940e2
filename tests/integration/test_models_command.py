"""`thalweg models` on a real broker: what it shows is what was written, and what it writes is what rollout reads."""

import datetime as dt
import getpass
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from infra import cli
from infra.local import brokers
from infra.local.brokers import TopicSpec
from infra.local.processes import Children
from services.runtime.artifacts import Artifacts
from services.runtime.history import read_all
from services.runtime.models import BATCH, Moved, Published, Registered, Weighed, decode_event
from services.runtime.records import Record
from services.runtime.settings import Settings
from services.runtime.signing import make_keys
from services.runtime.stream import load_stream
from tests.duels import NEW, Model, World, registered, write_folder

ME = f"{getpass.getuser()}@{socket.gethostname()}"
Ask = Callable[..., tuple[int, str]]


class Log:
    """A broker with the topics of a stream, and the command on it."""

    def __init__(self, address: str, folder: Path) -> None:
        schemas = write_folder(folder)
        self.stream = load_stream(schemas, "made")
        self.data = folder / "run" / "made" / "data"
        self.options = ["--stream", "made", "--schemas", str(schemas), "--broker", address]
        self.options += ["--run-dir", str(folder / "run")]
        self.settings = Settings(stream="made", broker=address, data=self.data)
        self._producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "log_level": 0})

    def say(self, *events: Any) -> None:
        for event in events:
            self._producer.produce(self.stream.topic("models"), msgspec.json.encode(event), partition=0)
        assert self._producer.flush(10) == 0

    def send(self, records: Sequence[Record]) -> None:
        for record in records:
            self._producer.produce(self.stream.topic("examples"), record.value, partition=0, headers=record.headers)
        assert self._producer.flush(10) == 0

    def moves(self) -> list[tuple[bytes | None, Moved]]:
        found = [r for batch in read_all(self.settings, self.stream.topic("models")) for r in batch]
        events = [(record.key, decode_event(record.value)) for record in found]
        return [(key, event) for key, event in events if isinstance(event, Moved)]

    def registered(self, version: int) -> Registered:
        return registered(version, self.stream.feature_set)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with Children(tmp_path / "logs") as children:
        broker = brokers.embedded(children, brokers.free_ports(1)[0])
        brokers.wait_ready(broker, children)
        (tmp_path / "log").mkdir()
        made = Log(broker.address, tmp_path / "log")
        topics = [made.stream.topic(kind) for kind in ("models", "examples")]
        brokers.create_topics(broker, dict.fromkeys(topics, TopicSpec()))
        make_keys(made.data / "keys")
        yield made
        children["tansu"].stop(grace=0.1)


@pytest.fixture
def ask(log: Log, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return the command: its exit status, and what it said."""

    def ask(*arguments: str) -> tuple[int, str]:
        status = cli.main(["models", *arguments, *log.options])
        said = capsys.readouterr()
        return status, said.out + said.err

    return ask


def test_a_person_promotes_and_rolls_back(log: Log, ask: Ask) -> None:
    """Each is a record with who and why, under a key of its own; nonsense is refused, and nothing is written then."""
    nothing = "no version of the batch model is registered for this feature set\nonline model: none published yet\n"
    assert ask("list") == (0, nothing)
    log.say(log.registered(1), log.registered(2), Published("online", 7, log.stream.feature_set, 7, 0.3))
    artifacts = Artifacts(log.data, "made")
    artifacts.write(BATCH, 1, b"a graph")
    assert "no version batch@9 is registered" in ask("promote", "batch@9", "--reason", "x")[1]
    assert "there are: batch@1, batch@2" in ask("promote", "9", "--reason", "x")[1]
    status, said = ask("promote", "batch@2", "--reason", "x")
    assert (status, "no such version in" in said, "promote it where the run's data is" in said) == (1, True, True)
    assert "there is no champion to roll back" in ask("rollback", "--reason", "x")[1]
    assert log.moves() == []
    artifacts.write(BATCH, 2, b"another")
    status, said = ask("promote", "batch@1", "--reason", "trying it")
    assert status == 0
    assert said.startswith("batch@1: champion\ninference serves batch@1 beside the online model from its next batch on")
    assert "batch@1 is the champion already" in ask("promote", "1", "--reason", "again")[1]
    assert ask("promote", "2", "--reason", "newer")[0] == 0
    status, said = ask("rollback", "--reason", "late in the morning")
    assert said.startswith("batch@2: retired\nbatch@1: champion\ninference serves batch@1")
    assert ask("promote", "2", "--reason", "was not it")[0] == 0
    assert ask("rollback", "--reason", "it was", "--json")[0] == 0
    assert "inference serves the online model alone" in ask("rollback", "--reason", "all of them")[1]
    moves = log.moves()
    assert {moved.actor for _, moved in moves} == {ME}
    assert [(moved.version, moved.state) for _, moved in moves[2:4]] == [(2, "retired"), (1, "champion")]
    assert moves[2][1].reason == "late in the morning"
    assert len({key for key, _ in moves}) == len(moves)


def test_what_it_shows(log: Log, ask: Ask) -> None:
    """States, weights and shares; every decision; and the same for a program."""
    log.say(log.registered(1), log.registered(2), registered(3, "made:other"))
    log.say(Moved(BATCH, 1, "champion", "ann@desk", "first"), Published("online", 7, log.stream.feature_set, 7, 0.3))
    log.say(Moved(BATCH, 2, "canary", "rollout", "so far so good", 0.1, {"mean": 0.0125}), Weighed(BATCH, {1: 0.75}))
    listed = [line.split() for line in ask("list")[1].splitlines()]
    assert [line[:6] for line in listed[1:3]] == [
        ["batch@2", "canary", "10%", "0.500", "0.3000", "0.5000"],
        ["batch@1", "champion", "90%", "0.750", "0.3000", "0.5000"],
    ]
    assert listed[3] == ["online", "model:", "online@7"]
    told = msgspec.json.decode(ask("list", "--json")[1])
    assert [(one["version"], one["state"], one["weight"]) for one in told["versions"]] == [
        ("batch@2", "canary", 0.5),
        ("batch@1", "champion", 0.75),
    ]
    history = ask("history", "batch@2")[1].splitlines()
    assert "batch@2  registered, by a test: trained on 1,000 examples" in history[0]
    assert "batch@2  registered → canary for 10% of the keys, by rollout: so far so good" in history[1]
    assert history[2:] == ["    evidence: mean 0.0125"]
    whole = msgspec.json.decode(ask("history", "--json")[1])
    assert [(step["version"], step["from"], step["to"]) for step in whole] == [
        ("batch@1", None, "registered"),
        ("batch@2", None, "registered"),
        ("batch@1", "registered", "champion"),
        ("batch@2", "registered", "canary"),
    ]


def test_who_answered_at_a_time(log: Log, ask: Ask) -> None:
    """By the broker's clock, in this machine's zone unless another is named."""
    log.say(log.registered(1), Published("online", 7, log.stream.feature_set, 7, 0.3))
    time.sleep(1.1)
    before = dt.datetime.now(dt.UTC).astimezone()
    time.sleep(1.1)
    log.say(Moved(BATCH, 1, "champion", "ann@desk", "first"), Published("online", 8, log.stream.feature_set, 8, 0.3))
    log.say(Weighed(BATCH, {1: 0.75}))
    time.sleep(0.1)
    after = dt.datetime.now(dt.UTC).astimezone()
    assert "no model was published yet: nothing was served" in ask("at", "2013-01-05T14:03")[1]
    said = ask("at", before.isoformat())[1]
    assert "online@7, published " in said
    assert "no version of the batch model was asked" in said
    lines = ask("at", after.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"))[1].splitlines()
    assert lines[1].startswith("online@8, published ")
    served = "batch@1, champion, for 100% of the keys, weight 0.750 beside 0.250 of the online model; since "
    assert lines[2].startswith(served)
    assert lines[2].endswith("by ann@desk: first")
    naive = after.replace(tzinfo=None).isoformat()
    assert ask("at", naive)[1].splitlines()[1:] == lines[1:], "a time without a zone is this machine's"
    assert msgspec.json.decode(ask("at", naive, "--json")[1])["online"] == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["promote", "batch@x", "--reason", "y"], "expected a version of the batch model such as batch@7"),
        (["promote", "7"], "required: --reason"),
        (["rollback", "--reason", " "], "expected some words"),
        (["at", "noon"], "expected a time such as 2026-11-24T14:03"),
    ],
)
def test_what_is_no_command(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong word is refused before anything is read."""
    with pytest.raises(SystemExit):
        cli.main(["models", *arguments])
    assert said in " ".join(capsys.readouterr().err.split())


def test_two_models_side_by_side(log: Log, ask: Ask) -> None:
    """Losses of both, of the online model and of what was served, on the rows that both answered; and by slice."""
    world = World({1: Model(0.1)}, online=Model(NEW), given=log.stream)
    world.say(log.registered(1))
    world.run(3000)
    log.send(world.sent)
    lines = [line.split() for line in ask("compare", "batch@1", "online")[1].splitlines()]
    assert lines[0][:4] == ["examples", "batch@1", "online", "online"]
    assert lines[1][0] == "all"
    assert 2500 < int(lines[1][1]) < 3000
    assert float(lines[1][2]) < float(lines[1][3])
    told = msgspec.json.decode(ask("compare", "1", "online", "--json")[1])
    assert told["evidence"]["mean"] == pytest.approx(told["whole"]["second"] - told["whole"]["first"])
    assert "a model is as good as itself" in ask("compare", "1", "batch@1")[1]
    assert "no labelled row was answered by both batch@8 and online" in ask("compare", "8", "online")[1]
