"""What became of each alert of a run, as its log tells: what was trained for it, where that got to, if it is over."""

from contextlib import suppress

import msgspec

from services.runtime.alerts import Alert, decode_alert
from services.runtime.errors import Retry
from services.runtime.kafka import Tail
from services.runtime.models import BATCH, Event, Moved, Registered, decode_event
from services.runtime.settings import Settings
from services.runtime.stream import Stream

MANY = 1000


class Repair(msgspec.Struct):
    """An alert, and what was done about it. Times are event times, in µs since 1970; `lost` is in nats an event."""

    alert: str
    kind: str
    subject: str
    reason: str
    since: int
    raised: int
    lost: float | None = None
    versions: dict[str, list[str]] = {}  # by name: the states that it has come to, in order
    resolved: int | None = None


class Repairs:
    """Reads `alerts` and `models` from their beginning; `read` takes what is new."""

    def __init__(self, settings: Settings, stream: Stream) -> None:
        self._alerts = Tail(settings, stream.topic("alerts"), from_beginning=True)
        self._models = Tail(settings, stream.topic("models"), from_beginning=True)
        self.found: dict[str, Repair] = {}  # by the alert's id, as they were raised
        self._for: dict[int, str] = {}  # the alert that a version is for
        self._versions: dict[str, dict[str, list[str]]] = {}  # by alert, which may be read of after its version

    def read(self) -> None:
        with suppress(Retry):  # the next call has it
            for record in self._alerts.poll(MANY, 0.0):
                self._alert(decode_alert(record.value))
            for record in self._models.poll(MANY, 0.0):
                self._event(decode_event(record.value))

    def close(self) -> None:
        self._alerts.close()
        self._models.close()

    def _alert(self, alert: Alert) -> None:
        versions = self._versions.setdefault(alert.id, {})
        parts = alert.kind, alert.subject, alert.reason, alert.since.time, alert.at.time
        repair = self.found.setdefault(alert.id, Repair(alert.id, *parts, versions=versions))
        repair.lost = alert.lost if alert.lost is not None else repair.lost
        if alert.event == "resolved":
            repair.resolved = alert.at.time

    def _event(self, event: Event) -> None:
        if isinstance(event, Registered) and event.alert is not None:
            self._for[event.version] = event.alert
        if isinstance(event, Registered | Moved) and event.version in self._for:
            of = self._versions.setdefault(self._for[event.version], {})
            state = event.state if isinstance(event, Moved) else "registered"
            of.setdefault(f"{BATCH}@{event.version}", []).append(state)


class Told:
    """What the live line says of the newest alert: which, the newest version for it and its state, whether it is over.

    Empty before the first.
    """

    def __init__(self, repairs: Repairs) -> None:
        self._repairs = repairs

    def __call__(self) -> str:
        self._repairs.read()
        if not self._repairs.found:
            return ""
        repair = list(self._repairs.found.values())[-1]
        version = "".join(f", {name} {states[-1]}" for name, states in list(repair.versions.items())[-1:])
        return f"  alert {repair.alert}{version}{', resolved' if repair.resolved is not None else ''}"


def line(repair: Repair) -> str:
    """Say it in a line."""
    versions = "; ".join(f"{name} {' → '.join(states)}" for name, states in repair.versions.items())
    end = "resolved" if repair.resolved is not None else "stands"
    return f"alert {repair.alert}: {repair.reason}; {versions or 'nothing was trained for it'}; {end}"
