"""What a person may decide on the page: the same records that the command line writes, one at a time."""

import logging
import re
import threading
import time

import msgspec

from services.console.letters import Letters
from services.console.picture import Picture
from services.runtime.commands import Command, Hold, Silence, command_key
from services.runtime.decisions import Moves, decide, promotion, retirement, rollback
from services.runtime.models import BATCH, Moved
from services.runtime.records import Outgoing
from services.runtime.settings import Settings
from services.runtime.stream import Stream
from services.runtime.transactions import Transactions

log = logging.getLogger(__name__)
US_OF_AN_HOUR = 3_600_000_000


class Acts:
    """Does it, as `actor`; ValueError says why it can't be done, Stop and Retry what is in its way."""

    def __init__(self, stream: Stream, settings: Settings, picture: Picture, letters: Letters, actor: str) -> None:
        self._stream, self._settings, self._picture = stream, settings, picture
        self._letters, self._actor = letters, actor
        self._one = threading.Lock()

    def promote(self, name: str, reason: str) -> list[Moved]:
        return self._decide(promotion(_version(name), self._actor, reason))

    def retire(self, name: str, reason: str) -> list[Moved]:
        return self._decide(retirement(_version(name), self._actor, reason))

    def rollback(self, name: str, reason: str) -> list[Moved]:
        """Retire the champion, which must be the one that was looked at."""
        if self._picture.ask(lambda core: core.versions.champion) != _version(name):
            raise ValueError(f"{name} is not the champion, and only a champion is rolled back")
        return self._decide(rollback(self._actor, reason))

    def silence(self, alert_id: str, hours: float, reason: str) -> Silence | None:
        """Tell nobody of the alert's subject and kind for so long, 0: again; None if there is no such alert."""
        alert = self._picture.ask(lambda core: core.alarms.find(alert_id))
        if alert is None:
            return None
        until = time.time_ns() // 1000 + round(hours * US_OF_AN_HOUR)
        silence = Silence(alert.subject, until, self._actor, reason, alert.kind)
        self._command(silence)
        return silence

    def hold(self, reason: str, *, on: bool) -> Hold:
        hold = Hold(on, self._actor, reason)
        self._command(hold)
        return hold

    def replay(self, partition: int, offset: int, fixed: str | None) -> str | None:
        with self._one:
            return self._letters.replay(partition, offset, fixed)

    def _decide(self, moves: Moves) -> list[Moved]:
        with self._one:
            made, _ = decide(self._stream, self._settings, moves)
        for moved in made:
            log.info("to %s: %s@%d is %s", self._stream.topic("models"), moved.model, moved.version, moved.state)
        return list(made)

    def _command(self, command: Command) -> None:
        topic = self._stream.topic("commands")
        with self._one:
            Transactions(self._settings, topic).write(
                [Outgoing(topic, msgspec.json.encode(command), command_key(command), 0)]
            )
        log.info("to %s: %s", topic, command)


def _version(name: str) -> int:
    found = re.fullmatch(rf"{BATCH}@(\d{{1,9}})", name)
    if found is None:
        raise ValueError(f"{name} is no version of the batch model: only those are decided on")
    return int(found[1])
