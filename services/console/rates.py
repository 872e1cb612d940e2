"""How fast a count grows, over the last seconds."""

from collections import deque

WINDOW_MS = 6000  # however often it is looked at: rates of two topics are to be compared


class Rate:
    """A count a second. One that shrinks has begun again: its process or its topic is another."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque()
        self.begun_again = 0

    def look(self, at_ms: float, count: float) -> None:
        if self._looks and count < self._looks[-1][1]:
            self._looks.clear()
            self.begun_again += 1
        self._looks.append((at_ms, count))
        while len(self._looks) > 2 and self._looks[1][0] <= at_ms - WINDOW_MS:  # noqa: PLR2004 - a rate is between two
            self._looks.popleft()

    @property
    def a_second(self) -> float:
        if len(self._looks) < 2:  # noqa: PLR2004
            return 0.0
        (began, first), (ended, last) = self._looks[0], self._looks[-1]
        return (last - first) / (ended - began) * 1000 if ended > began else 0.0
