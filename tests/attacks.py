"""Crafted attacks: what is done to a file that an installation signed, and pickles that would run code.

What a bomb does is real: it makes a file, the canary. `explodes` shows that of each, without the list.
"""

import os
import pickle
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import IOBase
from pathlib import Path
from typing import Any

import numpy as np
from river import compose, linear_model

FAR = 1 << 40  # bytes of a file that has no more than a hole


@dataclass(frozen=True)
class Target:
    """The file under attack, good so far, and what an attacker may have besides; its first bytes are a signature."""

    path: Path
    signature: int
    older: bytes  # the file of an older version or snapshot of the same place
    elsewhere: bytes  # that of another stream, with the same number
    other_kind: bytes  # that of another model, service or partition
    stolen: bytes  # that of another installation
    resigned: bytes  # the same content, signed by another installation under the same name

    @property
    def good(self) -> bytes:
        return self.path.read_bytes()

    def replace(self, content: bytes) -> None:
        self.path.write_bytes(content)

    def clear(self) -> None:
        self.path.unlink()


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def a_pipe(target: Target) -> None:
    target.clear()
    os.mkfifo(target.path)


def a_link_to_itself_elsewhere(target: Target) -> None:
    target.path.rename(moved := target.path.with_name("moved"))
    target.path.symlink_to(moved)


def a_link_without_end(target: Target) -> None:
    target.clear()
    target.path.symlink_to("/dev/zero")


def a_folder(target: Target) -> None:
    target.clear()
    target.path.mkdir()


FILES: dict[str, Callable[[Target], None]] = {
    "stolen": lambda target: target.replace(target.stolen),
    "signed again with another key": lambda target: target.replace(target.resigned),
    "truncated": lambda target: target.replace(target.good[:-1]),
    "cut in the signature": lambda target: target.replace(target.good[: target.signature // 2]),
    "a signature of nothing": lambda target: target.replace(target.good[: target.signature]),
    "emptied": lambda target: target.replace(b""),
    "a bit flipped": lambda target: target.replace(flipped(target.good, -1)),
    "a bit of the signature flipped": lambda target: target.replace(flipped(target.good, 3)),
    "appended to": lambda target: target.replace(target.good + b"\0"),
    "no signature": lambda target: target.replace(target.good[target.signature :]),
    "the signature of another file": lambda target: target.replace(
        target.older[: target.signature] + target.good[target.signature :]
    ),
    "an older one under a new name": lambda target: target.replace(target.older),
    "of another stream": lambda target: target.replace(target.elsewhere),
    "of another kind": lambda target: target.replace(target.other_kind),
    "a terabyte": lambda target: os.truncate(target.path, FAR),
    "a pipe": a_pipe,
    "a link": a_link_to_itself_elsewhere,
    "a link without end": a_link_without_end,
    "a folder": a_folder,
}


# Pickles that run code, to be signed with the right key


class Bomb:
    """An object whose unpickling is a call."""

    def __init__(self, call: Callable[..., Any], *given: Any) -> None:
        self._call, self._given = call, given

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call, self._given


def _in_a_model(bomb: Bomb) -> compose.Pipeline:
    """Hide it in an attribute of a model that is good otherwise."""
    model = compose.Pipeline(linear_model.LogisticRegression())
    model.learn_one({"x": 1.0}, True)  # noqa: FBT003 - the label
    model["LogisticRegression"].note = [{"deep": bomb}]
    return model


def _opcodes(*lines: bytes) -> bytes:
    return b"".join(lines)


def bombs(canary: Path) -> dict[str, bytes]:
    """Return pickles that make the canary when they are unpickled."""
    shell, code = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    made: dict[str, Any] = {
        "os.system": Bomb(os.system, shell),
        "eval": Bomb(eval, code),
        "exec": Bomb(exec, code),
        "subprocess": Bomb(subprocess.check_call, ["touch", str(canary)]),
        "open": Bomb(open, str(canary), "w"),
        "a method of a path": Bomb(Path.touch, canary),
        "numpy's file writer": Bomb(np.save, str(canary), np.zeros(1)),
        "a partial": Bomb(partial(os.system, shell)),
        "in a model": _in_a_model(Bomb(os.system, shell)),
        "in a state": (_in_a_model(Bomb(os.system, shell)), 1, 0, 0.0, ()),
    }
    return {name: pickle.dumps(bomb, protocol=5) for name, bomb in made.items()} | {
        "an old pickle": _opcodes(b"cos\nsystem\n(S'", shell.encode(), b"'\ntR."),
        "an instance": _opcodes(b"(S'", shell.encode(), b"'\nios\nsystem\n."),
        "an attribute of a module": _opcodes(
            *(b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'", shell.encode(), b"'\ntR.")
        ),
        "through a function's globals": _opcodes(
            b"\x80\x04\x8c\x1driver.linear_model.perceptron\x8c\x1fPerceptron.__init__.__globals__\x93",
            *(b"\x8c\x08builtins\x8c\x04exec\x93(S'", code.replace("'", '"').encode(), b"'\ntR."),
        ),
    }


def explodes(bomb: bytes, canary: Path) -> bool:
    """Unpickle it as anybody would, and clean up; say whether the canary was there."""
    made = pickle.loads(bomb)  # noqa: S301 - that is what is shown
    if isinstance(made, IOBase):
        made.close()
    exploded = bombed(canary)
    for left in canary.parent.glob(f"{canary.name}*"):
        left.unlink()
    return exploded


def bombed(canary: Path) -> bool:
    return any(canary.parent.glob(f"{canary.name}*"))
