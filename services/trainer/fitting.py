"""A version of the batch model, from a pinned version of the table to the card that says it is complete.

A kill at any instant leaves nothing half done: without a card there is no version, and its number is free again.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.runtime.artifacts import Artifacts
from services.runtime.errors import Stop
from services.runtime.stream import Stream
from services.trainer import training, windows
from services.trainer.cards import Card, Cards
from services.trainer.checkpoints import Checkpoints, write
from services.trainer.core import Epoch
from services.trainer.rows import TrainingSet
from services.trainer.store import ExampleStore

OnEpoch = Callable[[Epoch, int], None]
log = logging.getLogger(__name__)


class Fitting:
    """The trainings of one stream. One is at work at a time, be it in this process or in another."""

    def __init__(
        self,
        stream: Stream,
        store: ExampleStore,
        data: Path,
        device: str,
        track: Callable[[list[Card]], None] = lambda _: None,
    ) -> None:
        """`track` is handed all cards whenever there is a new one."""
        self._stream, self._store, self._device, self._track = stream, store, device, track
        self._kept = Checkpoints(data, stream.name)
        self._folder = self._kept.folder
        self._pin = self._folder / "pinned"  # the version of the table that was to be trained on last, by `resume`
        self._cards = Cards(Artifacts(data, stream.name), stream.feature_set)

    def run(
        self,
        by: str,
        version: int | None = None,
        began: Callable[[TrainingSet], None] = lambda _: None,
        on_epoch: OnEpoch = lambda _epoch, _of: None,
        since: int | None = None,
    ) -> Card:
        """Train on this version of the table, the newest if none is named, and store what came out.

        With `since`, the event time of a change (µs since 1970), on the window that serves what came after it best.
        Raise Stop for examples that can't be learned from, Retry where another training is at work, or a store away.
        """
        with training.alone(self._folder):
            examples = self._store.training_set(version)
            began(examples)
            return self._fit(examples, by, since, on_epoch)

    def resume(self, by: str, since: int | None = None) -> Card:
        """Do as `run` does on the newest version, or on the one that an earlier call by the same took to no end."""
        with training.alone(self._folder):
            try:
                examples = self._store.training_set(self._pinned(by))
                write(self._pin, f"{self._stream.feature_set}@{examples.version} {by}".encode())
                return self._fit(examples, by, since, lambda _epoch, _of: None)
            except Stop:
                self._pin.unlink(missing_ok=True)
                raise

    def _pinned(self, by: str) -> int | None:
        """Return the version that was pinned, unless it has a card by now, or is of another feature set or asker."""
        found, _, asker = (self._pin.read_text() if self._pin.exists() else "").partition(" ")
        feature_set, _, version = found.rpartition("@")
        done = {card.table_version for card in self._cards.all()}
        ours = feature_set == self._stream.feature_set and version.isdecimal() and asker == by
        return int(version) if ours and int(version) not in done else None

    def _fit(self, examples: TrainingSet, by: str, since: int | None, on_epoch: OnEpoch) -> Card:
        if since is None:
            graph, card = training.run(self._stream, examples, self._kept, self._device, on_epoch)
        else:
            graph, card = windows.run(self._stream, examples, since, self._kept, self._device, on_epoch)
        card = msgspec.structs.replace(card, version=self._cards.free(), by=by)
        self._cards.add(card, graph)
        self._kept.discard()
        log.info(
            "trained batch@%d for %s on %d examples (%s), version %d of the table: log loss %.4f, the prior's %.4f",
            *(card.version, by, card.rows, card.window, card.table_version, card.loss, card.prior_loss),
        )
        self._track(self._cards.all())
        return card
