"""Attacks on snapshots: each is passed over with a reason in the log, and the state is folded again."""

import io
import pickle
from pathlib import Path
from typing import Any

import pytest

from services.learner.core import LearnerCore
from services.runtime import signing, snapshots
from services.runtime.loop import Loop
from services.runtime.memory import Inline, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Outgoing, Record
from services.runtime.snapshots import Snapshots
from tests import attacks
from tests.attacks import FILES, Target
from tests.lessons import EXAMPLES, STREAM, record
from tests.loops import Ticking, Watched
from tests.unit.test_version_attacks import undisturbed

BOMBS = sorted(attacks.bombs(Path("canary")))
HALF = EXAMPLES // 2


class Learner:
    """A learner that has read half of its examples and stopped; its snapshot is attacked before it goes on."""

    def __init__(self, data: Path) -> None:
        self.data, self.log = data / "ours", MemoryLog(1)
        self.run([record(slice(0, 100))])
        older = self.file(1).read_bytes()
        self.run([record(slice(100, HALF))])
        self.path, state = self.file(2), self.state()
        for place, service, name, partition in (
            (data / "theirs", "learner", "made", 0),
            (self.data, "learner", "bikes", 0),
            (self.data, "features", "made", 0),
            (self.data, "learner", "made", 1),
        ):
            Snapshots(place, name, service, "rule").write(partition, {"made.examples": 2}, state)
        stolen = data / "theirs" / "state" / "made" / "learner" / "0" / self.path.name
        self.target = Target(
            self.path,
            2 * signing.SIGNATURE_BYTES,
            older=older,
            elsewhere=self.file(2, "bikes").read_bytes(),
            other_kind=self.file(2, service="features").read_bytes(),
            stolen=stolen.read_bytes(),
            resigned=stolen.read_bytes(),
        )
        self.other_partition = self.file(2, partition=1).read_bytes()
        self.file(1).unlink()  # else it would go on from there

    def file(self, offset: int, name: str = "made", service: str = "learner", partition: int = 0) -> Path:
        return self.data / "state" / name / service / str(partition) / f"{offset:020d}.snapshot"

    def state(self) -> bytes:
        found = self.snapshots().newest(0, {"made.examples": 2})
        assert found is not None
        return found.state

    def snapshots(self) -> Snapshots:
        return Snapshots(self.data, "made", "learner", "rule")

    def run(self, records: list[Record]) -> Watched:
        """Have another process read on; it is told apart by the stage that it opens."""
        for one in records:
            self.log.append(Outgoing("made.examples", one.value, headers=one.headers))
        stage = Watched(lambda _: LearnerCore(STREAM))
        source, sink = MemorySource(self.log), MemorySink(self.log)
        loop = Loop(["made.examples"], stage, source, sink, self.snapshots(), clock=Ticking(), writer=Inline())
        loop.run(count=len(records))
        self.core = stage.cores[0]
        loop.close()
        return stage

    def goes_on_without_it(self, caplog: pytest.LogCaptureFixture, why: str) -> None:
        """Expect that all is folded again, to what an undisturbed learner is, bit for bit, and the log to say why."""
        stage = self.run([record(slice(HALF, EXAMPLES), 2)])
        assert stage.opened[-1] == (0, None)
        assert [offset for _, _, offset in stage.seen] == [0, 1, 2]
        assert self.core.artifact() == undisturbed()
        said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("snapshot passed over: ")]
        assert len(said) == 1
        assert why in said[0]


def test_the_learner_goes_on_from_a_good_snapshot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Unattacked it does: else what follows would prove nothing."""
    learner = Learner(tmp_path)
    with pytest.raises(AssertionError):
        learner.goes_on_without_it(caplog, "")


@pytest.mark.parametrize("name", FILES)
def test_a_snapshot_that_is_not_what_was_signed(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever stands in its place: it is passed over, and the log folded again."""
    learner = Learner(tmp_path)
    FILES[name](learner.target)
    why = {
        "truncated": "torn or damaged",
        "a bit flipped": "torn or damaged",
        "a terabyte": f"torn or damaged: it has {attacks.FAR - learner_line(learner)} bytes",
        "appended to": "torn or damaged",
        "an older one under a new name": "an older one under a new name",
    }
    plain = name in ("a pipe", "a folder") or "link" in name
    default = "it is no plain file" if plain else "not signed by this installation for this place, or damaged"
    learner.goes_on_without_it(caplog, why.get(name, default))


def learner_line(learner: Learner) -> int:
    """Return how long the line of the snapshot is."""
    with learner.path.open("rb") if learner.path.is_file() and not learner.path.is_symlink() else io.BytesIO() as file:
        return len(file.readline(1 << 16))


def test_a_snapshot_of_another_partition(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Signed here, of the same service and stream."""
    learner = Learner(tmp_path)
    learner.target.replace(learner.other_partition)
    learner.goes_on_without_it(caplog, "not signed by this installation for this place, or damaged")


@pytest.mark.parametrize("name", BOMBS)
def test_a_snapshot_that_runs_code_though_it_was_signed(
    name: str, tmp_path: Path, canary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The list refuses it, nothing of it ran, and the log is folded again."""
    learner = Learner(tmp_path)
    learner.snapshots().write(0, {"made.examples": 2}, attacks.bombs(canary)[name])
    learner.goes_on_without_it(caplog, "is not on the list")
    assert not attacks.bombed(canary)


@pytest.mark.parametrize("state", [b"", b"\x80", pickle.dumps((1, 2)), pickle.dumps(None), b"\x8e" + b"\xff" * 8])
def test_a_snapshot_that_is_no_state(state: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Signed, and no pickle, or one of something else, or one that asks for more memory than there is."""
    learner = Learner(tmp_path)
    learner.snapshots().write(0, {"made.examples": 2}, state)
    learner.goes_on_without_it(caplog, "is no state of a learner")


def test_a_snapshot_that_is_changed_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its line was checked another state is written behind it: that is not the one that was signed for."""
    kept, checked = Snapshots(tmp_path, "made", "learner", "rule"), snapshots.Snapshots._header
    kept.write(0, {"in": 5}, bytes(1 << 20))
    path = tmp_path / "state" / "made" / "learner" / "0" / f"{5:020d}.snapshot"

    def changed(self: Snapshots, line: bytes, partition: int) -> Any:
        header = checked(self, line, partition)
        with path.open("r+b") as file:
            file.seek(1 << 19)
            file.write(b"other")
        return header

    with monkeypatch.context() as patch:
        patch.setattr(snapshots.Snapshots, "_header", changed)
        assert kept.newest(0, {"in": 5}) is None
    assert "torn or damaged" in kept.take_refused()[0]
