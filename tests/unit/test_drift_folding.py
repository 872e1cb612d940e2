"""When a fold's state is saved, and from where it goes on."""

import msgspec

from services.drift.folding import Folds, Saved, told
from services.runtime.clock import Clock


class Playable:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Count:
    def __init__(self) -> None:
        self.n = 0

    def snapshot(self) -> bytes:
        return str(self.n).encode()

    def restore(self, state: bytes) -> None:
        self.n = int(state)


def folds(clock: Clock, rules: str = "r") -> Folds[Count]:
    return Folds(lambda _: Count(), rules, 5.0, clock)


def test_a_state_goes_on_where_it_was_saved() -> None:
    """What is saved has its position: the record after the last that was noted, whatever was saved before."""
    one, other = folds(Playable()), folds(Playable())
    count = one.open(2, None)
    count.n = 7
    one.note(2, 40)
    one.note(2, 12)  # read again
    saved = one.save(2, told=3)
    assert other.open(2, saved).n == 7
    assert other.positions == {2: 41}
    assert told(saved) == 3


def test_a_state_by_other_rules_is_not_gone_on_from() -> None:
    """It is folded from the beginning of the log; what was delivered stays so."""
    one, other = folds(Playable()), folds(Playable(), "other")
    one.open(0, None).n = 7
    one.note(0, 40)
    saved = one.save(0, told=3)
    assert other.read(saved) is None
    assert (other.open(0, saved).n, other.positions) == (0, {0: 0})
    assert told(saved) == 3
    assert told(None) == 0


def test_what_was_forgotten_is_taken_from_what_is_saved() -> None:
    """A fold that ran on in memory goes back to its saved state: its partition may have been another's meanwhile."""
    one = folds(Playable())
    one.open(0, None).n = 7
    saved = one.save(0)
    one.open(0, saved).n = 9
    one.forget()
    assert one.positions == {}
    assert one.open(0, saved).n == 7


def test_a_state_is_due_after_so_long() -> None:
    """From the start on, and again after each save; each partition for itself."""
    clock = Playable()
    one = folds(clock)
    one.open(0, None)
    clock.time = 4.9
    assert not one.due(0)
    one.open(1, None)
    clock.time = 5.0
    assert (one.due(0), one.due(1)) == (True, False)
    assert msgspec.msgpack.decode(one.save(0), type=Saved).next == 0
    assert not one.due(0)
