"""Signals become alerts: each raised once, updated when there is news, resolved when calm."""

from typing import Any

import msgspec

from services.drift.alarms import Alarms
from services.drift.signals import Signal
from services.runtime.alerts import Explained, Place


def place(offset: int) -> Place:
    return Place(offset * 10, "s.scored", 0, offset)


def signal(at: int, strength: float = 1.0, *, on: bool = True, calm: bool = False, **more: Any) -> Signal:
    said = {"kind": "features", "subject": "x", "statistic": "psi", "reason": "moved", "since": place(3)} | more
    return msgspec.convert({**said, "on": on, "calm": calm, "strength": strength, "at": place(at)}, Signal)


def events(alarms: Alarms, *signals: Signal) -> list[str]:
    return [alert.event for alert in alarms.fold(signals)]


def test_an_alert_is_raised_once() -> None:
    """However often a monitor is on, there is one alert; and none where it is not on."""
    alarms = Alarms()
    assert events(alarms, signal(4, on=False), signal(4, on=False, calm=True)) == []
    assert events(alarms, *(signal(at) for at in range(5, 30))) == ["raised"]


def test_an_alert_is_updated_when_there_is_news() -> None:
    """Twice the strength that was told last, a graver severity, another name among the first: these are news."""
    alarms = Alarms()
    assert events(alarms, signal(4), signal(5, 1.9), signal(6, 2.0)) == ["raised", "updated"]
    assert events(alarms, signal(7, 3.9), signal(8, 4.0)) == ["updated"]
    assert events(alarms, signal(9, severity="critical"), signal(10, severity="critical")) == ["updated"]
    named = [Explained("y", "psi", 1.0)]
    assert events(alarms, signal(11, features=named), signal(12, features=named)) == ["updated"]


def test_between_on_and_calm_an_alert_stands() -> None:
    """Hysteresis: what is neither on nor calm changes nothing, and calm resolves, once."""
    alarms = Alarms()
    assert events(alarms, signal(4), signal(5, on=False), signal(6)) == ["raised"]
    calm = signal(7, on=False, calm=True, reason="as before")
    (resolved,) = alarms.fold([calm, calm])
    assert (resolved.event, resolved.number, resolved.reason, resolved.at) == ("resolved", 1, "as before", place(7))
    assert not alarms.standing()


def test_ids_are_of_what_and_since_where() -> None:
    """The id says kind, subject, slice and where it began."""
    (first,) = Alarms().fold([signal(4, slice="carrier=DL")])
    assert first.id == "features:x:carrier=DL:0-3"


def test_no_two_alerts_have_one_id() -> None:
    """One that was resolved may have begun where the next one begins, or one after that; a restart changes nothing."""
    alarms, ids = Alarms(), []
    for since in (3, 7, 3, 3, 7):
        ids += [alert.id for alert in alarms.fold([signal(9, since=place(since)), signal(9, on=False, calm=True)])][:1]
        former, alarms = alarms, Alarms()
        alarms.load(*former.state())
    assert ids[0] == "features:x:0-3"
    assert len(set(ids)) == 5


def test_each_subject_has_its_own_alert() -> None:
    """Kind, subject and slice tell alerts apart."""
    alarms = Alarms()
    told = [signal(4), signal(4, subject="y"), signal(4, kind="range"), signal(4, slice="a=b")]
    assert events(alarms, *told) == ["raised"] * 4
    assert len({alert.id for alert in alarms.standing()}) == 4


def test_what_a_whole_tells_its_parts_do_not() -> None:
    """While an alert stands of what is served, none is raised of the same for a model or a slice; others are."""
    alarms, more = Alarms(), {"kind": "loss", "subject": "served"}
    assert events(alarms, signal(4, **more)) == ["raised"]
    assert events(alarms, signal(5, slice="carrier=DL", **more), signal(5, kind="loss", subject="online")) == []
    assert events(alarms, signal(5, kind="calibration", subject="online: too high")) == ["raised"]
    assert events(alarms, signal(6, on=False, calm=True, **more)) == ["resolved"]
    assert events(alarms, signal(7, kind="loss", subject="online")) == ["raised"]
