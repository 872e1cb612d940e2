"""Keys that others can get at sign nothing and open nothing; those who start at once agree on one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.runtime.errors import Stop
from services.runtime.signing import Signer, Verifier, make_keys
from tests.lessons import EXAMPLES
from tests.unit.test_version_attacks import Model


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
