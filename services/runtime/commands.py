"""The records of `<stream>.commands`, by which people steer drift, and what holds by them.

JSON, tagged by `command`. A command holds for all that is decided after it was read, never for what was before.
"""

from fnmatch import fnmatchcase
from typing import TypeAlias

import msgspec

from services.runtime.alerts import Alert


class Silence(msgspec.Struct, frozen=True, tag_field="command", tag="silence"):
    """Record what is seen of these subjects (a glob) and this kind (empty: every one) and tell nobody.

    `until` is a time of the clock on the wall, in µs since 1970; one that has passed ends the silence that was there.
    """

    subject: str
    until: int
    actor: str
    reason: str
    kind: str = ""


class Hold(msgspec.Struct, frozen=True, tag_field="command", tag="hold"):
    """Train nothing for an alert while `held`. Rollout goes on: it moves versions by its own evidence."""

    held: bool
    actor: str
    reason: str


Command: TypeAlias = Silence | Hold
_decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def decode_command(value: bytes) -> Command:
    return _decoder.decode(value)


def command_key(command: Command) -> bytes:
    """Return the key of its record: a compacted topic keeps the newest of each."""
    name = f"silence/{command.subject}/{command.kind}" if isinstance(command, Silence) else "hold"
    return name.encode()


class Orders:
    """The fold of `commands`: the newest of each subject and kind holds."""

    def __init__(self) -> None:
        self._silences: dict[tuple[str, str], Silence] = {}
        self.hold: Hold | None = None

    def fold(self, command: Command) -> None:
        match command:
            case Silence():
                self._silences[command.subject, command.kind] = command
            case Hold():
                self.hold = command

    @property
    def held(self) -> bool:
        return self.hold is not None and self.hold.held

    def silences(self, now: int) -> list[Silence]:
        return [silence for silence in self._silences.values() if silence.until > now]

    def silenced(self, alert: Alert, now: int) -> bool:
        return self.silenced_until(alert) > now

    def silenced_until(self, alert: Alert) -> int:
        """Return until when (µs) nobody is told of an alert; 0 if nobody ever ordered that."""
        meant = (silence for silence in self._silences.values() if silence.kind in ("", alert.kind))
        return max((silence.until for silence in meant if fnmatchcase(alert.subject, silence.subject)), default=0)
