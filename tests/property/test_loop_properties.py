"""The loop's one law: whatever happens on the way, what goes out is what an undisturbed fold gives."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.runtime.loop import Loop
from services.runtime.memory import Inline, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Outgoing, Position
from services.runtime.snapshots import Snapshots
from services.runtime.stage import Cores
from tests.loops import Chain, Pairs, Ticking

PARTITIONS = 2
Op = tuple[Any, ...]


class World:
    """A log, a data folder, and the process of the moment."""

    def __init__(self, data: Path, build: Callable[[int], Any], topics: Sequence[str]) -> None:
        self.data, self.build, self.topics = data, build, topics
        self.log = MemoryLog(PARTITIONS)
        self.clock = Ticking(None)
        self.start(2, 1000)

    def start(self, batch: int, snapshot_every_s: float) -> None:
        parts = (
            Cores(self.build),
            MemorySource(self.log),
            MemorySink(self.log),
            Snapshots(self.data, "s", "x", "rule"),
        )
        self.loop = Loop(
            self.topics, *parts, batch=batch, snapshot_every_s=snapshot_every_s, clock=self.clock, writer=Inline()
        )

    def append(self, *numbers: int) -> None:
        """Append that many records to each partition of each input."""
        for position, number in zip(self.positions(*range(PARTITIONS)), numbers, strict=False):
            for _ in range(number):
                value = b"%d" % len(self.log.topics[position])
                self.log.append(Outgoing(position.topic, value, partition=position.partition))

    def do(self, name: str, *args: Any) -> None:
        match name:
            case "append":
                self.append(*args)
            case "run":
                self.loop.run(timeout=args[0])
            case "fail":
                self.log.fail_next += 1
            case "crash":
                self.start(*args)
            case "close":
                self.loop.close()
                self.start(*args)
            case "revoke":
                self.loop.revoked(self.positions(args[0]))
            case "lose":
                self.loop.lost(self.positions(args[0]))

    def positions(self, *partitions: int) -> list[Position]:
        return [Position(topic, partition) for partition in partitions for topic in self.topics]

    def left(self) -> int:
        positions = self.positions(*range(PARTITIONS))
        return sum(len(self.log.topics[p]) - self.log.committed.get(p, 0) for p in positions)

    def finish(self, *, fresh: bool) -> None:
        """Let the process at hand, or a fresh one, commit all that is left, and one record more on every partition."""
        self.append(1, 1, 1, 1)
        if fresh:
            self.start(3, 1000)
        self.loop.run(count=self.loop.folded + self.left(), timeout=60)
        assert self.left() == 0

    def read(self, topic: str, partition: int) -> list[bytes]:
        return [record.value for record in self.log.topics[Position(topic, partition)]]


STARTS = (st.sampled_from([1, 2, 3, 50]), st.sampled_from([1000.0, 0.05, 0.0]))
APPENDS = st.tuples(st.just("append"), *[st.integers(0, 6)] * 4)
RUNS = st.tuples(st.just("run"), st.sampled_from([0.03, 0.1, 0.3]))
FAILURES = st.just(("fail",))
RESTARTS = st.tuples(st.sampled_from(["crash", "close"]), *STARTS)
REBALANCES = st.tuples(st.sampled_from(["revoke", "lose"]), st.integers(0, PARTITIONS - 1))
OPS = st.lists(st.one_of(APPENDS, APPENDS, RUNS, RUNS, FAILURES, RESTARTS, REBALANCES), max_size=25)


@settings(deadline=None, max_examples=100)
@given(OPS, st.sampled_from(["running", "fresh"]))
@example([("append", 5, 0), ("run", 0.1), ("append", 5, 0), ("fail",), ("run", 0.1), ("crash", 1, 0.0)], "running")
@example(
    [
        ("crash", 50, 1000.0),
        ("append", 2, 0),
        ("run", 0.1),
        ("append", 2, 0),
        ("fail",),
        ("run", 0.05),
        ("close", 2, 1.0),
    ],
    "fresh",
)
def test_one_input(ops: list[Op], last: str) -> None:
    """Appends, runs of any batch size, failed commits, crashes, closes and rebalances: the outputs are the fold's."""
    with TemporaryDirectory() as data:
        world = World(Path(data), Chain, ["in"])
        for op in ops:
            world.do(*op)
        world.finish(fresh=last == "fresh")
        for partition in range(PARTITIONS):
            undisturbed = Chain(partition).fold(world.log.topics[Position("in", partition)])
            assert world.read("out", partition) == [out.value for out in undisturbed]


@settings(deadline=None, max_examples=100)
@given(OPS, st.sampled_from(["running", "fresh"]))
@example([("append", 1, 3), ("run", 0.3), ("crash", 1, 1000.0), ("run", 0.03), ("fail",)], "running")
def test_two_inputs(ops: list[Op], last: str) -> None:
    """The same holds where two inputs belong together: each pair comes out once, and no core sees a record twice."""
    with TemporaryDirectory() as data:
        world = World(Path(data), Pairs, ["left", "right"])
        for op in ops:
            world.do(*op)
        world.finish(fresh=last == "fresh")
        for partition in range(PARTITIONS):
            both = set(world.read("left", partition)) & set(world.read("right", partition))
            assert sorted(world.read("out", partition)) == sorted(both)
