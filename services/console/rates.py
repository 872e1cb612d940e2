"""How fast a count grows, over the last few looks at it."""

from collections import deque

LOOKS = 6


class Rate:
    """A count a second. One that shrinks has begun again: its process or its topic is another."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, float]] = deque(maxlen=LOOKS)
        self.begun_again = 0

    def look(self, at_ms: float, count: float) -> None:
        if self._looks and count < self._looks[-1][1]:
            self._looks.clear()
            self.begun_again += 1
        self._looks.append((at_ms, count))

    @property
    def a_second(self) -> float:
        if len(self._looks) < 2:  # noqa: PLR2004 - a rate is between two looks
            return 0.0
        (began, first), (ended, last) = self._looks[0], self._looks[-1]
        return (last - first) / (ended - began) * 1000 if ended > began else 0.0
