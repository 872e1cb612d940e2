"""Which alert asks for a training now: a matter of alerts, commands, trainings and event time, not of the clock. Pure.

A training can mend what a model has learned: its loss, its calibration, what it is thought to lose, what it says, and
what it is asked about. It can't mend missing values, values out of range, labels that don't come, or a volume that
fell: there the sender is at fault, or the world is quiet, and a model trained on that would learn the fault. Nor does
it ask that what is served, or what the batch model says, whichever version that is, has another distribution: every
promotion does that, and would ask for the next.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from services.runtime.alerts import Alert, Kind
from services.runtime.commands import Orders
from services.runtime.grammar import BatchRule
from services.runtime.models import BATCH

MENDED: tuple[Kind, ...] = ("loss", "calibration", "estimate", "predictions", "joint", "features")  # the surest first
OURS = ("served", BATCH)  # whose predictions change by what we do
DAY_US = 86_400_000_000
Count = Callable[[int, int | None], int]  # labelled rows from an event time on, to another and with it if one is given


def can_mend(alert: Alert) -> bool:
    """Return whether a training can mend this."""
    return alert.kind in MENDED and not (alert.kind == "predictions" and alert.subject in OURS)


class Alerts:
    """What stands, and, in `orders`, whether people hold trainings back: the fold of `alerts` and `commands`."""

    def __init__(self) -> None:
        self._standing: dict[str, Alert] = {}
        self._resolved: set[str] = set()
        self.orders = Orders()

    def fold(self, alert: Alert) -> None:
        known = self._standing.get(alert.id)
        if alert.id in self._resolved or (known is not None and known.number >= alert.number):
            return
        if alert.event == "resolved":
            self._resolved.add(alert.id)
            self._standing.pop(alert.id, None)
        else:
            self._standing[alert.id] = alert

    def standing(self) -> list[Alert]:
        """Return what may ask for a training, who asks first before the others."""
        asking = [alert for alert in self._standing.values() if not alert.silenced and can_mend(alert)]
        return sorted(asking, key=lambda alert: (alert.severity != "critical", MENDED.index(alert.kind)))


def since(alert: Alert) -> int:
    """Return the event time from which on examples are of the new world."""
    return alert.since.time if alert.retrain_from is None else alert.retrain_from


def may_ask(rule: BatchRule | None, alerts: Alerts, done: Mapping[str, int]) -> bool:
    """Return whether an alert stands that may ask for a training, now or when more examples have come."""
    wanted = rule is not None and rule.on_alert and not alerts.orders.held
    return wanted and any(alert.id not in done for alert in alerts.standing())


def asked(
    rule: BatchRule | None,
    alerts: Alerts,
    done: Mapping[str, int],
    newest: int | None,
    count: Count,
    given_up: Iterable[str] = (),
) -> Alert | None:
    """Return the alert for which a training is to begin now, if any. `newest` is the table's newest event time.

    `done` has the alerts for which there was a training, each with the newest event time that it saw.
    Each alert has one training, and none if one for another has seen enough of what came after its change.
    """
    if rule is None or not rule.on_alert or newest is None or alerts.orders.held:
        return None
    standing = [alert for alert in alerts.standing() if alert.id not in given_up]
    if not standing or not _may(rule, list(done.values()), newest):
        return None
    return next((alert for alert in standing if _asks(rule, alert, done, count)), None)


def _may(rule: BatchRule, done: Sequence[int], newest: int) -> bool:
    """Whether the day's budget and the cool-down allow one more; `done` are the newest event times of those before."""
    within = sum(newest - DAY_US < time <= newest for time in done)
    return within < rule.alerts_per_day and all(abs(newest - time) >= rule.cool_down.us for time in done)


def _asks(rule: BatchRule, alert: Alert, done: Mapping[str, int], count: Count) -> bool:
    if alert.id in done or count(since(alert), None) < rule.alert_examples:
        return False
    return all(count(since(alert), time) < rule.alert_examples for time in done.values() if time >= since(alert))
