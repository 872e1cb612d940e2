"""Attacks on what is loaded: each is refused, with a reason in the log, and what was to be done is done without it.

Versions are made again from the log, snapshots are passed over and folded again, trainings begin anew. The same attacks
on Triton are in `tests/integration/test_triton_attacks.py`.
"""

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.learner.core import LearnerCore
from services.replay.versions import Versions
from services.runtime import signing, snapshots
from services.runtime.artifacts import Artifacts
from services.runtime.errors import Stop
from services.runtime.loop import Loop
from services.runtime.memory import Inline, MemoryLog, MemorySink, MemorySource
from services.runtime.records import Outgoing, Record
from services.runtime.signing import Signer, Verifier, make_keys
from services.runtime.snapshots import Snapshots
from services.runtime.unpickling import load
from services.trainer import training
from services.trainer.checkpoints import Checkpoints
from tests import attacks
from tests.attacks import FILES, Bomb, Target
from tests.lessons import EXAMPLES, STREAM, VECTORS, named, record, scores, whole
from tests.loops import Ticking, Watched
from tests.unit.test_training import lesson, stream

BOMBS = sorted(attacks.bombs(Path("canary")))
HALF = EXAMPLES // 2


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.mark.parametrize("name", BOMBS)
def test_the_bombs_are_real(name: str, canary: Path) -> None:
    """Without the list each runs what it was made for; with it none does, and Stop names what it wanted."""
    bomb = attacks.bombs(canary)[name]
    if name != "through a function's globals":  # its way is not complete: the name alone is refused
        assert attacks.explodes(bomb, canary), "this proves nothing"
    with pytest.raises(Stop, match="is not on the list of what a model may be made of: it was not unpickled"):
        load(bomb)
    assert not attacks.bombed(canary)


# Versions of the online model


@cache
def undisturbed() -> bytes:
    """Return what a learner is that learned all."""
    return whole().artifact()


@cache
def learned_half() -> bytes:
    core = LearnerCore(STREAM)
    core.fold([record(slice(HALF))])
    return core.artifact()


class Model:
    """Versions 150 and 300 of a learner, of which the latter is attacked, and a replay that scores with it."""

    def __init__(self, data: Path) -> None:
        self.data, self.artifacts = data / "ours", Artifacts(data / "ours", "made")
        for version, artifact in ((HALF, learned_half()), (EXAMPLES, undisturbed())):
            for stream_ in ("made", "bikes"):
                for place in (self.data, data / "theirs"):
                    Artifacts(place, stream_).write("online", version, artifact)
            self.artifacts.write("batch", version, artifact)
        self.path = self.file("made", "online", EXAMPLES)
        resigned = Signer(data / "theirs" / "keys").seal(f"model/made/online/{EXAMPLES}", undisturbed())
        self.target = Target(
            self.path,
            signing.SIGNATURE_BYTES,
            older=self.file("made", "online", HALF).read_bytes(),
            elsewhere=self.file("bikes", "online", EXAMPLES).read_bytes(),
            other_kind=self.file("made", "batch", EXAMPLES).read_bytes(),
            stolen=(data / "theirs" / "artifacts" / "made" / "online" / self.path.name).read_bytes(),
            resigned=resigned,
        )

    def file(self, stream_: str, model: str, version: int) -> Path:
        return self.data / "artifacts" / stream_ / model / f"{version}.model"

    def replay(self) -> Versions:
        def examples() -> Any:
            return iter([[record(slice(HALF))], [record(slice(HALF, EXAMPLES), 1)]])

        return Versions(STREAM, self.artifacts, examples)

    def is_scored_without_it(self, why: str) -> None:
        """Expect the version to be made again from the log, to answer as it would have, and the reason to be told."""
        versions = self.replay()
        found = [versions.score(f"online@{EXAMPLES}", named(vector)) for vector in VECTORS]
        assert found == scores(undisturbed())
        assert list(versions.refolded) == [EXAMPLES]
        assert why in versions.refolded[EXAMPLES]


@pytest.mark.parametrize("name", FILES)
def test_a_version_that_is_not_what_was_signed(name: str, tmp_path: Path) -> None:
    """Whatever stands in its place: it is refused, and made again from the log."""
    model = Model(tmp_path)
    FILES[name](model.target)
    why = {"a terabyte": "are not read", **dict.fromkeys(["a pipe", "a folder"], "it is no plain file")}
    expected = "it is no plain file" if "link" in name else why.get(name, "not signed by this installation, or damaged")
    with pytest.raises(Stop, match=expected):
        model.artifacts.read("online", EXAMPLES)
    model.is_scored_without_it(expected)


@pytest.mark.parametrize("name", BOMBS)
def test_a_version_that_runs_code_though_it_was_signed(name: str, tmp_path: Path, canary: Path) -> None:
    """With the right key, under the right name: the list refuses it, and nothing of it ran."""
    model = Model(tmp_path)
    model.artifacts.write("online", EXAMPLES, attacks.bombs(canary)[name])
    model.is_scored_without_it("is not on the list")
    assert not attacks.bombed(canary)


NAMES: dict[str, tuple[str, Any, str]] = {
    "up": ("..", 1, "made"),
    "up and down": ("../made/online", 1, "made"),
    "absolute": ("/etc/passwd", 1, "made"),
    "NUL": ("online\0", 1, "made"),
    "dots of another script": ("\uff0e\uff0e/online", 1, "made"),
    "a version up": ("online", f"../../bikes/online/{EXAMPLES}", "made"),
    "a version that is absolute": ("online", "/etc/passwd", "made"),
    "a version of NUL": ("online", f"{EXAMPLES}\0", "made"),
    "a version of other digits": ("online", "\uff13\uff10\uff10", "made"),
    "a version below 0": ("online", -1, "made"),
    "a version beyond all": ("online", 1 << 63, "made"),
    "a stream up": ("online", EXAMPLES, "../theirs/artifacts/made"),
    "a stream that is absolute": ("online", EXAMPLES, "/tmp"),  # noqa: S108 - it is refused
    "a stream of nothing": ("online", EXAMPLES, ""),
    "a stream of dots": ("online", EXAMPLES, ".."),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_elsewhere(name: str, tmp_path: Path) -> None:
    """No name of a model, a version or a stream leads out of the folder, to be read or to be written."""
    model, version, of = NAMES[name]
    place = Model(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    artifacts = Artifacts(place.data, of)
    with pytest.raises(Stop, match="not the name of a model version"):
        artifacts.read(model, version)
    with pytest.raises(Stop, match="not the name of a model version"):
        artifacts.write(model, version, b"x")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_version_that_is_swapped_once_it_is_checked(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is loaded are the bytes that were checked, whatever has taken the file's place meanwhile."""
    model, checked = Model(tmp_path), Verifier.open

    def swapped(verifier: Verifier, name: str, sealed: bytes) -> bytes:
        payload = checked(verifier, name, sealed)
        model.path.write_bytes(bytes(signing.SIGNATURE_BYTES) + attacks.bombs(canary)["os.system"])
        return payload

    monkeypatch.setattr(Verifier, "open", swapped)
    versions = model.replay()
    assert versions.score(f"online@{EXAMPLES}", named(VECTORS[0])) == scores(undisturbed())[0]
    assert (versions.refolded, attacks.bombed(canary)) == ({}, False)


# Snapshots


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


# Checkpoints


class Trained:
    """A training of four epochs that was interrupted after two; its checkpoint is attacked before it goes on."""

    def __init__(self, data: Path) -> None:
        self.data, self.kept = data / "ours", Checkpoints(data / "ours", "made")
        self.seen: list[int] = []
        older = b""

        def interrupted(epoch: Any, _: int) -> None:
            nonlocal older
            older = older or self.path.read_bytes()
            if epoch.number == 2:
                raise KeyboardInterrupt

        self.path = self.kept.folder / "checkpoint"
        with pytest.raises(KeyboardInterrupt):
            training.run(stream(), lesson(), self.kept, "cpu", interrupted)
        found = self.kept.of().read()
        assert found is not None
        for place, name, window in (("theirs", "made", ""), ("ours", "bikes", ""), ("ours", "made", "after")):
            Checkpoints(data / place, name).of(window).write(found)
        stolen = (data / "theirs" / "training" / "made" / "checkpoint").read_bytes()
        self.target = Target(
            self.path,
            signing.SIGNATURE_BYTES,
            older=older,
            elsewhere=(self.data / "training" / "bikes" / "checkpoint").read_bytes(),
            other_kind=(self.kept.folder / "checkpoint.after").read_bytes(),
            stolen=stolen,
            resigned=stolen,
        )

    def begins_anew(self, caplog: pytest.LogCaptureFixture, why: str) -> None:
        """Expect every epoch to be trained, and the log to say why."""
        seen: list[int] = []
        training.run(stream(), lesson(), self.kept, "cpu", lambda epoch, _: seen.append(epoch.number))
        assert seen == [1, 2, 3, 4]
        assert f"checkpoint {self.path} passed over, the training begins anew: {why}" in caplog.text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, bytes]:
    made = Trained(tmp_path_factory.mktemp("trained"))
    return made, made.path.read_bytes()


@pytest.mark.parametrize("name", [name for name in FILES if "older" not in name])  # an older one costs an epoch
def test_a_checkpoint_that_is_not_what_was_signed(
    name: str, trained: tuple[Trained, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever stands in its place: it is passed over, and named."""
    made, good = trained
    made.path.write_bytes(good)
    assert made.kept.of().read() is not None
    FILES[name](made.target)
    assert made.kept.of().read() is None
    assert f"checkpoint {made.path} passed over, the training begins anew: " in caplog.text
    made.path.rmdir() if made.path.is_dir() else made.path.unlink()


WHY = {
    "code": "it is no checkpoint: Weights only load failed",
    "weights of another": "the checkpoint is of other examples",
    "no checkpoint": "it is no checkpoint",
}


@pytest.mark.parametrize("content", WHY)
def test_a_checkpoint_that_is_of_no_use_though_it_was_signed(
    content: str, trained: tuple[Trained, bytes], canary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that runs code, one without a mark, and one that is none: the training begins anew, and nothing ran."""
    made, _ = trained
    state: Any = {"code": {"mark": Bomb(os.system, f"touch {canary}")}, "weights of another": {"mark": "other"}}
    torch.save(state.get(content, {}), into := io.BytesIO())
    bomb = b"no checkpoint" if content == "no checkpoint" else into.getvalue()
    if content == "code":
        torch.load(io.BytesIO(bomb), weights_only=False)
        assert canary.exists()
        canary.unlink()
    made.kept.of().write(bomb)
    made.begins_anew(caplog, WHY[content])
    assert not canary.exists()


# Keys


def of_another_kind(folder: Path) -> None:
    key = generate_private_key(65537, 2048)
    (folder / "private").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def replaced(folder: Path) -> None:
    make_keys(folder.parent / "theirs")
    (folder / "public").write_bytes((folder.parent / "theirs" / "public").read_bytes())


def a_pipe(folder: Path) -> None:
    (folder / "private").unlink()
    os.mkfifo(folder / "private", 0o600)


KEYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a private key that anyone may write": (lambda keys: (keys / "private").chmod(0o666), r"Run: chmod 600 .*private"),
    "a private key that a group may read": (lambda keys: (keys / "private").chmod(0o640), r"Run: chmod 600 .*private"),
    "a public key that anyone may write": (lambda keys: (keys / "public").chmod(0o666), r"Run: chmod go-w .*public"),
    "a folder that anyone may write to": (lambda keys: keys.chmod(0o777), r"Run: chmod 700 .*keys"),
    "a folder that others may enter": (lambda keys: keys.chmod(0o755), r"Run: chmod 700 .*keys"),
    "a folder that may be replaced": (lambda keys: keys.parent.chmod(0o777), r"Run: chmod o-w "),
    "a key of another kind": (of_another_kind, r"no private key of Ed25519 \(32 bytes\)"),
    "a key that is too short": (lambda keys: (keys / "private").write_bytes(bytes(31)), r"no private key of Ed25519"),
    "a public key that was replaced": (replaced, r"is not the public key of .*: it was replaced"),
    "a private key that is gone": (lambda keys: (keys / "private").unlink(), r"private is gone, and .*public is there"),
    "a pipe for a key": (a_pipe, "it is no plain file"),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_others_can_get_at(name: str, tmp_path: Path) -> None:
    """They are refused with what to do, before anything is signed; nothing is made in their place."""
    keys = tmp_path / "data" / "keys"
    make_keys(keys)
    attack, why = KEYS[name]
    attack(keys)
    before = {path.name: path.read_bytes() for path in keys.iterdir() if path.is_file()}
    with pytest.raises(Stop, match=why):
        Signer(keys)
    assert {path.name: path.read_bytes() for path in keys.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("name", ["a public key that anyone may write", "a folder that anyone may write to"])
def test_nothing_is_opened_with_a_key_that_anyone_may_write(name: str, tmp_path: Path) -> None:
    """Not where the public key alone is needed either, as in Triton."""
    model = Model(tmp_path)
    KEYS[name][0](model.data / "keys")
    with pytest.raises(Stop, match="is open to others"):
        model.artifacts.read("online", EXAMPLES)


def test_many_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    """Processes with the same number, as in containers of their own, make one pair; none sees half of it."""
    code = (
        "import os, sys; from pathlib import Path; from services.runtime.signing import Signer\n"
        "os.getpid = lambda: 1\n"
        "sys.stdin.readline(); sys.stdout.buffer.write(Signer(Path(sys.argv[1])).seal('n', b'payload'))"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "data" / "keys")]
    started = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    sealed = {process.communicate(b"go\n")[0] for process in started}
    assert len(sealed) == 1
    assert Verifier(tmp_path / "data" / "keys").open("n", sealed.pop()) == b"payload"
    assert sorted(path.name for path in (tmp_path / "data" / "keys").iterdir()) == ["private", "public"]
    assert (tmp_path / "data" / "keys").stat().st_mode & 0o777 == 0o700


def test_what_one_left_that_was_killed_hinders_nobody(tmp_path: Path) -> None:
    """A draft of a key, of a process with our number."""
    keys = tmp_path / "data" / "keys"
    keys.mkdir(mode=0o700, parents=True)
    (keys / f".private.{os.getpid()}").write_bytes(b"half")
    make_keys(keys)
    assert Verifier(keys).open("n", Signer(keys).seal("n", b"payload")) == b"payload"
