"""The trainer's stage: `examples` go into the table, and what is due is trained beside that and registered."""

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.runtime.alerts import Alert
from services.runtime.grammar import BatchRule
from services.runtime.health import Health
from services.runtime.models import FOR_ALERT, alert_of
from services.runtime.records import Outgoing
from services.runtime.stage import Batches
from services.trainer.apprentice import Order
from services.trainer.asking import Alerts, asked, may_ask, since
from services.trainer.cards import Card, Cards
from services.trainer.listening import Listening
from services.trainer.registry import Registry
from services.trainer.schedule import is_due
from services.trainer.settings import LATER
from services.trainer.store import ExampleStore
from services.trainer.storing import Storing

log = logging.getLogger(__name__)
SCHEDULE = "schedule"  # who asks for what is due
LOOKS = 20  # at the table, until there are as many examples as an alert waits for
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # after a training that was killed, or could not be


class Worker(Protocol):
    """Who trains."""

    at_work: bool

    def prepare(self) -> None: ...

    def ask(self, order: Order) -> None: ...

    def ended(self) -> int | None: ...

    def stop(self) -> None: ...


class Training(Storing):
    """What was trained last is told by the cards that stand, so a restart trains nothing again.

    A training that was killed, or had to wait for another, is begun again after a pause; one whose examples can't be
    learned from is given up until the next is due. What an alert asks for goes before what is due.
    """

    def __init__(
        self,
        store: ExampleStore,
        tidy_every: int,
        rule: BatchRule | None,
        cards: Cards,
        registry: Registry,
        worker: Worker,
        health: Health,
        listening: Listening,
    ) -> None:
        super().__init__(store, tidy_every)
        self._rule, self._cards, self._registry, self._worker, self._clock = rule, cards, registry, worker, health.clock
        self._health, self._listening = health, listening
        self._extent = store.extent()
        self._asked: int | None = None  # the newest event time when a training began
        self._order = Order(SCHEDULE)  # the last
        self._given_up: int | None = None  # as `_asked`, of one whose examples could not be learned from
        self._lost: set[str] = set()  # alerts for which that was so
        self._times: NDArray[np.int64] | None = None  # of the labelled rows from `_times_from` on
        self._times_from = self._looked = 0  # `_looked`: when the table had so many rows
        self._pause_s, self._not_before = 0.0, self._clock.now()
        self._prepare()  # while this service waits for its partition

    def open(self, partition: int, state: bytes | None) -> None:
        super().open(partition, state)
        self._registry.open()
        self._extent, self._times = self._store.extent(), None
        self._prepare()

    def close(self, partition: int) -> None:
        super().close(partition)
        if not self._positions:
            self._worker.stop()

    def fold(self, batches: Batches) -> list[Outgoing]:
        outgoing = super().fold(batches)
        self._extent = self._store.extent()
        self._forget()
        return outgoing

    def extra(self) -> list[Outgoing]:
        if not self._positions:  # another instance has them, and does this
            return []
        self._hear()
        cards = self._cards.all()
        if not self._worker.at_work and self._clock.now() >= self._not_before and (order := self._due(cards)):
            self._begin(order)
        self._health.busy = "trains a version of the batch model" if self._trains(cards) else None
        return self._registry.due(cards)

    def _prepare(self) -> None:
        if self._rule is not None and self._rule.train_every is not None:
            self._worker.prepare()

    def _due(self, cards: Sequence[Card]) -> Order | None:
        """Return what is to be trained now, if anything."""
        newest, done = self._extent.newest, {name: card.newest for card in cards if (name := alert_of(card.by))}

        def ask(said: Alerts) -> Alert | None:
            if may_ask(self._rule, said, done):
                self._worker.prepare()  # while examples come
            return asked(self._rule, said, done, newest, self._count, self._lost)

        if (found := self._listening.heard(ask)) is not None:
            return Order(f"{FOR_ALERT}{found.id}", since(found))
        return Order(SCHEDULE) if self._is_due(cards) else None

    def _count(self, start: int, end: int | None) -> int:
        """Count the labelled rows of a span of event time, as they were when last looked at."""
        if self._times is None or start < self._times_from:
            self._times, self._times_from, self._looked = self._store.labelled_times(start), start, self._extent.rows
        first = np.searchsorted(self._times, start)
        last = len(self._times) if end is None else np.searchsorted(self._times, end, "right")
        return int(last - first)

    def _forget(self) -> None:
        """Look again when a share of what an alert waits for may have come: each time whole days are read."""
        wanted = 1 if self._rule is None else self._rule.alert_examples / LOOKS
        if self._extent.rows >= self._looked + wanted:
            self._times = None

    def _is_due(self, cards: Sequence[Card]) -> bool:
        seen = [card.newest for card in cards] + ([] if self._given_up is None else [self._given_up])
        return is_due(self._rule, *self._extent, max(seen, default=None))

    def _trains(self, cards: Sequence[Card]) -> bool:
        """Tell whether the version that was asked for is still to come: it stands before the process has ended."""
        seen = max((card.newest for card in cards), default=None)
        return self._worker.at_work and (seen is None or self._asked is None or seen < self._asked)

    def _begin(self, order: Order) -> None:
        log.info("a training is due, by %s: %d rows in the table", order.by, self._extent.rows)
        self._asked, self._order = self._extent.newest, order
        self._worker.ask(order)

    def _hear(self) -> None:
        """Take note of how a training ended, and have a process ready for the next."""
        status = self._worker.ended()
        if status is None:
            return
        if status < 0 or status == LATER:
            self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)
            log.warning("the training ended with status %d; it goes on in %.0f s", status, self._pause_s)
        else:
            self._pause_s = 0.0
            self._give_up(alert_of(self._order.by) if status else None, teaches=not status)
        self._not_before = self._clock.now() + self._pause_s
        self._prepare()

    def _give_up(self, alert: str | None, *, teaches: bool) -> None:
        """Take note of whether the examples could be learned from, and if not, of who has asked in vain."""
        if alert is not None:
            self._lost.add(alert)
        else:
            self._given_up = None if teaches else self._asked
