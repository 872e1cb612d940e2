"""Which ids were there before: those of the latest events, or labels, of a partition, in bounded memory."""

from collections.abc import Sequence


class Repeats:
    """Remembers at least the last `least` new ids and at most twice as many, in two generations.

    When the young one is full it becomes the old one, and the old one is forgotten. What is found is the same however
    a batch is cut.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._young: set[str] = set()
        self._old: set[str] = set()

    def find(self, ids: Sequence[str]) -> list[int]:
        """Take the ids that come next; return, by index, which are repeated."""
        if self._take_all(ids):
            return []
        return [index for index, name in enumerate(ids) if not self._take_all([name])]

    def _take_all(self, ids: Sequence[str]) -> bool:
        """Remember these ids if none of them is repeated and the young generation has room; else change nothing."""
        size = len(self._young) + len(ids)
        if size > self._least or not self._young.isdisjoint(ids) or not self._old.isdisjoint(ids):
            return False
        self._young.update(ids)
        if len(self._young) < size:  # an id is twice among them
            self._young.difference_update(ids)
            return False
        if size == self._least:
            self._young, self._old = set(), self._young
        return True

    def state(self) -> list[list[str]]:
        return [sorted(self._young), sorted(self._old)]

    def load(self, state: Sequence[Sequence[str]]) -> None:
        self._young, self._old = map(set, state)
