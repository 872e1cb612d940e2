"""The loop over sinks that break between their two steps: which guarantee costs what."""

from collections.abc import Sequence
from pathlib import Path

from services.runtime.errors import Retry
from services.runtime.loop import Loop
from services.runtime.memory import ManualClock, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Outgoing, Position, Record
from services.runtime.signing import make_keys
from services.runtime.snapshots import Snapshots
from services.runtime.stage import Cores
from services.runtime.transport import Offsets

NUMBERS = list(range(1, 21))
TOTALS = [sum(NUMBERS[: n + 1]) for n in range(len(NUMBERS))]


class Sum:
    """Adds up, and says the total after each number."""

    def __init__(self) -> None:
        self.total = 0

    def fold(self, records: Sequence[Record]) -> list[Outgoing]:
        return [Outgoing("out", b"%d" % self._add(int(record.value)), partition=0) for record in records]

    def _add(self, number: int) -> int:
        self.total += number
        return self.total

    def snapshot(self) -> bytes:
        return b"%d" % self.total

    def restore(self, state: bytes) -> None:
        self.total = int(state)


class Ticking(ManualClock):
    """Time that moves on whenever somebody looks."""

    def now(self) -> float:
        self.time += 0.01
        return self.time


class Unanswered(MemorySink):
    """Commits every second batch without ever saying so, as when the broker's answer is lost."""

    commits = 0

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        super().commit(outgoing, offsets)
        self.commits += 1
        if self.commits % 2:
            raise Retry("no answer")


class LeftOpen(MemorySink):
    """Every second commit fails with its transaction open: as long as it is, nobody is told what was committed."""

    commits = 0

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        self.commits += 1
        if self.commits % 2:
            assert self._source is not None
            self._source.committed = self._wait  # type: ignore[method-assign]
            raise Retry("the broker is away")
        super().commit(outgoing, offsets)

    def settle(self) -> None:
        if self._source is not None:
            self._source.__dict__.pop("committed", None)

    def _wait(self, positions: Sequence[Position]) -> Offsets:
        raise Retry(f"a transaction is open that may move {positions}")


class OutputsFirst(MemorySink):
    """Writes outputs, then fails every second time before the offsets, as `at_least_once` may."""

    commits = 0

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        super().commit(outgoing, {})
        self.commits += 1
        if self.commits % 2:
            raise Retry("a rebalance")
        super().commit([], offsets)


def totals(sink: type[MemorySink], data: Path) -> list[int]:
    """Sum the numbers through a sink, in batches of three; return what was written."""
    log = MemoryLog()
    for number in NUMBERS:
        log.append(Outgoing("in", b"%d" % number, partition=0))
    make_keys(data / "keys")
    source = MemorySource(log)
    parts = (Cores(lambda _: Sum()), source, sink(log, source), Snapshots(data, "stream", "service", "rule"))
    Loop(["in"], *parts, batch=3, clock=Ticking()).run(timeout=5)
    assert log.committed == {Position("in", 0): len(NUMBERS)}
    return [int(record.value) for record in log.read("out")]


def test_a_commit_whose_answer_is_lost_counts_once(tmp_path: Path) -> None:
    """The committed offsets say that it was made: nothing is written again, and the state goes on from there."""
    assert totals(Unanswered, tmp_path) == TOTALS


def test_outputs_first_doubles_and_never_loses(tmp_path: Path) -> None:
    """What is written again is the same as before, since the state goes back to the committed offsets."""
    written = totals(OutputsFirst, tmp_path)
    assert list(dict.fromkeys(written)) == TOTALS
    assert len(written) > len(TOTALS)


def test_what_a_commit_left_open_holds_up_nothing(tmp_path: Path) -> None:
    """It is ended before the loop asks what was committed, which it would wait for without an end."""
    assert totals(LeftOpen, tmp_path) == TOTALS
