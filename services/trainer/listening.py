"""What the trainer hears beside `examples`: alerts, and what people command."""

from collections.abc import Callable, Sequence
from typing import Protocol

from services.runtime.alerts import Alert, decode_alert
from services.runtime.commands import decode_command
from services.runtime.errors import Retry
from services.runtime.records import Record
from services.runtime.waiting import Wait
from services.trainer.asking import Alerts


class Topic(Protocol):
    """The records of a topic of one partition, in order, each once."""

    def new(self) -> Sequence[Record]:
        """Return what has come."""

    def rest(self) -> Sequence[Record]:
        """Return what is new, up to where the topic ends now; Retry while that can't be had."""


class Listening:
    """Knows what stands and what is held. Before something is done about it, both topics are read to their ends."""

    def __init__(self, alerts: Topic, commands: Topic, wait: Wait) -> None:
        self._alerts, self._commands, self._wait = alerts, commands, wait
        self._known = Alerts()

    def heard(self, ask: Callable[[Alerts], Alert | None]) -> Alert | None:
        """Return what `ask` answers to all that was said until now; None while that can't be read."""
        self._note(self._alerts.new(), self._commands.new())
        if ask(self._known) is None:
            return None
        try:
            self._note(self._alerts.rest(), self._commands.rest())
        except Retry as error:
            self._wait.note(str(error))
            return None
        self._wait.over()
        return ask(self._known)

    def _note(self, alerts: Sequence[Record], commands: Sequence[Record]) -> None:
        for record in alerts:
            self._known.fold(decode_alert(record.value))
        for record in commands:
            self._known.orders.fold(decode_command(record.value))
