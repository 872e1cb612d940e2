"""Loops over one log and one disk, against a plain model: any history of faults yields what one undisturbed fold does.

Up to two members of a group share the partitions. Each may die, be told to fail, or lose its answer before and after
every step that it takes; files tear, appear and vanish; partitions come and go, between polls and within one; the log
may be deleted and begin anew. After every rule the model is asked what the committed prefix of the log should have
given, and what the cores should hold.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.runtime.errors import Retry, Stop
from services.runtime.loop import Loop
from services.runtime.memory import Inline, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Outgoing, Position, Record
from services.runtime.snapshots import Snapshots
from services.runtime.stage import Batches, Cores
from services.runtime.stores import Bound, LocalStore
from services.runtime.transport import Offsets
from tests.loops import Chain, Pairs, Ticking

PARTITIONS = 2
MEMBERS = 2
SHM = Path("/dev/shm")  # noqa: S108 - where there is one: thousands of files are synced
PLACES = [
    f"{when} {what}"
    for what in ("poll", "fold", "commit", "committed", "names", "read", "write", "remove")
    for when in ("before", "after")
] + ["torn write"]


class Died(BaseException):
    """A process is killed where this is raised. No code of ours may catch it."""


class Faults:
    """What shall go wrong at which place, the next time that somebody comes by."""

    def __init__(self) -> None:
        self.armed: dict[str, BaseException] = {}

    def pass_by(self, place: str) -> None:
        if place in self.armed:
            raise self.armed.pop(place)


class Disk(LocalStore):
    """The snapshots' folder. A torn write leaves a part of the file in its place, as some file systems would."""

    def __init__(self, root: Path, faults: Faults) -> None:
        super().__init__(root)
        self.faults = faults

    def names(self, folder: str) -> list[str]:
        return self._do("names", lambda: LocalStore.names(self, folder))

    def read(self, path: str, bound: Bound | None = None) -> tuple[bytes, bytes] | None:
        return self._do("read", lambda: LocalStore.read(self, path, bound))

    def write(self, path: str, line: bytes, body: bytes) -> None:
        if "torn write" in self.faults.armed:
            LocalStore.write(self, path, line, body[:-1])
        self.faults.pass_by("torn write")
        self._do("write", lambda: LocalStore.write(self, path, line, body))

    def remove(self, path: str) -> None:
        self._do("remove", lambda: LocalStore.remove(self, path))

    def _do(self, what: str, act: Callable[[], Any]) -> Any:
        self.faults.pass_by(f"before {what}")
        done = act()
        self.faults.pass_by(f"after {what}")
        return done


class Source(MemorySource):
    """A member of the group, to which a rebalance may happen before a poll takes records, or after."""

    def __init__(self, log: MemoryLog, faults: Faults, *, takes_first: bool) -> None:
        super().__init__(log, alone=False)
        self.faults, self.takes_first = faults, takes_first

    def poll(self, limit: int, timeout: float) -> list[Record]:
        del timeout
        self.faults.pass_by("before poll")
        records = self._take(limit) if self.takes_first else []
        if not self._rebalance() and not self.takes_first:
            records = self._take(limit)
        self.faults.pass_by("after poll")
        return records

    def committed(self, positions: Sequence[Position]) -> Offsets:
        self.faults.pass_by("before committed")
        found = super().committed(positions)
        self.faults.pass_by("after committed")
        return found

    def seek(self, offsets: Offsets) -> None:
        assert {position.partition for position in offsets} <= self._mine, "only what is assigned can be sought"
        super().seek(offsets)


class Sink(MemorySink):
    """Dies or fails before a commit, or after it: then nobody hears that it was made."""

    def __init__(self, log: MemoryLog, source: MemorySource, faults: Faults) -> None:
        super().__init__(log, source)
        self.faults = faults

    def commit(self, outgoing: Sequence[Outgoing], offsets: Offsets) -> None:
        self.faults.pass_by("before commit")
        super().commit(outgoing, offsets)
        self.faults.pass_by("after commit")


class Stage(Cores[Any]):
    """Cores that are told to fail, and that are opened with nothing that was not committed."""

    def __init__(self, build: Callable[[int], Any], faults: Faults, check: Callable[[int, Any], None]) -> None:
        super().__init__(build)
        self.faults, self.check = faults, check

    def open(self, partition: int, state: bytes | None) -> None:
        super().open(partition, state)
        self.check(partition, self.cores[partition])

    def fold(self, batches: Batches) -> list[Outgoing]:
        self.faults.pass_by("before fold")
        outgoing = super().fold(batches)
        self.faults.pass_by("after fold")
        return outgoing

    def full(self, partition: int) -> dict[str, str]:
        core = self.cores[partition]
        return core.full(ROOM) if isinstance(core, Pairs) else {}


class Member:
    """One process: what it is made of."""

    def __init__(self, source: Source, stage: Stage, loop: Loop) -> None:
        self.source, self.stage, self.loop = source, stage, loop


WHICH = st.integers(0, MEMBERS - 1)
PARTITION, NUMBER = st.integers(0, PARTITIONS - 1), st.integers(0, 60)
ROOM = 1  # values of one input that may wait for the other before it is read on
INTERVALS = st.sampled_from([0.0, 0.05, 1000.0])
GATHERED = st.sampled_from([0.0, 0.0, 0.03])  # seconds


class Machine(RuleBasedStateMachine):
    """The rules; which cores, over which inputs, a subclass says."""

    topics: Sequence[str]
    build: Callable[[int], Any]

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=SHM if SHM.is_dir() else None)
        self.data = Path(self.folder.name)
        self.faults, self.log, self.clock = Faults(), MemoryLog(PARTITIONS), Ticking(None)
        self.values = 0
        self.members: list[Member] = []

    # The model

    def inputs(self, partition: int, ends: Offsets) -> dict[str, list[Record]]:
        """Return what each input of a partition held before these offsets."""
        found = {topic: Position(topic, partition) for topic in self.topics}
        return {topic: self.log.topics[position][: ends.get(position, 0)] for topic, position in found.items()}

    def outputs(self, partition: int) -> list[bytes]:
        return [record.value for record in self.log.topics[Position("out", partition)]]

    def check_outputs(self, partition: int, committed: dict[str, list[Record]]) -> None:
        raise NotImplementedError

    def check_state(self, core: Any, folded: dict[str, list[Record]]) -> None:
        raise NotImplementedError

    def check_opened(self, partition: int, core: Any) -> None:
        """Check that a core was opened as it was at some offset that is not ahead of the committed one."""
        raise NotImplementedError

    @invariant()
    def what_is_out_is_the_fold_of_what_is_committed(self) -> None:
        for partition in range(PARTITIONS):
            self.check_outputs(partition, self.inputs(partition, self.log.committed))

    @invariant()
    def cores_hold_the_fold_of_what_they_have_read(self) -> None:
        for member in self.members:
            if not member.loop._ahead:
                for partition in {position.partition for position in member.loop._next}:
                    self.check_state(member.stage.cores[partition], self.inputs(partition, member.loop._next))

    # The log grows; members run

    @rule(numbers=st.lists(st.integers(0, 5), min_size=2 * PARTITIONS, max_size=2 * PARTITIONS))
    def append(self, numbers: list[int]) -> None:
        positions = [Position(topic, partition) for topic in self.topics for partition in range(PARTITIONS)]
        for position, number in zip(positions, numbers, strict=False):
            for _ in range(number):
                self.log.append(Outgoing(position.topic, self.value(position), partition=position.partition))

    def value(self, position: Position) -> bytes:
        """Return a value that no log had before."""
        del position
        self.values += 1
        return b"%d" % self.values

    @rule(which=WHICH, seconds=st.sampled_from([0.02, 0.1, 0.4]))
    def run(self, which: int, seconds: float) -> None:
        if which < len(self.members):
            member = self.members[which]
            self.alive(member, lambda: member.loop.run(timeout=seconds))

    def alive(self, member: Member, act: Callable[[], Any]) -> None:
        """Let a member act, and take it out of the group if that is the end of it."""
        try:
            act()
        except Died:
            self.bury(member)
        except Stop:
            self.alive(member, member.loop.close)
            self.bury(member)

    def bury(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
            self.log.share([other.source for other in self.members])

    # Members come and go

    @precondition(lambda self: len(self.members) < MEMBERS)
    @rule(
        batch=st.sampled_from([1, 2, 3, 50]),
        every_s=INTERVALS,
        gather_s=GATHERED,
        takes_first=st.booleans(),
        share=st.booleans(),
    )
    def start(self, batch: int, every_s: float, gather_s: float, *, takes_first: bool, share: bool) -> None:
        source = Source(self.log, self.faults, takes_first=takes_first)
        stage = Stage(type(self).build, self.faults, self.check_opened)
        snapshots = Snapshots(self.data, "s", "x", "rule")
        snapshots._store = Disk(self.data / "state", self.faults)
        parts = (stage, source, Sink(self.log, source, self.faults), snapshots)
        more = {"batch": batch, "snapshot_every_s": every_s, "clock": self.clock, "writer": Inline()}
        more["gather_s"] = gather_s
        self.members.append(Member(source, stage, Loop(self.topics, *parts, **more)))
        if share or len(self.members) == 1:
            self.log.share([member.source for member in self.members])

    @rule(which=WHICH)
    def kill(self, which: int) -> None:
        if which < len(self.members):
            self.bury(self.members[which])

    @rule(which=WHICH)
    def close(self, which: int) -> None:
        if which < len(self.members):
            member = self.members[which]
            self.alive(member, member.loop.close)
            self.bury(member)

    @precondition(lambda self: len(self.members) == MEMBERS)
    @rule(swapped=st.booleans())
    def share(self, *, swapped: bool) -> None:
        """Share the partitions out, or the other way round."""
        self.log.share([member.source for member in (self.members[::-1] if swapped else self.members)])

    @precondition(lambda self: len(self.members) == MEMBERS)
    @rule(which=WHICH)
    def expire(self, which: int) -> None:
        """One member is thought dead, and learns that when it polls; all goes to the other, until they share again."""
        self.log.share([self.members[which].source])

    # Faults

    @rule(place=st.sampled_from(PLACES), error=st.sampled_from([Died, Died, Retry]))
    def fail(self, place: str, error: type[BaseException]) -> None:
        """Let the next who comes to this place die there, or fail for a moment."""
        self.faults.armed[place] = error(place)

    @rule(place=st.sampled_from(["before names", "before read"]))
    def forbid(self, place: str) -> None:
        """Let the next who wants to read snapshots be told that it may not."""
        self.faults.armed[place] = Stop(place)

    @rule(
        partition=st.integers(0, PARTITIONS - 1),
        number=st.integers(0, 60),
        kind=st.sampled_from(["junk", "cut", "other"]),
    )
    def foreign_file(self, partition: int, number: int, kind: str) -> None:
        """Put a file there that no writer wrote: junk, a snapshot cut short, or one of the other partition."""
        source = 1 - partition if kind == "other" else partition
        content = next((path.read_bytes() for path in self.files(source)), b"") or b"\xff junk"
        self.put(partition, number, {"junk": b"junk", "cut": content[: len(content) // 2], "other": content}[kind])

    @rule(partition=PARTITION, number=NUMBER)
    def renamed_file(self, partition: int, number: int) -> None:
        """Put a good snapshot there once more, under a number that is not its own."""
        for path in self.files(partition)[:1]:
            self.put(partition, number, path.read_bytes())

    @rule(partition=PARTITION, which=st.integers(0, 3))
    def delete_file(self, partition: int, which: int) -> None:
        for path in self.files(partition)[which : which + 1]:
            path.unlink()

    def files(self, partition: int) -> list[Path]:
        return sorted((self.data / "state" / "s" / "x" / str(partition)).glob("*.snapshot"))

    def put(self, partition: int, number: int, content: bytes) -> None:
        path = self.data / "state" / "s" / "x" / str(partition) / f"{number:020d}.snapshot"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    @rule()
    def log_begins_anew(self) -> None:
        """Delete the topics with what the group had committed, everybody dead; the snapshots are still there."""
        for member in list(self.members):
            self.bury(member)
        self.log.topics.clear()
        self.log.committed.clear()

    # In the end

    def teardown(self) -> None:
        """Whatever happened: without further faults every record is accounted for."""
        self.faults.armed.clear()
        self.append([1] * (2 * PARTITIONS))
        if not self.members:
            self.start(batch=3, every_s=0.05, gather_s=0.0, takes_first=False, share=True)
        self.log.share([member.source for member in self.members])
        for _ in range(30):
            for member in self.members:
                member.loop.run(timeout=2)
        for topic in self.topics:
            for partition in range(PARTITIONS):
                position = Position(topic, partition)
                done = self.log.committed.get(position, 0) == len(self.log.topics[position])
                assert done or self.has_no_room(position), "something is left"
        self.what_is_out_is_the_fold_of_what_is_committed()
        self.cores_hold_the_fold_of_what_they_have_read()
        self.folder.cleanup()

    def has_no_room(self, position: Position) -> bool:
        return any(
            position.topic in member.stage.full(position.partition)
            for member in self.members
            if position.partition in member.stage.cores
        )


class OneInput(Machine):
    """Each core's state is a hash over all that it ever read, and it says that hash after each record."""

    topics = ("in",)
    build = Chain

    def links(self, partition: int, records: Sequence[Record]) -> list[bytes]:
        return [out.value for out in Chain(partition).fold(records)]

    def check_outputs(self, partition: int, committed: dict[str, list[Record]]) -> None:
        assert self.outputs(partition) == self.links(partition, committed["in"])

    def check_state(self, core: Any, folded: dict[str, list[Record]]) -> None:
        assert core.link == [Chain(0).link, *self.links(0, folded["in"])][-1]

    def check_opened(self, partition: int, core: Any) -> None:
        committed = self.inputs(partition, self.log.committed)["in"]
        assert core.link in [Chain(partition).link, *self.links(partition, committed)]


class TwoInputs(Machine):
    """Each core holds the values that either input had, and says one when the other input has it too."""

    topics = ("left", "right")
    build = Pairs

    def value(self, position: Position) -> bytes:
        """Return the same values, in the same order, for both inputs of a partition; others once the log began anew."""
        self.values += 1
        return b"%d-%d" % (self.logs, len(self.log.topics[position]))

    logs = 0

    def log_begins_anew(self) -> None:
        super().log_begins_anew()
        self.logs += 1

    def check_outputs(self, partition: int, committed: dict[str, list[Record]]) -> None:
        left, right = ({record.value for record in records} for records in committed.values())
        assert Counter(self.outputs(partition)) == Counter(left & right)

    def check_state(self, core: Any, folded: dict[str, list[Record]]) -> None:
        assert core.seen == {topic: {record.value for record in records} for topic, records in folded.items()}

    def check_opened(self, partition: int, core: Any) -> None:
        for topic, records in self.inputs(partition, self.log.committed).items():
            assert core.seen[topic] <= {record.value for record in records}


TestOneInput, TestTwoInputs = OneInput.TestCase, TwoInputs.TestCase
TestOneInput.settings = TestTwoInputs.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
