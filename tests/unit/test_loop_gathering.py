"""A loop that gathers: what comes within some seconds is one batch, and nothing of it is lost or folded twice."""

from collections.abc import Callable, Sequence

import pytest

from services.runtime import loop as runtime_loop
from services.runtime.errors import Retry
from services.runtime.health import Health
from services.runtime.memory import ManualClock, MemorySource
from services.runtime.records import Position, Record
from tests.loops import Place, Recording, Ticking

IN = Position("in", 0)


class Trickle(MemorySource):
    """Has one more value at each poll, or several that are joined by "+", a tenth of a second after the last.

    At poll number `fails` it fails.
    """

    def __init__(self, place: Place, values: Sequence[str], fails: int = 0) -> None:
        super().__init__(place.log)
        self.place, self.values, self.fails, self.polls = place, list(values), fails, 0

    def poll(self, limit: int, timeout: float) -> list[Record]:
        self.polls += 1
        if isinstance(self.place.clock, ManualClock):
            self.place.clock.time += 0.1
        if self.polls == self.fails:
            raise Retry("the broker is away")
        if self.polls > 1 and self.values:
            self.place.put(*self.values.pop(0).split("+"))
        return super().poll(limit, timeout)


class Stopping(ManualClock):
    """Calls back whenever somebody looks at the time."""

    def __init__(self, clock: ManualClock, look: Callable[[], None]) -> None:
        super().__init__()
        self.time, self.look = clock.time, look

    def now(self) -> float:
        self.look()
        return self.time


def batches(place: Place, source: MemorySource, seconds: float = 10, **more: float) -> list[list[bytes]]:
    """Return the outputs of each transaction."""
    sink = Recording(place.log)
    place.loop(sink=sink, source=source, **more).run(timeout=seconds)
    return [values for values, _ in sink.done]


def test_what_comes_within_the_time_is_one_batch(place: Place) -> None:
    """The time runs from the first record on; without it each poll is a batch of its own."""
    assert [len(batch) for batch in batches(place, Trickle(place, "1" * 9), gather_s=0.35)] == [4, 4, 1]
    assert place.committed() == 9
    assert place.out() == [str(n) for n in range(1, 10)]


def test_a_loop_that_does_not_gather_waits_for_nothing(place: Place) -> None:
    assert [len(batch) for batch in batches(place, Trickle(place, "1" * 3))] == [1, 1, 1]


def test_a_batch_has_room_for_so_many(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither more records than a batch may hold are gathered, nor more bytes than are allowed in memory."""
    place.clock = Ticking(None)
    many = Trickle(place, ["1", "1+1+1", "1"])
    assert [len(batch) for batch in batches(place, many, gather_s=100, batch=2)][:2] == [2, 2]
    monkeypatch.setattr(runtime_loop, "GATHERED_BYTES", 6)
    long = Trickle(place, ["100", "100", "100", "100"])
    assert [len(batch) for batch in batches(place, long, gather_s=100)][:2] == [2, 2]


def test_an_error_while_gathering_loses_nothing(place: Place) -> None:
    """What was gathered before it is read again."""
    batches(place, Trickle(place, "12345", fails=4), gather_s=0.35)
    assert (place.out(), place.committed()) == (["1", "3", "6", "10", "15"], 5)


def test_a_stop_ends_the_gathering(place: Place) -> None:
    """What is there by then is folded and committed."""
    source = Trickle(place, "123")
    loop = place.loop(source=source, gather_s=50)
    place.clock = clock = Stopping(place.clock, lambda: loop.stop() if source.polls == 4 else None)
    loop._clock = clock
    loop.run()
    assert (place.out(), place.committed(), source.polls) == (["1", "3", "6"], 3, 4)


def test_gathering_is_no_illness(place: Place) -> None:
    """A poll that is one of many is not said to take long, however long is gathered."""
    health = Health("service", place.clock)
    seen = set()

    class Asking(Trickle):
        def poll(self, limit: int, timeout: float) -> list[Record]:
            seen.add(health.report().status)
            return super().poll(limit, timeout)

    place.loop(source=Asking(place, "1" * 90), gather_s=8, health=health).run(timeout=9)
    assert seen <= {"joining", "ready"}
    assert place.committed() > 60


def test_a_restore_gathers_nothing(place: Place) -> None:
    """What was committed before is folded as it is read: a restart waits for no more of it."""
    place.put(*range(6))
    place.loop().run(count=6)
    place.clock = Ticking(50)
    loop = place.loop(gather_s=1000, batch=2)
    loop.run(timeout=1)
    assert (loop._next, loop._muted) == ({IN: 6}, {})
