"""Signals become alerts: raised once, updated when there is news, resolved when calm.

There is news when an alert has grown to twice as strong as was told last, or is graver, or what explains it most is
something else. Between `on` and `calm` an alert stands as it stood: that is the hysteresis, the monitors' own. While
one stands of what is served, none is raised of the same for one of the models or slices that it is made of.
"""

from collections.abc import Sequence

import msgspec

from services.drift.signals import Signal
from services.runtime.alerts import Alert

GROWN = 2.0
NAMED = 3  # features or slices whose names are news


class Alarms:
    """The alerts that stand, by what they are of, and how many there have been of each."""

    def __init__(self) -> None:
        self._standing: dict[str, Alert] = {}
        self._raised: dict[str, int] = {}

    def fold(self, signals: Sequence[Signal]) -> list[Alert]:
        return [alert for signal in signals if (alert := self._fold(signal))]

    def standing(self) -> list[Alert]:
        return list(self._standing.values())

    def _fold(self, signal: Signal) -> Alert | None:
        subject = f"{signal.kind}:{signal.subject}" + (f":{signal.slice}" if signal.slice else "")
        standing = self._standing.get(subject)
        if standing is None:
            return self._raise(subject, signal) if signal.on and not self._is_part(subject, signal) else None
        if signal.calm:
            del self._standing[subject]
            return self._next(standing, signal, resolved=True)
        if signal.on and _is_news(standing, signal):
            self._standing[subject] = self._next(standing, signal, resolved=False)
            return self._standing[subject]
        return None

    def _is_part(self, subject: str, signal: Signal) -> bool:
        """Say whether it is of one model or slice, while the same stands of all that is served."""
        _, _, way = signal.subject.partition(": ")
        whole = f"{signal.kind}:served" + (f": {way}" if way else "")
        return whole != subject and whole in self._standing

    def _raise(self, subject: str, signal: Signal) -> Alert:
        name = f"{subject}:{signal.since.partition}-{signal.since.offset}"
        count = self._raised[subject] = self._raised.get(subject, 0) + 1
        if count > 1:  # one that was resolved may have begun at the same place
            name += f"-{count}"
        self._standing[subject] = Alert(
            name,
            0,
            "raised",
            signal.kind,
            signal.subject,
            signal.severity,
            signal.since,
            signal.at,
            signal.statistic,
            signal.strength,
            signal.reason,
            signal.slice,
            signal.features,
            signal.slices,
            signal.lost,
            signal.retrain_from,
        )
        return self._standing[subject]

    def _next(self, alert: Alert, signal: Signal, *, resolved: bool) -> Alert:
        changes = {"number": alert.number + 1, "at": signal.at, "reason": signal.reason}
        if resolved:
            return msgspec.structs.replace(alert, event="resolved", **changes)
        told = {name: getattr(signal, name) for name in ("severity", "statistic", "strength", "features", "slices")}
        if signal.lost is not None:
            told["lost"] = signal.lost
        return msgspec.structs.replace(alert, event="updated", **changes, **told)

    # Snapshots

    def state(self) -> tuple[dict[str, Alert], dict[str, int]]:
        return self._standing, self._raised

    def load(self, standing: dict[str, Alert], raised: dict[str, int]) -> None:
        self._standing, self._raised = standing, raised


def _is_news(told: Alert, signal: Signal) -> bool:
    grown = signal.statistic == told.statistic and signal.strength >= GROWN * told.strength
    graver = signal.severity == "critical" and told.severity == "warning"
    return grown or graver or _named(signal) != _named(told)


def _named(one: Alert | Signal) -> set[str]:
    return {explained.name for explained in [*one.features[:NAMED], *one.slices[:NAMED]]}
