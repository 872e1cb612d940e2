"""When the learner's versions go out, and what happens where they can't be stored."""

import errno
import os
import re
from pathlib import Path

import msgspec
import pytest

from services.learner.publishing import Publishing
from services.runtime.artifacts import Artifacts
from services.runtime.errors import ConfigError, Retry
from services.runtime.grammar import OnlineRule
from services.runtime.memory import ManualClock
from services.runtime.models import Published
from services.runtime.signing import make_keys
from services.runtime.waiting import Wait
from tests.lessons import (
    EXAMPLES,
    PIPELINE,
    STREAM,
    record,
    scores,
)


class Stage:
    """The stage under test with its clock and its artifacts."""

    def __init__(self, data: Path, keep: int = 1000) -> None:
        self.clock, self.artifacts = ManualClock(), Artifacts(data, "made")
        self.wait = Wait(self.clock)
        self.stage = Publishing(STREAM, self.artifacts, keep, self.clock, self.wait)

    def published(self) -> list[Published]:
        """Return what is due, each held against where it goes and what it stands for."""
        found = []
        for out in self.stage.extra():
            record = msgspec.json.decode(out.value, type=Published)
            assert (out.topic, out.key, out.partition) == ("made.models", b"online", 0)
            assert record.version == record.learned
            self.artifacts.read("online", record.version)
            found.append(record)
        return found

    def versions(self) -> list[int]:
        return [record.version for record in self.published()]

    def learn(self, rows: slice) -> None:
        assert self.stage.fold({0: [record(rows)]}) == []


def test_the_first_version_goes_out_at_once(tmp_path: Path) -> None:
    """Version 0, of no examples, is published as soon as the partition is there, and can be read by its number."""
    stage = Stage(tmp_path)
    assert stage.versions() == []
    stage.stage.open(0, None)
    [first] = stage.published()
    assert first == Published("online", 0, "made:0", 0, None)
    assert scores(stage.artifacts.read("online", 0)) == [0.5] * EXAMPLES
    out = msgspec.json.decode(msgspec.json.encode(first))
    assert (out["event"], out["model"], out["version"]) == ("published", "online", 0)


def test_a_version_goes_out_when_it_is_due_and_new(tmp_path: Path) -> None:
    """Not before `snapshot_every` has passed since the last, and not if nothing was learned since."""
    stage = Stage(tmp_path)
    stage.stage.open(0, None)
    assert stage.versions() == [0]
    stage.learn(slice(10))
    stage.clock.sleep(4.9)
    assert stage.versions() == []
    stage.learn(slice(10, 30))
    stage.clock.sleep(0.2)
    [second] = stage.published()
    core = stage.stage.cores[0]
    assert second == Published("online", 30, "made:0", 30, core.log_loss)
    assert stage.artifacts.read("online", 30) == core.artifact()
    stage.clock.sleep(100)
    assert stage.versions() == []
    stage.learn(slice(30, 31))
    assert stage.versions() == []
    stage.clock.sleep(5)
    assert stage.versions() == [31]
    assert stage.versions() == []


def test_a_version_says_what_it_could_not_unlearn(tmp_path: Path) -> None:
    """How many of its examples correct others that it had learned."""
    stage = Stage(tmp_path)
    stage.stage.open(0, None)
    stage.learn(slice(10))
    stage.stage.fold({0: [record(slice(4), 1, corrects=True)]})
    [published] = stage.published()
    assert (published.learned, published.unretractable) == (14, 4)


def test_a_partition_that_comes_again_says_where_it_is(tmp_path: Path) -> None:
    """After a restart, or a transaction that failed, the version that then holds is published at once."""
    stage = Stage(tmp_path)
    stage.stage.open(0, None)
    assert stage.versions() == [0]
    stage.learn(slice(20))
    state = stage.stage.snapshot(0)
    assert state is not None
    stage.learn(slice(20, 40))
    stage.clock.sleep(5)
    assert stage.versions() == [40]
    stage.stage.open(0, state)
    assert stage.versions() == [20]
    stage.stage.open(0, state)
    assert stage.versions() == [20], "it may be that the transaction that published it failed"
    stage.stage.close(0)
    stage.clock.sleep(5)
    assert stage.versions() == []


def test_the_artifacts_of_the_last_versions_are_kept(tmp_path: Path) -> None:
    """A version a second for years would fill any disk."""
    stage = Stage(tmp_path, keep=2)
    stage.stage.open(0, None)
    for start in range(0, 40, 10):
        stage.versions()
        stage.learn(slice(start, start + 10))
        stage.clock.sleep(5)
    assert stage.versions() == [40]
    folder = tmp_path / "artifacts" / "made" / "online"
    assert sorted(path.name for path in folder.iterdir()) == ["30.model", "40.model"]


def test_what_can_not_be_stored_is_not_published(tmp_path: Path) -> None:
    """Without a place for the artifact it learns on and says what it waits for; then the newest version goes out."""
    stage = Stage(tmp_path)
    folder = tmp_path / "artifacts" / "made"
    make_keys(tmp_path / "keys")
    folder.parent.mkdir()
    folder.write_bytes(b"where a folder should be")
    stage.stage.open(0, None)
    assert stage.versions() == []
    assert "model/made/online/0 can't be stored" in str(stage.wait.why)
    stage.learn(slice(10))
    stage.clock.sleep(5)
    assert stage.versions() == []
    assert "model/made/online/10 can't be stored" in str(stage.wait.why)
    assert stage.wait.since == stage.clock.time - 5
    folder.unlink()
    assert stage.versions() == []
    stage.clock.sleep(5)
    assert stage.versions() == [10]
    assert stage.wait.why is None


def test_an_artifact_that_did_not_fit_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of it before the disk was full is taken away again."""
    stage = Stage(tmp_path)
    write = Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        write(path, content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    make_keys(tmp_path / "keys")
    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(Retry, match=f"model/made/online/3 can't be stored in {tmp_path}.*: No space left on device"):
        stage.artifacts.write("online", 3, b"payload")
    assert list((tmp_path / "artifacts" / "made" / "online").iterdir()) == []


def test_a_wrong_model_is_refused_before_a_partition_is_taken(tmp_path: Path) -> None:
    """The stage can't be made with a model that can't be."""
    pipeline = msgspec.structs.replace(PIPELINE, online=OnlineRule(["linear_model.Nothing"]))
    stream = msgspec.structs.replace(STREAM, pipeline=pipeline)
    with pytest.raises(ConfigError, match=re.escape("linear_model.Nothing")):
        Publishing(stream, Artifacts(tmp_path, "made"), 1, ManualClock(), Wait(ManualClock()))
