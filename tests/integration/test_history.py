"""A log's past, operators' transactions and the replay of dead letters, on real brokers."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.local import brokers
from infra.local.brokers import Broker, BrokerUnavailable, TopicSpec
from infra.local.processes import Children
from services.replay.dead_letters import Choice, Replay, read_letters
from services.runtime.dead_letters import REPLAYED_HEADER, dead_letter
from services.runtime.errors import Reject, Stop
from services.runtime.history import KafkaHistory
from services.runtime.records import Outgoing, Position, Record
from services.runtime.settings import Settings
from services.runtime.stream import load_stream
from services.runtime.transactions import Transactions

ROOT = Path(__file__).parents[2]
STREAM = load_stream(ROOT / "schemas", "flights")
TOPIC = "flights.dead-letter"
# Tansu shows what is open and what was aborted: what rests on transactions is proven where they are kept.
ON_KAFKA = pytest.mark.parametrize("broker", ["kafka"], indirect=True)


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Start a broker, or skip by name where this machine lacks what it needs."""
    run_dir = tmp_path_factory.mktemp(request.param)
    with Children(run_dir / "logs") as children:
        try:
            broker = brokers.start(request.param, children, run_dir)
        except BrokerUnavailable as lacking:
            if "apt-get install" not in str(lacking):
                raise
            pytest.skip(f"no broker {request.param}: {lacking}")
        brokers.wait_ready(broker, children)
        yield broker


class Log:
    """Fresh topics of a broker, for one test."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.broker, self.name = broker, name
        self.settings = Settings(broker=broker.address)
        self.history = KafkaHistory(self.settings)

    def create(self, topic: str, partitions: int = 1) -> Position:
        brokers.create_topics(self.broker, {topic: TopicSpec(partitions)})
        return Position(topic, 0)

    def producer(self, name: str | None = None) -> Producer:
        more: dict[str, str | int | float | bool] = {"transactional.id": name} if name else {}
        producer = Producer({"bootstrap.servers": self.broker.address, "log_level": 0, **more})
        if name:
            producer.init_transactions(30)
        return producer

    def values(self, position: Position) -> list[bytes]:
        return [record.value for batch in self.history.read(position) for record in batch]


@pytest.fixture
def log(broker: Broker, request: pytest.FixtureRequest) -> Iterator[Log]:
    log = Log(broker, request.node.name)
    yield log
    log.history.close()


def test_all_that_is_there_is_read_once_in_order(log: Log) -> None:
    """Every record of a partition comes, in batches of bounded size; an empty one ends at once."""
    position = log.create("all", partitions=3)
    producer = log.producer()
    for n in range(5000):
        producer.produce("all", b"%d" % n, partition=0)
    for _ in range(20):
        producer.produce("all", bytes(100_000), partition=2)
    assert producer.flush(30) == 0
    batches = [*log.history.read(position)]
    assert [record.value for batch in batches for record in batch] == [b"%d" % n for n in range(5000)]
    assert max(map(len, batches)) <= 2100
    assert [*log.history.read(Position("all", 1))] == []
    assert max(sum(len(r.value) for r in batch) for batch in log.history.read(Position("all", 2))) < 7_500_000
    assert sum(map(len, log.history.read_topic("all"))) == 5020
    assert log.history.positions("all") == [Position("all", partition) for partition in range(3)]
    with pytest.raises(Stop, match=r"topic nowhere: .*Was it created\?"):
        log.history.positions("nowhere")


def test_a_part_of_the_past_is_read_alone(log: Log) -> None:
    """From one offset to before another, wherever batches and transactions end; without an end, to the newest."""
    position = log.create("parts")
    for first in range(0, 900, 90):
        producer = log.producer(f"part-{first}")
        producer.begin_transaction()
        for n in range(first, first + 90):
            producer.produce("parts", b"%d" % n, partition=0)
        producer.commit_transaction(30)
    whole = [record for batch in log.history.read(position) for record in batch]
    assert [record.value for record in whole] == [b"%d" % n for n in range(900)]
    first, end = log.history.bounds(position)
    for start, until in ((0, 1), (0, 89), (5, 95), (88, 93), (450, 700), (700, end), (end, end)):
        found = log.history.between(position, start, until)
        assert found == [record for record in whole if start <= record.offset < until], (start, until)
    assert log.history.between(position, 800) == [record for record in whole if record.offset >= 800]
    assert log.history.between(position, first) == whole
    assert log.history.between(position, end) == [record for record in whole if record.offset >= end]


def test_what_a_group_committed_is_known(log: Log) -> None:
    """A group's offsets are read without joining it; 0 where it has none."""
    position = log.create("grouped", partitions=2)
    consumer_of = {"bootstrap.servers": log.broker.address, "group.id": "flights.features", "log_level": 0}
    consumer = Consumer(consumer_of)
    consumer.commit(offsets=[TopicPartition("grouped", 0, 7)], asynchronous=False)
    consumer.close()
    found = log.history.committed("flights.features", [position, Position("grouped", 1)])
    assert found == {position: 7, Position("grouped", 1): 0}


def commit_later(producer: Producer, seconds: float) -> None:
    timer = threading.Timer(seconds, producer.commit_transaction, [30])
    timer.daemon = True  # a test that fails before it does not wait for a broker that is gone
    timer.start()


@ON_KAFKA
def test_an_open_transaction_is_waited_for(log: Log) -> None:
    """What is committed behind an open transaction is read, and so is that one, once it is decided."""
    position = log.create("open")
    slow, quick = log.producer("slow"), log.producer("quick")
    slow.begin_transaction()
    slow.produce("open", b"first", partition=0)
    slow.flush(30)
    quick.begin_transaction()
    quick.produce("open", b"second", partition=0)
    quick.commit_transaction(30)
    commit_later(slow, 1.5)
    assert log.values(position) == [b"first", b"second"]


@ON_KAFKA
def test_an_aborted_transaction_is_passed_over(log: Log) -> None:
    """Nothing of it is read, and its end is an end."""
    position = log.create("aborted")
    producer = log.producer("aborting")
    for value, end in ((b"kept", producer.commit_transaction), (b"dropped", producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce("aborted", value, partition=0)
        producer.flush(30)
        end(30)
    assert log.values(position) == [b"kept"]


@ON_KAFKA
def test_the_later_of_two_commands_wins(log: Log) -> None:
    """Once a second command has the name the first writes nothing more, and is told why."""
    position = log.create("fenced")
    first = Transactions(log.settings, "operator")
    first.write([Outgoing("fenced", b"one", partition=0)])
    second = Transactions(log.settings, "operator")
    with pytest.raises(Stop, match=r"another command has taken over \(operator\)"):
        first.write([Outgoing("fenced", b"two", partition=0)])
    second.write([Outgoing("fenced", b"three", partition=0)])
    assert log.values(position) == [b"one", b"three"]


@ON_KAFKA
def test_a_transaction_that_cannot_be_is_not_half_there(log: Log) -> None:
    """A record that the broker refuses takes the others of its transaction with it."""
    position = log.create("whole")
    writer = Transactions(log.settings, "whole")
    with pytest.raises(Stop, match=r"whole was not committed"):
        writer.write([Outgoing("whole", b"good", partition=0), Outgoing("whole", bytes(4 << 20), partition=0)])
    Transactions(log.settings, "whole").write([Outgoing("whole", b"next", partition=0)])
    assert log.values(position) == [b"next"]


# Dead letters


REPLAYER = """
import os, signal, sys
from pathlib import Path
from services.replay.dead_letters import Choice, Replay, read_letters
from services.replay import dead_letters
from services.runtime.history import KafkaHistory
from services.runtime.kafka import send
from services.runtime.settings import Settings
from services.runtime.stream import load_stream
from services.runtime.transactions import Transactions

dead_letters.LETTERS = 10
settings, stream = Settings(broker=sys.argv[1]), load_stream(Path("schemas"), "flights")
left = int(sys.argv[2])

class Dying(Transactions):
    def write(self, outgoing):
        global left
        left -= 1
        if left < 0:
            self._producer.begin_transaction()
            for out in outgoing:
                send(self._producer, out)
            self._producer.flush(10)  # everything has arrived, nothing is committed
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(outgoing)

writer = Dying(settings, stream.topic("dead-letter"))
for letter in Replay(stream, fix_keys=False).run(read_letters(KafkaHistory(settings), stream, Choice()), writer.write):
    print(letter.place, flush=True)
"""


@ON_KAFKA
def test_a_replay_that_is_killed_between_is_finished_by_the_next(log: Log) -> None:
    """Killed at any transaction, with all of it at the broker: each letter is sent once in the end, with one mark."""
    for kind in ("events", "labels", "dead-letter"):
        log.create(f"flights.{kind}")
    letters = [
        dead_letter(TOPIC, "features", Record("flights.events", 0, 1000 + n, b"k", b"%d" % n), Reject("json", "why"))
        for n in range(45)
    ]
    Transactions(log.settings, "features").write(letters)
    for survives, sent in ((0, 0), (2, 20), (99, 25)):
        command = [sys.executable, "-c", REPLAYER, log.broker.address, str(survives)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == (-signal.SIGKILL if survives < 99 else 0), done.stderr
        assert len(done.stdout.splitlines()) == sent
    records = [record for batch in log.history.read_topic("flights.events") for record in batch]
    assert [record.value for record in records] == [b"%d" % n for n in range(45)]
    headers = [dict(record.headers or [])[REPLAYED_HEADER] for record in records]
    assert headers == [f"flights.events/0/{1000 + n}".encode() for n in range(45)]
    marks = [listed.replayed for listed in read_letters(log.history, STREAM, Choice())]
    assert marks == [True] * 45
    assert len(log.values(Position(TOPIC, 0))) == 90


@ON_KAFKA
def test_a_mark_behind_an_open_transaction_counts(log: Log) -> None:
    """A service that holds a transaction open on the topic hides no mark from the next replay."""
    for kind in ("events", "labels", "dead-letter"):
        log.create(f"flights.{kind}")
    letter = dead_letter(TOPIC, "features", Record("flights.events", 0, 5000, b"k", b"v"), Reject("clock", "why"))
    Transactions(log.settings, "features").write([letter])
    service = log.producer("a-service")
    service.begin_transaction()
    service.produce(TOPIC, letter.value.replace(b"5000", b"6000"), b"flights.events/0/6000", 0)
    service.flush(30)
    choice = Choice(reason="clock")

    def replay() -> list[str]:
        writer = Transactions(log.settings, TOPIC)
        listed = read_letters(log.history, STREAM, choice)
        return [sent.place for sent in Replay(STREAM, fix_keys=False).run(listed, writer.write)]

    commit_later(service, 2)
    began = time.monotonic()
    assert replay() == ["flights.events/0/5000", "flights.events/0/6000"]
    assert time.monotonic() - began > 1
    assert replay() == []


def test_the_marks_are_seen_before_the_next_replay(log: Log) -> None:
    """On either broker: what was sent is not sent again, by whomever."""
    for kind in ("events", "labels", "dead-letter"):
        log.create(f"flights.{kind}")
    letter = dead_letter(TOPIC, "labels", Record("flights.labels", 0, 7000, None, b"v"), Reject("schema", "why"))
    Transactions(log.settings, "labels").write([letter])
    sent = []
    for _ in range(2):
        writer = Transactions(log.settings, TOPIC)
        listed = read_letters(log.history, STREAM, Choice(reason="schema"))
        sent += [found.place for found in Replay(STREAM, fix_keys=False).run(listed, writer.write)]
    assert sent == ["flights.labels/0/7000"]
    assert log.values(Position("flights.labels", 0)) == [b"v"]
