"""Versions that were trained come to be known: one `Registered` on `models` for each, whoever trained it.

The files say what there is, the topic what was said. It is read when the partition is taken over, after the producer
of this service has ended what its predecessor left open, so that neither a kill nor a lost answer says a thing twice.
"""

import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from services.runtime.artifacts import Artifacts
from services.runtime.errors import Stop
from services.runtime.models import BATCH, Registered, decode_event
from services.runtime.records import Outgoing, Record
from services.runtime.stream import Stream
from services.trainer.cards import Card

log = logging.getLogger(__name__)
History = Callable[[], Iterable[Sequence[Record]]]


class Registry:
    """What has been registered. `history` reads `models` from its beginning to where it ends now."""

    def __init__(self, stream: Stream, artifacts: Artifacts, history: History) -> None:
        self._topic, self._artifacts, self._history = stream.topic("models"), artifacts, history
        self._done: set[int] = set()

    def open(self) -> None:
        """Read what has been registered. To be called whenever a record that was handed out may not be there."""
        ours = (record for batch in self._history() for record in batch if (record.key or b"").startswith(_key("")))
        events = (decode_event(record.value) for record in ours)
        self._done = {event.version for event in events if isinstance(event, Registered)}

    def due(self, cards: Iterable[Card]) -> list[Outgoing]:
        """Return a record for each version that has a card and none yet, to go out in one transaction."""
        new = [card for card in cards if card.version not in self._done]
        self._done |= {card.version for card in new}
        return [self._record(card) for card in new if self._holds(card)]

    def _holds(self, card: Card) -> bool:
        """Tell whether a version can be served: a card alone proves nothing."""
        if not card.servable:
            log.warning("%s@%d is not registered: %s", BATCH, card.version, card.obstacle)
            return False
        try:
            self._artifacts.read(BATCH, card.version)
        except Stop as error:
            log.warning("%s@%d is not registered: %s", BATCH, card.version, error)
            return False
        log.info("registering %s@%d, asked for by %s", BATCH, card.version, card.by)
        return True

    def _record(self, card: Card) -> Outgoing:
        parts = card.version, card.feature_set, card.rows, card.loss, card.prior_loss, card.by
        value = msgspec.json.encode(Registered(BATCH, *parts))
        return Outgoing(self._topic, value, key=_key(card.version), partition=0)


def _key(version: int | str) -> bytes:
    return f"{BATCH}@{version}".encode()
