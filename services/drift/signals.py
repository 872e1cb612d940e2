"""What monitors say, summary by summary; alerts are made of it: raised once, updated, resolved."""

import msgspec

from services.runtime.alerts import Explained, Kind, Place, Severity
from services.runtime.summaries import Source


class Signal(msgspec.Struct, frozen=True):
    """What a monitor says of one subject at the end of one summary.

    It is `on` where the evidence is beyond what chance gives at the promised rate of false alarms, and `calm` where it
    is what it is without a change: between the two, an alert that stands stands on. A monitor that has nothing to say
    of a subject that is not on says nothing.
    """

    kind: Kind
    subject: str
    on: bool
    calm: bool
    at: Place
    since: Place
    statistic: str
    strength: float
    reason: str
    severity: Severity = "warning"
    slice: str = ""
    features: list[Explained] = []
    slices: list[Explained] = []
    lost: float | None = None
    retrain_from: int | None = None


def calm(kind: Kind, subject: str, source: Source, statistic: str, strength: float, reason: str) -> Signal:
    """Return the signal that ends an alert at the end of a summary."""
    at = source.end
    return Signal(
        kind, subject, on=False, calm=True, at=at, since=at, statistic=statistic, strength=strength, reason=reason
    )
