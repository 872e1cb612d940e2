"""Where the rows of an id are: a hash table of row numbers, open-addressed, of 6 to 11 bytes a row.

The hashes themselves stand in a column of the caller's. An equal hash is not yet an equal id: that is the caller's to
see. Several rows may have one hash, so all that a search may mean are found.
"""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., object])
compiled: Callable[[Function], Function] = njit(cache=True)

SMALLEST = 1024  # places; always a power of two
FULLEST = 0.7  # of the places are taken before they are doubled
FREE = -1


class Index:
    """Finds slots, numbers below 2**31, by the hash that `hashes[slot]` holds while the slot is in the index."""

    def __init__(self) -> None:
        self._places = np.full(SMALLEST, FREE, np.int32)
        self._count = 0

    def insert(self, hashes: Ints, slots: Ints) -> None:
        """Take slots that are not here yet."""
        self._count += len(slots)
        if self._count > FULLEST * len(self._places):
            self._grow(hashes)
        _insert(self._places, hashes, slots)

    def remove(self, hashes: Ints, slots: Ints) -> None:
        """Let slots go that are here."""
        self._count -= len(slots)
        _remove(self._places, hashes, slots)

    def find(self, hashes: Ints, wanted: Ints) -> tuple[Ints, Ints]:
        """Return pairs of an index into `wanted` and a slot of that hash, the former in order."""
        found: tuple[Ints, Ints] = _find(self._places, hashes, wanted)
        return found

    def _grow(self, hashes: Ints) -> None:
        size, held = len(self._places), self._places[self._places != FREE].astype(np.int64)
        while self._count > FULLEST * size:
            size *= 2
        self._places = np.full(size, FREE, np.int32)
        _insert(self._places, hashes, held)


def warm_up() -> None:
    """Compile what is compiled, or load it from its cache, before the first row waits for that."""
    index, none = Index(), np.zeros(0, np.int64)
    index.insert(none, none)
    index.remove(none, none)
    index.find(none, none)


@compiled
def _insert(places: NDArray[np.int32], hashes: Ints, slots: Ints) -> None:
    mask = len(places) - 1
    for slot in slots:
        at = hashes[slot] & mask
        while places[at] != FREE:
            at = (at + 1) & mask
        places[at] = slot


@compiled
def _remove(places: NDArray[np.int32], hashes: Ints, slots: Ints) -> None:
    """Empty a place, and move back into it what a search would no longer reach (Knuth, 6.4, algorithm R)."""
    mask = len(places) - 1
    for slot in slots:
        hole = hashes[slot] & mask
        while places[hole] != slot:
            hole = (hole + 1) & mask
        at = (hole + 1) & mask
        while places[at] != FREE:
            home = hashes[places[at]] & mask
            if ((at - home) & mask) >= ((at - hole) & mask):
                places[hole] = places[at]
                hole = at
            at = (at + 1) & mask
        places[hole] = FREE


@compiled
def _find(places: NDArray[np.int32], hashes: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    which, slots = np.empty(len(wanted), np.int64), np.empty(len(wanted), np.int64)
    mask, count = len(places) - 1, 0
    for i in range(len(wanted)):
        at = wanted[i] & mask
        while places[at] != FREE:
            if hashes[places[at]] == wanted[i]:
                if count == len(which):
                    which, slots = np.append(which, which), np.append(slots, slots)
                which[count], slots[count] = i, places[at]
                count += 1
            at = (at + 1) & mask
    return which[:count], slots[:count]
