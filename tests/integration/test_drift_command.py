"""`thalweg drift` on a real broker: what it shows is what was written, and what it writes is what drift reads."""

import getpass
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from confluent_kafka import Producer

from infra import cli
from infra.local import brokers
from infra.local.brokers import TopicSpec
from infra.local.processes import Children
from services.runtime.alerts import Alert
from services.runtime.commands import Hold, Orders, Silence, decode_command
from services.runtime.history import read_all
from services.runtime.settings import Settings
from tests.drifted import FEATURES, LOSS, MISSING, ROOT, STREAM, Log, has_label

ME = f"{getpass.getuser()}@{socket.gethostname()}"
KINDS = ("scored", "examples", "models", "alerts", "commands")
Ask = Callable[..., tuple[int, str]]


class Broker:
    """A broker, with the topics of electricity, and the command on it."""

    def __init__(self, address: str, folder: Path) -> None:
        self.folder, self.settings = folder, Settings(stream="electricity", broker=address)
        self.options = ["--stream", "electricity", "--schemas", str(ROOT / "schemas"), "--broker", address]
        self.options += ["--run-dir", str(folder / "run")]
        self._producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "log_level": 0})

    def write(self, log: Log, *kinds: str) -> None:
        for kind in kinds:
            for record in log.log.read(STREAM.topic(kind)):
                self._producer.produce(
                    record.topic, record.value, partition=0, headers=record.headers, timestamp=record.timestamp
                )
        assert self._producer.flush(10) == 0

    def commands(self) -> list[Silence | Hold]:
        topic = STREAM.topic("commands")
        return [decode_command(record.value) for batch in read_all(self.settings, topic) for record in batch]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Children(tmp_path / "logs") as children:
        embedded = brokers.embedded(children, brokers.free_ports(1)[0])
        brokers.wait_ready(embedded, children)
        brokers.create_topics(embedded, {STREAM.topic(kind): TopicSpec() for kind in KINDS})
        yield Broker(embedded.address, tmp_path)
        children["tansu"].stop(grace=0.1)


@pytest.fixture
def ask(broker: Broker, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return the command: its exit status, and what it said."""

    def ask(*arguments: str) -> tuple[int, str]:
        status = cli.main(["drift", *arguments, *broker.options])
        said = capsys.readouterr()
        return status, said.out + said.err

    return ask


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(20_480)


def test_the_page_is_of_what_the_log_holds(broker: Broker, ask: Ask, log: Log) -> None:
    """First that nothing drifted, then all alerts and versions; of a span, what was in it. No half a file is left."""
    out = broker.folder / "page.html"
    broker.write(log, "scored", "examples")
    labelled = np.count_nonzero(has_label(np.arange(20_480)))
    status, said = ask("report", "--out", str(out))
    assert (status, said.splitlines()[1]) == (0, str(out))
    assert said.startswith(
        f"Nothing drifted. No alert was raised over 20,480 events, {labelled:,} labelled; the served"
    )
    broker.write(log, "models", "alerts")
    status, said = ask("report", "--out", str(out))
    assert status == 0
    assert said.startswith("1 critical alert standing. Since 1997-05-05 00:00Z features changed: vic_price, vic_demand")
    whole = out.read_text()
    assert all(name in whole for name in (FEATURES, LOSS, MISSING, "batch@1", "20,480"))
    assert "batch@2 champion at 1997-06-" in whole, "by the broker's clock, and how far events had come then"
    assert ask("report", "--to", "1996-12-01T00:00:00Z", "--out", str(out))[0] == 0
    early = out.read_text()
    assert MISSING in early
    assert FEATURES not in early
    assert ">9,984<" in early, "208 days"
    assert [path.name for path in broker.folder.glob("page*")] == ["page.html"]
    assert "can't be written" in ask("report", "--out", str(broker.folder / "nowhere" / "page.html"))[1]


def test_alerts_on_a_terminal(broker: Broker, ask: Ask, log: Log) -> None:
    """Those that stand, or all, the gravest first; one whole, its features ranked; the same for a program."""
    assert ask("list") == (0, "no alert was ever raised\n")
    broker.write(log, "alerts")
    listed = ask("list")[1].splitlines()
    assert len(listed) == 1
    assert listed[0].startswith(f"critical  {FEATURES}  since 1997-05-05 00:00Z, stands: features changed: vic_price")
    assert [line.split()[1] for line in ask("list", "--all")[1].splitlines()] == [FEATURES, LOSS, MISSING]
    lines = ask("show", "features")[1].splitlines()
    features = [line.split(",")[0] for line in lines if line[:1].isdigit()]
    assert features == ["1. vic_price", "2. vic_demand", "3. transfer"]
    before = next(line for line in lines if "before ▕" in line)
    assert before.count("█") == 1
    assert set(before.partition("▕")[2]) <= set(" █▏"), "it was constant"
    assert "lost     +0.1900 nats an event" in ask("show", LOSS)[1]
    told = msgspec.json.decode(ask("list", "--all", "--json")[1], type=list[Alert])
    assert [alert.number for alert in told] == [1, 2, 1]
    assert "no alert nothing; thalweg drift list --all names them" in ask("show", "nothing")[1]
    status, said = ask("show", "")
    assert (status, "3 alerts begin so" in said) == (1, True)


def test_people_steer(broker: Broker, ask: Ask, log: Log) -> None:
    """Each command is a record with who, why and until when; it is shown as long as it holds."""
    broker.write(log, "alerts")
    before = time.time_ns() // 1000
    assert ask("silence", "nsw_*", "--for", "2h", "--reason", "meters are changed")[0] == 0
    assert ask("silence", "missing", "--for", "1d", "--reason", "known")[0] == 0
    status, said = ask("hold", "--reason", "release week")
    assert (status, said) == (0, "held: nothing is trained or rolled out by itself\n")
    subject, kind, hold = broker.commands()
    assert isinstance(subject, Silence)
    assert (subject.subject, subject.kind, subject.actor, subject.reason) == ("nsw_*", "", ME, "meters are changed")
    assert 0 <= subject.until - before - 7_200_000_000 < 60_000_000
    assert isinstance(kind, Silence)
    assert (kind.subject, kind.kind) == ("*", "missing")
    assert hold == Hold(held=True, actor=ME, reason="release week")
    said = ask("list")[1]
    assert f"nsw_*, by {ME}: meters are changed" in said
    assert f"*  (missing), by {ME}".replace("  ", " ") in said
    assert f"on hold, by {ME}: release week" in said
    assert ask("release", "--reason", "over")[0] == 0
    assert ask("silence", "missing", "--for", "0s", "--reason", "mended") == (0, "missing is no longer silent\n")
    orders = Orders()
    for command in broker.commands():
        orders.fold(command)
    assert (orders.held, [one.subject for one in orders.silences(time.time_ns() // 1000)]) == (False, ["nsw_*"])
    assert "on hold" not in ask("list")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["silence", "x", "--for", "2 hours", "--reason", "y"], "expected a time such as 90m, 2h or 3d"),
        (["silence", "x", "--reason", "y"], "required: --for"),
        (["hold"], "required: --reason"),
        (["release", "--reason", " "], "expected some words"),
        (["report", "--from", "noon"], "expected a time such as"),
    ],
)
def test_what_is_no_command(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong word is refused before anything is read."""
    with pytest.raises(SystemExit):
        cli.main(["drift", *arguments])
    assert said in " ".join(capsys.readouterr().err.split())
