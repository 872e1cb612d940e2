"""Signatures and artifacts: what is loaded was signed here, under the name that it is asked for by."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.runtime.artifacts import Artifacts
from services.runtime.errors import Stop
from services.runtime.signing import SIGNATURE_BYTES, Signer, Verifier, make_keys

PAYLOADS = [b"", b"x", bytes(range(256))]


@pytest.fixture
def sealed(tmp_path: Path) -> bytes:
    return Signer(tmp_path).seal("model/a", b"payload")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_round_trip(tmp_path: Path, payload: bytes) -> None:
    """What was sealed is opened under the same name, byte for byte, also by a later process."""
    sealed = Signer(tmp_path).seal("model/ä", payload)
    assert len(sealed) == SIGNATURE_BYTES + len(payload)
    assert Verifier(tmp_path).open("model/ä", sealed) == payload
    assert Signer(tmp_path).seal("model/ä", payload) == sealed


def refused(folder: Path, name: str, sealed: bytes) -> None:
    with pytest.raises(Stop, match=f"{name}: not signed by this installation, or damaged"):
        Verifier(folder).open(name, sealed)


def test_tampered(tmp_path: Path, sealed: bytes) -> None:
    """One bit changed anywhere, in the signature or behind it, and it is refused."""
    for place in range(len(sealed)):
        refused(tmp_path, "model/a", sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])


def test_truncated(tmp_path: Path, sealed: bytes) -> None:
    """Cut short or grown, it is refused."""
    for length in (0, 1, SIGNATURE_BYTES - 1, SIGNATURE_BYTES, len(sealed) - 1):
        refused(tmp_path, "model/a", sealed[:length])
    refused(tmp_path, "model/a", sealed + b"\0")


def test_renamed(tmp_path: Path) -> None:
    """One artifact can't stand in for another, nor can a name and its payload be cut elsewhere."""
    sealed = Signer(tmp_path).seal("ab", b"cd")
    for name in ("a", "abc", "ba", ""):
        refused(tmp_path, name, sealed)
    refused(tmp_path, "abc", sealed[:SIGNATURE_BYTES] + b"d")
    refused(tmp_path, "a", sealed[:SIGNATURE_BYTES] + b"bcd")


def test_foreign(tmp_path: Path) -> None:
    """What another installation signed is refused."""
    make_keys(tmp_path / "ours")
    refused(tmp_path / "ours", "model/a", Signer(tmp_path / "theirs").seal("model/a", b"payload"))


def test_private_key(tmp_path: Path) -> None:
    """Only the owner reads the private key; keys once made stay, and no draft is left."""
    make_keys(tmp_path / "keys")
    private, public = tmp_path / "keys" / "private", tmp_path / "keys" / "public"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    make_keys(tmp_path / "keys")
    assert (private.read_bytes(), public.read_bytes()) == before
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["private", "public"]


def test_public_key_is_made_again(tmp_path: Path, sealed: bytes) -> None:
    """A public key that was lost is derived from the private one."""
    (tmp_path / "public").unlink()
    make_keys(tmp_path)
    assert Verifier(tmp_path).open("model/a", sealed) == b"payload"


def test_two_processes_agree(tmp_path: Path) -> None:
    """Processes that start at once agree on one pair: each opens what the others sealed."""
    code = (
        "import sys; from pathlib import Path; from services.runtime.signing import Signer\n"
        "sys.stdin.readline(); sys.stdout.buffer.write(Signer(Path(sys.argv[1])).seal('n', sys.argv[2].encode()))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "keys"), f"payload {number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(3)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    sealed = [process.communicate()[0] for process in started]
    opened = [Verifier(tmp_path / "keys").open("n", each) for each in sealed]
    assert opened == [b"payload 0", b"payload 1", b"payload 2"]


def test_second_writer_yields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that finds the key missing, and is then overtaken, takes the other's key."""
    make_keys(tmp_path)
    theirs = (tmp_path / "private").read_bytes()
    looked: list[Path] = []

    def blind(path: Path) -> bool:
        looked.append(path)
        return False

    monkeypatch.setattr(Path, "exists", blind)
    signer = Signer(tmp_path)
    assert looked
    assert (tmp_path / "private").read_bytes() == theirs
    assert Verifier(tmp_path).open("n", signer.seal("n", b"x")) == b"x"


# Artifacts


def test_artifact(tmp_path: Path) -> None:
    """What was written is read, by whoever has the public key alone, and no draft is left."""
    artifacts = Artifacts(tmp_path, "flights")
    artifacts.write("online", 7, b"seven")
    artifacts.write("online", 8, b"eight")
    (tmp_path / "keys" / "private").unlink()
    assert Artifacts(tmp_path, "flights").read("online", 7) == b"seven"
    assert artifacts.read("online", 8) == b"eight"
    folder = tmp_path / "artifacts" / "flights" / "online"
    assert sorted(path.name for path in folder.iterdir()) == ["7.model", "8.model"]


def test_artifact_again(tmp_path: Path) -> None:
    """The same version again gives the same file."""
    artifacts, path = Artifacts(tmp_path, "flights"), tmp_path / "artifacts" / "flights" / "online" / "7.model"
    artifacts.write("online", 7, b"seven")
    first = path.read_bytes()
    artifacts.write("online", 7, b"seven")
    assert path.read_bytes() == first


def test_artifact_pruned(tmp_path: Path) -> None:
    """What was written last stays, whatever its number: a log that begins anew counts from 0 again."""
    artifacts, folder = Artifacts(tmp_path, "flights"), tmp_path / "artifacts" / "flights" / "online"
    for age, version in enumerate([100, 200, 0, 3]):
        artifacts.write("online", version, b"bytes")
        os.utime(folder / f"{version}.model", (age, age))
    artifacts.prune("online", 4)
    assert len(list(folder.iterdir())) == 4
    artifacts.prune("online", 2)
    assert sorted(path.name for path in folder.iterdir()) == ["0.model", "3.model"]
    artifacts.prune("batch", 2)


def test_artifact_missing(tmp_path: Path) -> None:
    """A version that is not there is named, with where it was looked for."""
    artifacts = Artifacts(tmp_path, "flights")
    artifacts.write("online", 7, b"seven")
    with pytest.raises(Stop, match=r"model/flights/online/8: no such version in .*artifacts/flights"):
        artifacts.read("online", 8)


@pytest.mark.parametrize(
    ("stream", "model", "version"), [("flights", "online", 8), ("flights", "batch", 7), ("bikes", "online", 7)]
)
def test_artifact_moved(tmp_path: Path, stream: str, model: str, version: int) -> None:
    """A file under another version, model or stream than it was signed for is refused."""
    Artifacts(tmp_path, "flights").write("online", 7, b"seven")
    there = tmp_path / "artifacts" / stream / model / f"{version}.model"
    there.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "artifacts" / "flights" / "online" / "7.model").rename(there)
    with pytest.raises(Stop, match="not signed by this installation"):
        Artifacts(tmp_path, stream).read(model, version)


@pytest.mark.parametrize("model", ["..", "../online", "a/b", "", ".", "Online", "online\n", "a.b", "-a", "/etc", "ä"])
def test_artifact_names(tmp_path: Path, model: str) -> None:
    """A name that could lead out of the folder is no name, for writing and for reading."""
    artifacts = Artifacts(tmp_path, "flights")
    with pytest.raises(Stop, match="not the name of a model version"):
        artifacts.write(model, 1, b"x")
    with pytest.raises(Stop, match="not the name of a model version"):
        artifacts.read(model, 1)
    assert list(tmp_path.rglob("*.model")) == []


def test_artifact_versions(tmp_path: Path) -> None:
    """A version counts from 0."""
    artifacts = Artifacts(tmp_path, "flights")
    artifacts.write("online", 0, b"none learned")
    assert artifacts.read("online", 0) == b"none learned"
    with pytest.raises(Stop, match="online@-1"):
        artifacts.write("online", -1, b"x")
