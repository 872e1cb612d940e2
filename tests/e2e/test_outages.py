"""A part of a running platform freezes under load: the rest goes on or waits and says so, in memory that stays flat."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka import Producer

from infra import cli
from infra.local.ledger import Ledger
from infra.local.processes import Child
from infra.local.replayer import Replayer, records
from infra.local.stack import REPOSITORY, Options, Stack, read_running
from infra.local.status import State, read_status
from services.runtime.history import read_all
from services.runtime.models import Published, decode_event
from services.runtime.stream import load_stream

SCHEMAS = REPOSITORY / "schemas"
STREAM = load_stream(SCHEMAS, "flights")
PAGE = os.sysconf("SC_PAGE_SIZE")
MEGABYTE = 1 << 20


class Run:
    """A platform under load, with a ledger of all that is sent."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.ledger = Ledger(stack.settings, STREAM)
        self._flights = records(SCHEMAS, "flights", None)
        self.replayer = Replayer(STREAM, stack.ingestion, iter(()), float("inf"), stack.check)

    def play(self, number: int) -> None:
        """Send the next so many events and labels."""
        self.replayer._timed = islice(self._flights, number)
        for due in self.replayer._slices():
            self.replayer._send(due)

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{self.ledger.counts(self.replayer.sent)} {self.states()}"
            self.stack.check()
            self.ledger.check()
            time.sleep(0.1)

    def complete(self) -> bool:
        return self.ledger.complete(self.replayer.sent)

    def counts(self) -> tuple[int, int, int]:
        """Return how many events are missing, how many were predicted twice, and how many labels have no example."""
        counts = self.ledger.counts(self.replayer.sent)
        return counts["missing"], counts["duplicates"], counts["labels_sent"] - counts["examples"]

    def child(self, name: str) -> Child:
        return self.stack.children[name]

    def memory(self, name: str) -> int:
        """Return the bytes that a process holds in memory."""
        return int(Path(f"/proc/{self.child(name).pid}/statm").read_text().split()[1]) * PAGE

    def states(self) -> dict[str, State]:
        running = read_running(self.stack.options.run_dir, STREAM.name)
        assert running is not None
        return read_status(STREAM.name, running)

    def ready(self) -> set[str]:
        return {name for name, state in self.states().items() if state.ready}

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        self.child(name).pause()
        try:
            yield
        finally:
            self.child(name).resume()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THALWEG_INFERENCE_TIMEOUT_S", "1")
        options = Options("flights", run_dir=tmp_path_factory.mktemp("run"))
        with Stack(options, STREAM, SCHEMAS) as stack:
            run = Run(stack)
            yield run
            run.ledger.close()
            run.replayer._client.close()


def test_a_frozen_triton_delays_predictions_and_loses_none(run: Run) -> None:
    """What comes meanwhile waits on the log, not in memory; inference says why, and all is predicted exactly once."""
    run.play(12_000)
    run.wait(run.complete)
    seen = len(run.ledger.arrived)
    with run.frozen("triton"):
        for _ in range(6):
            run.play(3_000)
            time.sleep(0.3)
        run.wait(lambda: run.states()["features"].behind == {"events": 0})
        states = run.states()
        assert len(run.ledger.arrived) == seen
    report = states.pop("inference").report
    assert report is not None
    assert (report.status, report.partitions) == ("waiting", (0, 1, 2))
    assert str(report.waiting_for).startswith("Triton at 127.0.0.1:")
    assert all(state.ready for state in states.values())
    run.wait(run.complete)
    assert run.counts() == (0, 0, 0)
    log = run.child("inference").log.read_text()
    assert "no answer within 1 s" in log
    assert "going on after" in log.rpartition("no answer within 1 s")[0].rpartition("\n")[2]


def test_a_frozen_learner_holds_up_nobody(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The others go on; its lag is what `thalweg status` shows; afterwards it has learned from each example once."""
    command = ["status", "--run-dir", str(run.stack.options.run_dir)]
    run.wait(lambda: cli.main(command) == 0)
    with run.frozen("learner"):
        run.play(9_000)
        run.wait(run.complete)
        assert run.ready() == {"ingestion", "features", "inference", "labels", "trainer", "rollout", "drift", "console"}
        capsys.readouterr()
        assert cli.main(command) == 1
        [line] = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("learner")]
        assert line[1] == "silent"
        assert line[line.index("examples") + 1] != "0"
    run.wait(lambda: cli.main(command) == 0)
    run.wait(lambda: published(run) == run.ledger.examples.total())


def test_what_waits_for_triton_is_not_in_memory(run: Run) -> None:
    """While 150 MB pile up before inference it holds a bounded part of them, however many come."""
    topic = STREAM.topic("features")
    largest = max((r for batch in read_all(run.stack.settings, topic) for r in batch), key=lambda r: len(r.value))
    producer = Producer({"bootstrap.servers": run.stack.broker.address, "log_level": 0})
    with run.frozen("triton"):
        before, sent = run.memory("inference"), 0
        while sent < 150 * MEGABYTE:
            producer.produce(topic, largest.value, largest.key, partition=0, headers=largest.headers)
            sent += len(largest.value)
            producer.poll(0.01 if len(producer) > 500 else 0)
        assert producer.flush(60) == 0
        run.wait(lambda: "inference" not in run.ready())
        time.sleep(2)
        assert run.memory("inference") - before < 30 * MEGABYTE


def published(run: Run) -> int:
    """Return how many examples the newest version has learned."""
    found = [record for batch in read_all(run.stack.settings, STREAM.topic("models")) for record in batch]
    events = [decode_event(record.value) for record in found]
    return [event for event in events if isinstance(event, Published)][-1].learned
