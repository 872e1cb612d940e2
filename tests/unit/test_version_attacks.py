"""Attacks on versions of the online model: each is refused with a reason in the log, and the version is made again.

The same attacks on Triton are in `tests/integration/test_triton_attacks.py`.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.learner.core import LearnerCore
from services.replay.versions import Versions
from services.runtime import signing
from services.runtime.artifacts import Artifacts
from services.runtime.errors import Stop
from services.runtime.signing import Signer, Verifier
from services.runtime.unpickling import load
from tests import attacks
from tests.attacks import FILES, Target
from tests.lessons import EXAMPLES, STREAM, VECTORS, named, record, scores, whole

BOMBS = sorted(attacks.bombs(Path("canary")))
HALF = EXAMPLES // 2


@pytest.mark.parametrize("name", BOMBS)
def test_the_bombs_are_real(name: str, canary: Path) -> None:
    """Without the list each runs what it was made for; with it none does, and Stop names what it wanted."""
    bomb = attacks.bombs(canary)[name]
    if name != "through a function's globals":  # its way is not complete: the name alone is refused
        assert attacks.explodes(bomb, canary), "this proves nothing"
    with pytest.raises(Stop, match="is not on the list of what a model may be made of: it was not unpickled"):
        load(bomb)
    assert not attacks.bombed(canary)


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
