"""Alerts for tests of what is done about them."""

import msgspec

from services.runtime.alerts import Alert, Place
from tests.stored import HOUR


def alert(name: str = "loss-1", **more: object) -> Alert:
    """Return an alert on the loss, raised, of a change at hour 10."""
    place = Place(10 * HOUR, "made.examples", 0, 10)
    made = Alert(name, 0, "raised", "loss", "online", "critical", place, place, "adwin", 1.0, "it is worse")
    return msgspec.structs.replace(made, **more)


def resolved(raised: Alert) -> Alert:
    return msgspec.structs.replace(raised, number=raised.number + 1, event="resolved")
