"""What people say by commands, and what holds by it."""

import msgspec
import pytest

from services.runtime.alerts import Alert, Kind, Place
from services.runtime.commands import Hold, Orders, Silence, decode_command

PLACE = Place(0, "s.scored", 0, 0)


def alert(subject: str = "dest=ORD", kind: Kind = "features") -> Alert:
    return Alert("a", 0, "raised", kind, subject, "warning", PLACE, PLACE, "psi", 1.0, "it has changed")


def silence(subject: str, until: int, kind: str = "") -> Silence:
    return Silence(subject, until, "ada", "known", kind)


@pytest.mark.parametrize("command", [silence("x*", 5), Hold(held=True, actor="ada", reason="a fair")])
def test_a_command_comes_back_as_it_went(command: Silence | Hold) -> None:
    """JSON, with what it is under `command`."""
    value = msgspec.json.encode(command)
    assert msgspec.json.decode(value)["command"] == type(command).__name__.lower()
    assert decode_command(value) == command


@pytest.mark.parametrize(
    ("said", "silenced"),
    [
        (silence("dest=ORD", 10), True),
        (silence("dest=*", 10), True),
        (silence("*", 10, "features"), True),
        (silence("*", 10, "loss"), False),
        (silence("DEST=*", 10), False),
        (silence("dest", 10), False),
        (silence("dest=*", 9), False),
    ],
)
def test_a_silence_is_of_a_subject_and_a_kind_until_a_time(said: Silence, silenced: bool) -> None:  # noqa: FBT001
    """A glob over the subject, in its case; at the time `until` it is over."""
    orders = Orders()
    orders.fold(said)
    assert orders.silenced(alert(), 9) is silenced


def test_the_newest_of_a_subject_and_kind_holds() -> None:
    """A silence is ended by one that is over already; another kind's goes on."""
    orders = Orders()
    for said in (silence("*", 10), silence("*", 10, "loss"), silence("*", 0)):
        orders.fold(said)
    assert not orders.silenced(alert(), 1)
    assert orders.silenced(alert(kind="loss"), 1)
    assert orders.silences(1) == [silence("*", 10, "loss")]


def test_nothing_is_held_until_somebody_says_so() -> None:
    """And no longer than until somebody says so."""
    orders, seen = Orders(), []
    for held in (True, False):
        seen.append(orders.held)
        orders.fold(Hold(held=held, actor="ada", reason="a fair"))
    assert (*seen, orders.held) == (False, True, False)
