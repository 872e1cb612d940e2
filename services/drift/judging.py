"""Alerts become records of `alerts`, each once: what is there already is left out when a fold makes it again.

A fold makes the same alerts again after a crash, as it goes on from a state that was saved before. So before the first
is written, all that is in the topic is read.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from services.runtime.alerts import Alert, decode_alert
from services.runtime.commands import Command, Orders, decode_command
from services.runtime.records import Outgoing, Record
from services.runtime.stream import Stream


class Log(Protocol):
    """The records of a topic of one partition, in order, each once."""

    def new(self) -> Sequence[Record]: ...

    def rest(self) -> Sequence[Record]:
        """Return what is new, up to where the topic ends now; Retry while that can't be had."""


class Receiver(Protocol):
    """Whoever tells people."""

    def add(self, offset: int, alert: Alert) -> None:
        """Take an alert that is written at this offset of `alerts`."""


class Judge:
    """Knows what was written, and what people have silenced. The topics are read on threads: nothing waits for them."""

    def __init__(self, stream: Stream, alerts: Log, commands: Log) -> None:
        self._topic, self._alerts, self._commands = stream.topic("alerts"), alerts, commands
        self._written: set[tuple[str, int]] = set()
        self._reading = asyncio.Lock()
        self.ready = False
        self.orders = Orders()
        self.newest: dict[str, Alert] = {}  # of each that is not resolved, by id

    def forget(self) -> None:
        """Read again before anything is written: others may have written since."""
        self.ready = False

    async def catch_up(self, receiver: Receiver, told: int) -> None:
        """Read `alerts` and `commands` to their ends; whoever tells people gets what is new from offset `told` on."""
        async with self._reading:
            self._obey(await asyncio.to_thread(self._commands.rest))
            for record in await asyncio.to_thread(self._alerts.rest):
                alert = decode_alert(record.value)
                if (alert.id, alert.number) not in self._written:
                    self.wrote(alert)
                    if record.offset >= told:
                        receiver.add(record.offset, alert)
        self.ready = True

    async def fresh(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Return those that are not written yet, silenced where a person has said so by now."""
        if not alerts:
            return []
        async with self._reading:
            self._obey(await asyncio.to_thread(self._commands.rest))
        now = _now()
        due = [alert for alert in alerts if (alert.id, alert.number) not in self._written]
        return [msgspec.structs.replace(alert, silenced=self.orders.silenced(alert, now)) for alert in due]

    def record(self, alert: Alert) -> Outgoing:
        return Outgoing(self._topic, msgspec.json.encode(alert), alert.key)

    def wrote(self, alert: Alert) -> None:
        self._written.add((alert.id, alert.number))
        if alert.event == "resolved":
            self.newest.pop(alert.id, None)
        else:
            self.newest[alert.id] = alert

    async def obey(self) -> None:
        """Read what people have said since."""
        if not self._reading.locked():
            async with self._reading:
                self._obey(await asyncio.to_thread(self._commands.new))

    def told(self) -> list[Command]:
        """Return the commands that hold."""
        silences: list[Command] = [*self.orders.silences(_now())]
        return [*silences, self.orders.hold] if self.orders.hold is not None else silences

    def standing(self) -> list[Alert]:
        """Return what is not resolved and nobody has silenced."""
        now = _now()
        return [alert for alert in self.newest.values() if not self.orders.silenced(alert, now)]

    def _obey(self, records: Sequence[Record]) -> None:
        for record in records:
            self.orders.fold(decode_command(record.value))


def _now() -> int:
    """Return the time on the wall, in µs since 1970."""
    return time.time_ns() // 1000
