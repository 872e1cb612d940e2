"""The alerts that stand, the newest that are over, and what people ordered of them. Pure."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from services.runtime.alerts import Alert, decode_alert
from services.runtime.commands import Orders, decode_command
from services.runtime.records import Record

RECENT = 50
KEPT = 1_000  # alerts that stand, or are among the newest


class Alarms:
    """Folds `alerts` and `commands`."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, Alert] = OrderedDict()
        self.orders = Orders()

    def fold(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                alert = decode_alert(record.value)
            except msgspec.MsgspecError:  # of another version of the service
                continue
            before = self._newest.get(alert.id)
            if before is None or alert.number > before.number:
                self._newest[alert.id] = alert
                self._newest.move_to_end(alert.id)
        while len(self._newest) > KEPT:
            self._newest.popitem(last=False)

    def obey(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                self.orders.fold(decode_command(record.value))
            except msgspec.MsgspecError:
                continue

    def find(self, name: str) -> Alert | None:
        return self._newest.get(name)

    def view(self) -> dict[str, Any]:
        """Return all of it; `silenced_until` (µs, or 0) is by what people have ordered since an alert was written."""
        newest = list(reversed(self._newest.values()))
        hold = self.orders.hold
        return {
            "open": [
                msgspec.to_builtins(alert) | {"silenced_until": self.orders.silenced_until(alert)}
                for alert in newest
                if alert.event != "resolved"
            ],
            "recent": [alert for alert in newest if alert.event == "resolved"][:RECENT],
            "hold": hold if hold is not None and hold.held else None,
            "silences": self.orders.silences(0),
        }
