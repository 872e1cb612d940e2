"""The offline store under any history of faults: its rows are the log's first examples, each once, in every version.

Trainers come and go on one log and one table. A batch may fail, or its process die, before and after the table's commit
and the offsets'; snapshots vanish, so that the whole log comes again; a process that was thought dead appends what it
had read; others compact and vacuum. Every version that was ever pinned is read again and again.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.runtime.errors import Retry
from services.runtime.loop import Loop
from services.runtime.memory import Inline, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Outgoing, Position, Record
from services.runtime.snapshots import Snapshots
from services.runtime.transport import Offsets
from services.trainer.store import ExampleStore
from services.trainer.storing import Storing
from tests.lessons import STREAM
from tests.loops import Ticking
from tests.stored import TOPIC, expected, ids, out

SHM = Path("/dev/shm")  # noqa: S108 - where there is one: a table is many small files
AT = Position(TOPIC, 0)
SIZE = 2  # examples a record
PLACES = [f"{when} {what}" for what in ("append", "tidy", "commit") for when in ("before", "after")]


class Died(BaseException):
    """A process is killed where this is raised."""


class Faulty(ExampleStore):
    """Dies or fails before an append or after it: then nobody hears that it was made. Also between read and write."""

    def __init__(self, root: str, fault: Callable[[str], None]) -> None:
        super().__init__(root, STREAM)
        self.fault = fault

    def append(self, partition: int, records: Sequence[Record]) -> int:
        self.fault("before append")
        added = super().append(partition, records)
        self.fault("after append")
        return added

    def tidy(self) -> None:
        self.fault("before tidy")
        super().tidy()
        self.fault("after tidy")


class Sink(MemorySink):
    def __init__(self, log: MemoryLog, fault: Callable[[str], None]) -> None:
        super().__init__(log)
        self.fault = fault

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        self.fault("before commit")
        super().commit(outgoing, offsets)
        self.fault("after commit")


class Trainers(RuleBasedStateMachine):
    """The rules."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=SHM if SHM.is_dir() else None)
        self.data, self.log, self.armed = Path(self.folder.name), MemoryLog(), dict[str, BaseException]()
        self.pinned: dict[int, tuple[list[str], bytes]] = {}
        self.reader = ExampleStore(str(self.data), STREAM)
        self.start(2, 3, 0.0, 0.05)

    def fault(self, place: str) -> None:
        if place in self.armed:
            raise self.armed.pop(place)

    @property
    def logged(self) -> int:
        return len(self.log.topics[AT])

    @rule(number=st.integers(1, 5))
    def append(self, number: int) -> None:
        for _ in range(number):
            self.log.append(out(SIZE * self.logged, SIZE))

    @rule(
        batch=st.sampled_from([1, 3, 50]),
        tidy_every=st.integers(1, 4),
        gather_s=st.sampled_from([0.0, 0.05]),
        every_s=st.sampled_from([0.0, 0.05, 1000.0]),
    )
    def start(self, batch: int, tidy_every: int, gather_s: float, every_s: float) -> None:
        """Start another trainer in the place of the one that was there."""
        clock, store = Ticking(None), Faulty(str(self.data), self.fault)
        snapshots = Snapshots(self.data, "made", "trainer", store.identity)
        parts = (Storing(store, tidy_every), MemorySource(self.log), Sink(self.log, self.fault), snapshots)
        times = {"gather_s": gather_s, "snapshot_every_s": every_s, "poll_s": 0.01}
        self.loop = Loop([TOPIC], *parts, batch=batch, clock=clock, writer=Inline(), **times)

    @rule(seconds=st.sampled_from([0.05, 0.2, 0.6]))
    def run(self, seconds: float) -> None:
        try:
            self.loop.run(timeout=seconds)
        except Died:
            self.start(3, 3, 0.0, 0.05)

    @rule(
        place=st.sampled_from(
            [f"{when} {what}" for what in ("append", "tidy", "commit") for when in ("before", "after")]
        ),
        error=st.sampled_from([Died, Retry]),
    )
    def fail(self, place: str, error: type[BaseException]) -> None:
        self.armed[place] = error(place)

    @rule()
    def lose_snapshots(self) -> None:
        shutil.rmtree(self.data / "state", ignore_errors=True)

    @precondition(lambda self: self.logged)
    @rule(data=st.data())
    def linger(self, data: st.DataObject) -> None:
        """Let one that was thought dead append some records, from where it read what the table had or further on."""
        seen = self.reader.position(0)
        first = data.draw(st.integers(0, min(seen, self.logged - 1)))
        last = data.draw(st.integers(first, self.logged))
        ExampleStore(str(self.data), STREAM).append(0, self.log.topics[AT][first:last])

    @precondition(lambda self: self.logged)
    @rule()
    def race(self) -> None:
        """Let two append the same at once: the later one fails, or had nothing to add."""
        one, two = ExampleStore(str(self.data), STREAM), ExampleStore(str(self.data), STREAM)
        stale, seen = two._fresh(), two.position(0)
        one.append(0, self.log.topics[AT])
        two._fresh = lambda: stale  # type: ignore[method-assign]
        with suppress(Retry):
            assert two.append(0, self.log.topics[AT]) == 0, seen

    @rule()
    def tidy_elsewhere(self) -> None:
        ExampleStore(str(self.data), STREAM).tidy()

    @rule()
    def pin(self) -> None:
        found = self.reader.training_set()
        self.pinned[found.version] = (ids(self.reader, found.version), found.features.tobytes())

    @invariant()
    def the_newest_version_is_a_first_part_of_the_log(self) -> None:
        """At least what was committed is in it, and its position says how much."""
        seen = self.reader.position(0)
        assert self.log.committed.get(AT, 0) <= seen <= self.logged
        assert ids(self.reader) == expected(SIZE * seen)

    @invariant()
    def pinned_versions_are_as_they_were(self) -> None:
        for version, (held, features) in list(self.pinned.items())[-3:]:
            assert ids(self.reader, version) == held
            assert self.reader.training_set(version).features.tobytes() == features

    def teardown(self) -> None:
        """Whatever happened: without further faults everything is in the table."""
        self.armed.clear()
        self.append(1)
        left = self.logged - self.log.committed.get(AT, 0)
        self.loop.run(count=self.loop.folded + left, timeout=50)
        assert ids(self.reader) == expected(SIZE * self.logged)
        self.pin()
        self.pinned_versions_are_as_they_were()
        self.folder.cleanup()


TestTrainers = Trainers.TestCase
TestTrainers.settings = settings(deadline=None, max_examples=20, stateful_step_count=20)
