"""Both guarantees on Apache Kafka, each at the instant that could break it: killed, paused, refused, unsure."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from infra.local import brokers
from infra.local.brokers import Broker, BrokerUnavailable, TopicSpec
from infra.local.processes import Children
from loadtests.recovery import Rig
from services.runtime.errors import Retry, Stop
from services.runtime.grammar import Guarantee
from services.runtime.history import read_all
from services.runtime.kafka import KafkaSource, partitions_at
from services.runtime.records import Outgoing, Position, Record
from services.runtime.settings import Settings
from services.runtime.sinks import AtLeastOnce, ExactlyOnce, open_sink
from services.runtime.transport import Sink

SESSION_MS = 2500
LONG_MS = 120_000  # what comes sooner came without it
ABC = [b"a", b"b", b"c"]
spawning = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Start a broker, or skip by name where this machine lacks what it needs."""
    home = tmp_path_factory.mktemp("kafka")
    with Children(home / "logs") as children:
        try:
            broker = brokers.start("kafka", children, home)
        except BrokerUnavailable as lacking:
            pytest.skip(f"no Apache Kafka: {lacking}")
        brokers.wait_ready(broker, children)
        yield broker
        children.check()


@pytest.fixture
def settings(broker: Broker, request: pytest.FixtureRequest) -> Settings:
    """Make a stream of the test's own, with three records to copy."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    brokers.create_topics(broker, {f"{name}.in": TopicSpec(), f"{name}.out": TopicSpec()})
    found = Settings(stream=name, broker=broker.address, session_timeout_ms=SESSION_MS)
    sink = open_sink("at_least_once", found, "put", KafkaSource(found, "put"))
    sink.commit([Outgoing(f"{name}.in", value, partition=0) for value in ABC], {})
    return found


class Member:
    """A member of a group, with its sink: copies `<stream>.in` to `<stream>.out`, a step at a time."""

    def __init__(self, settings: Settings, guarantee: Guarantee, instance: str = "1", open_ms: int = LONG_MS) -> None:
        self._stream = settings.stream
        self.source = KafkaSource(settings, "copy")
        self.sink: Sink = open_sink(guarantee, named(settings, instance, open_ms), "copy", self.source)
        self.source.subscribe([f"{settings.stream}.in"], self)

    def assigned(self, positions: Sequence[Position]) -> None:
        self.source.seek(self.source.committed(positions))

    def revoked(self, positions: Sequence[Position]) -> None: ...

    def lost(self, positions: Sequence[Position]) -> None: ...

    def poll(self) -> list[Record]:
        deadline = time.monotonic() + 30
        while not (records := self.source.poll(100, 0.1)):
            assert time.monotonic() < deadline, "nothing to read"
        return records

    def commit(self, records: Sequence[Record]) -> None:
        copies = [Outgoing(f"{self._stream}.out", record.value, partition=0) for record in records]
        self.sink.commit(copies, {record.position: record.offset + 1 for record in records})

    def before_commit(self, act: Callable[[], object]) -> None:
        """Do something once all outputs are durable and nothing else is."""
        if isinstance(self.sink, AtLeastOnce):
            commit = self.source.commit
            self.source.commit = lambda offsets: (act(), commit(offsets))  # type: ignore[assignment]
        elif isinstance(self.sink, ExactlyOnce):
            sink, insist, calls = self.sink, self.sink._insist, iter((False, True))

            def last(action: Callable[[], None]) -> None:
                if next(calls, False):
                    assert sink._writer is not None
                    sink._writer.producer.flush(10)
                    act()
                insist(action)

            sink._insist = last  # type: ignore[method-assign]

    def close(self) -> None:
        self.source.close()
        self.sink.close()


def named(settings: Settings, instance: str, session_timeout_ms: int) -> Settings:
    return Settings(
        stream=settings.stream, broker=settings.broker, instance=instance, session_timeout_ms=session_timeout_ms
    )


def copied(settings: Settings) -> list[bytes]:
    """Return what a reader of committed records finds in the output, up to the first open transaction."""
    return [record.value for batch in read_all(settings, f"{settings.stream}.out") for record in batch]


def committed(member: Member) -> int:
    return member.source.committed([Position(f"{member._stream}.in", 0)])[Position(f"{member._stream}.in", 0)]


def begin(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = spawning.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def wait_stopped(process: BaseProcess) -> None:
    while (state := Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]) != "T":
        assert state != "Z", "it ended instead of pausing"
        time.sleep(0.02)


# A kill between the two steps


def killed(settings: Settings, guarantee: Guarantee) -> None:
    member = Member(settings, guarantee)
    records = member.poll()
    member.before_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    member.commit(records)


@pytest.mark.parametrize(("guarantee", "before", "after"), [("exactly_once", [], ABC), ("at_least_once", ABC, ABC * 2)])
def test_a_kill_between_outputs_and_offsets(
    settings: Settings, guarantee: Guarantee, before: list[bytes], after: list[bytes]
) -> None:
    """exactly_once: nobody sees the outputs; the next process of that name ends what was open, before it times out.

    at_least_once: they are there before the offsets are, so that the next process writes them twice.
    """
    process = begin(killed, settings, guarantee)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert copied(settings) == before
    member = Member(settings, guarantee)
    records = member.poll()
    assert [record.value for record in records] == ABC
    member.commit(records)
    assert copied(settings) == after
    assert committed(member) == len(ABC)
    member.close()


# A pause, while others take over


def paused(settings: Settings, guarantee: Guarantee, where: str) -> None:
    member = Member(settings, guarantee, open_ms=SESSION_MS)
    records = member.poll()
    joined = member.source.membership()
    if where == "fold":
        pause()
        assert member.source.membership() == joined, "a commit carries the membership that its partitions came with"
    else:
        member.before_commit(pause)
    try:
        member.commit(records)
    except Retry:
        member.sink.commit([Outgoing(f"{settings.stream}.out", b"on", partition=0)], {})
        sys.exit(0)
    sys.exit("committed what was another's")


def pause() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1)  # the client's own thread learns that the group has gone on


@pytest.mark.parametrize(
    ("guarantee", "where", "after"),
    [
        ("exactly_once", "fold", [*ABC, b"on"]),
        ("exactly_once", "commit", [*ABC, b"on"]),
        ("at_least_once", "commit", [*ABC, *ABC, b"on"]),
    ],
)
def test_a_pause_while_another_takes_over(
    settings: Settings, guarantee: Guarantee, where: str, after: list[bytes]
) -> None:
    """A process that was paused until its partitions were another's can't commit them any more, and goes on."""
    process = begin(paused, settings, guarantee, where)
    wait_stopped(process)
    other = Member(settings, guarantee, instance="2")
    other.commit(other.poll())
    os.kill(process.pid or 0, signal.SIGCONT)
    process.join(60)
    assert process.exitcode == 0
    assert copied(settings) == after
    assert committed(other) == len(ABC)
    other.close()


# Everything else that ends a transaction


def test_two_processes_with_one_instance_name(settings: Settings) -> None:
    """The second one takes over; the first ends, saying what to change, and nothing of it is seen."""
    first = Member(settings, "exactly_once")
    records = first.poll()
    second = open_sink("exactly_once", named(settings, "1", LONG_MS), "copy", KafkaSource(settings, "copy"))
    with pytest.raises(Stop, match=r"another process runs as instance '1' of copy.*THALWEG_INSTANCE of its own"):
        first.commit(records)
    second.commit([Outgoing(f"{settings.stream}.out", b"second", partition=0)], {})
    assert copied(settings) == [b"second"]
    first.close()


def test_a_commit_whose_answer_is_lost_counts_once(settings: Settings) -> None:
    """It says Retry, and the committed offsets say that there is nothing to do again."""
    member = Member(settings, "exactly_once")
    assert isinstance(member.sink, ExactlyOnce)
    insist, records, calls = member.sink._insist, member.poll(), iter((False, True))

    def unanswered(action: Callable[[], None]) -> None:
        insist(action)
        if next(calls, False):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    member.sink._insist = unanswered  # type: ignore[method-assign]
    with pytest.raises(Retry, match="transaction not committed"):
        member.commit(records)
    assert committed(member) == len(ABC)
    member.sink.commit([Outgoing(f"{settings.stream}.out", b"on", partition=0)], {})
    assert copied(settings) == [*ABC, b"on"]
    member.close()


def test_offsets_whose_commit_never_returns_are_committed_by_another_try(settings: Settings) -> None:
    """At least once: the client may not come back while a broker is frozen; the batch is then written again."""
    member, forever = Member(settings, "at_least_once", open_ms=SESSION_MS), threading.Event()
    records, commit = member.poll(), member.source.commit
    member.source.commit = lambda _: forever.wait() and None  # type: ignore[assignment]
    with pytest.raises(Retry, match=r"offsets not committed: .*did not return within 5 s"):
        member.commit(records)
    member.source.commit = commit  # type: ignore[method-assign]
    member.commit(records)
    assert (committed(member), copied(settings)) == (len(ABC), 2 * ABC)
    forever.set()
    member.close()


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_a_record_that_the_broker_refuses_ends_the_process(settings: Settings, guarantee: Guarantee) -> None:
    """No other try would change it: Stop says what would, and the offsets stay where they are."""
    member = Member(settings, guarantee)
    records = member.poll()
    huge = [Outgoing(f"{settings.stream}.out", bytes(2 << 20), partition=0)]
    with pytest.raises(Stop, match=r"too large.*max\.message\.bytes"):
        member.sink.commit(huge, {record.position: record.offset + 1 for record in records})
    assert committed(member) == 0
    member.close()


# The service itself


def test_whatever_is_done_to_the_processes_every_event_has_one_row(broker: Broker, tmp_path: Path) -> None:
    """Two real instances of features: killed with a transaction open, paused, restarted, stopped, under steady load.

    A paused one goes on by itself: no process ends that was not told to.
    """
    with Children(tmp_path / "logs") as children:
        rig = Rig(broker, tmp_path, children, rate=300, session_s=SESSION_MS / 1000)
        rig.start("1")
        rig.start("2")
        rig.settle()
        rig.kill("2")
        rig.settle()
        rig.pause("1", rig.session_s + 1)
        rig.settle()
        rig.restart("1")
        rig.stop("2")
        rig.settle()
        rig.complete()


def test_what_a_failed_commit_left_open_is_ended_before_anybody_asks_what_was_committed(settings: Settings) -> None:
    """Where no new transactions could begin after it, either: the broker waits for two minutes by itself."""
    member = Member(settings, "exactly_once")
    records = member.poll()
    sink = member.sink
    assert isinstance(sink, ExactlyOnce)
    left = sink._writer
    assert left is not None
    left.producer.begin_transaction()
    where = partitions_at({records[0].position: 3})
    left.producer.send_offsets_to_transaction(where, member.source.membership(), 10)
    sink._writer = None  # as after a commit that failed while the broker was away
    with pytest.raises(Retry):
        member.source.committed([records[0].position])
    sink.settle()
    assert member.source.committed([records[0].position]) == {records[0].position: 0}
    member.commit(records)
    assert member.source.committed([records[0].position]) == {records[0].position: 3}
    member.close()
