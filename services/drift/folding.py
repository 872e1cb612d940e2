"""The folds of one topic, one for each partition, and when the state of each is to be saved.

What is saved is a state with its position: which record it has to be given next. Where it has not been saved yet, or by
other rules, it is folded from the beginning of the log.
"""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from services.runtime.clock import Clock


class Fold(Protocol):
    """What has a state that can be taken and given back."""

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None: ...


AnyFold = TypeVar("AnyFold", bound=Fold)


class Saved(msgspec.Struct, frozen=True):
    """A state by these rules, and the offset of the record that it has to be given next.

    `told` is the offset in `alerts` before which all were delivered.
    """

    rules: str
    next: int
    state: bytes
    told: int = 0


def told(saved: bytes | None) -> int:
    """Return up to where alerts were delivered, by whichever rules they were made."""
    return msgspec.msgpack.decode(saved, type=Saved).told if saved else 0


class Folds(Generic[AnyFold]):
    """The folds that run here. They are forgotten with every new share of the partitions, and taken from what is saved.

    `rules` names what the states depend on; `every_s` is how old a saved state may get while records come.
    """

    def __init__(self, build: Callable[[int], AnyFold], rules: str, every_s: float, clock: Clock) -> None:
        self._build, self._rules, self._every_s, self._clock = build, rules, every_s, clock
        self._folds: dict[int, AnyFold] = {}
        self._next: dict[int, int] = {}
        self._saved: dict[int, float] = {}

    def forget(self) -> None:
        self._folds.clear()
        self._next.clear()
        self._saved.clear()

    def read(self, saved: bytes | None) -> Saved | None:
        """Return what was saved, if it was by these rules."""
        found = msgspec.msgpack.decode(saved, type=Saved) if saved else None
        return found if found is not None and found.rules == self._rules else None

    def open(self, partition: int, saved: bytes | None) -> AnyFold:
        """Return the fold of a partition; the first time, made of what is saved."""
        if partition not in self._folds:
            fold, found = self._build(partition), self.read(saved)
            if found is not None:
                fold.restore(found.state)
            self._folds[partition] = fold
            self._next[partition] = found.next if found else 0
            self._saved[partition] = self._clock.now()
        return self._folds[partition]

    def note(self, partition: int, offset: int) -> None:
        """Note that this record has been folded, and what it made is durable."""
        self._next[partition] = max(self._next[partition], offset + 1)

    def due(self, partition: int) -> bool:
        return self._clock.now() - self._saved[partition] >= self._every_s

    def save(self, partition: int, told: int = 0) -> bytes:
        self._saved[partition] = self._clock.now()
        state = self._folds[partition].snapshot()
        return msgspec.msgpack.encode(Saved(self._rules, self._next[partition], state, told))

    @property
    def positions(self) -> dict[int, int]:
        """Return by partition which record is due next."""
        return dict(self._next)

    @property
    def running(self) -> list[AnyFold]:
        return list(self._folds.values())
