"""Labels that came before their rows."""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

import msgspec

SPARE = 1000  # ends of waits that may be kept although the label has met its row


class Label(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A label. Times are microseconds since 1970; `clock` is the labels' clock when it was read, itself included."""

    id: str
    time: int
    offset: int
    value: float
    clock: int


class Early:
    """Labels that wait for a row, by the hash of their id; `patience` is in microseconds after a label's time."""

    def __init__(self, patience: int, hashed: Callable[[str], int]) -> None:
        self._patience, self._hashed = patience, hashed
        self._labels: dict[int, list[Label]] = {}
        self._ends: list[tuple[int, int, str]] = []  # (time, offset, id) of these, and of some that went meanwhile
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Label]:
        return (label for labels in self._labels.values() for label in labels)

    def __contains__(self, key: int) -> bool:
        """Whether a label waits whose id has this hash."""
        return key in self._labels

    def add(self, label: Label) -> None:
        self._labels.setdefault(self._hashed(label.id), []).append(label)
        self._count += 1
        heappush(self._ends, (label.time, label.offset, label.id))

    def first(self, name: str, fits: Callable[[Label], bool]) -> Label | None:
        """Return the one of this id that fits and stands first in its log."""
        there = self._labels.get(self._hashed(name), ())
        fitting = (label for label in there if label.id == name and fits(label))
        return min(fitting, key=lambda label: label.offset, default=None)

    def take(self, label: Label) -> None:
        """Let it go before its wait is over."""
        self._remove(label)
        if len(self._ends) > 2 * self._count + SPARE:
            self._ends = sorted((label.time, label.offset, label.id) for label in self)

    def end(self, clock: int) -> int:
        """Let those go whose wait is over by this clock of the rows; return how many these were."""
        before = self._count
        while self._ends and self._ends[0][0] + self._patience < clock:
            _, offset, name = heappop(self._ends)
            for label in [label for label in self._labels.get(self._hashed(name), ()) if label.offset == offset]:
                self._remove(label)
        return before - self._count

    def _remove(self, label: Label) -> None:
        key = self._hashed(label.id)
        left = [other for other in self._labels[key] if other is not label]
        self._count -= 1
        if left:
            self._labels[key] = left
        else:
            del self._labels[key]

    def sorted(self) -> list[Label]:
        return sorted(self, key=lambda label: label.offset)
