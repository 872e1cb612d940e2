"""Reads what services sum up, without a group, and has the picture fold it: one consumer for all of these topics.

What is read whole at a start is small by nature (`models`, `alerts`, `commands`); of `summaries` and `dead-letter` the
newest are. Where the log has begun again, as the embedded broker's does, so does the picture.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from services.console.core import ConsoleCore
from services.console.picture import Picture
from services.runtime.clock import SystemClock
from services.runtime.errors import ThalwegError
from services.runtime.kafka import bounds, in_words, read, reader
from services.runtime.records import Record
from services.runtime.settings import Settings
from services.runtime.summaries import ExampleSummary, ScoredSummary, Summary, decode_summary
from services.runtime.waiting import Wait

Fold: TypeAlias = Callable[[ConsoleCore, Sequence[Record]], None]
log = logging.getLogger(__name__)
GATHER_S = 0.25  # to wake rarely costs least
BATCH = 50  # at once: to read as much through ten times as much memory costs half as much again
ANSWER_S = 5.0
PAUSE_S = 1.0
NEWEST = {"summaries": 20_000, "dead-letter": 2_000}  # records that are read of these at a start
SCORED = 10  # summaries of `scored` a second that are folded, and one of each batch: distributions need no more
SAVED = 200  # of them at once, after a time with fewer
SAID = b"scored"  # in the head of a summary's bytes, its tag
LIMITS = {  # nobody waits for a picture as for a prediction: few fetches, of much
    "queued.max.messages.kbytes": 8192,  # more than what comes meanwhile at 100,000 events a second
    "fetch.queue.backoff.ms": 50,
    "fetch.message.max.bytes": 1 << 20,
    "fetch.min.bytes": 1 << 16,
    "fetch.wait.max.ms": 250,
}


class LogBeganAgain(Exception):  # noqa: N818 - what has happened, in the past tense
    """An offset came that is lower than one before: this is another log."""


class Tailing:
    """A thread that reads on, however often the broker is away. `topics` are by kind, each of one partition."""

    def __init__(self, settings: Settings, topics: Mapping[str, str], picture: Picture) -> None:
        self._settings, self._picture = settings, picture
        self._kinds = {topic: kind for kind, topic in topics.items()}
        self._next: dict[str, int] = {}
        self._wait = Wait(SystemClock())
        self._room, self._at = float(SAVED), 0.0  # for summaries of `scored`, and when that was counted
        self._folds: dict[str, Fold] = {
            "models": ConsoleCore.moved,
            "alerts": ConsoleCore.alarmed,
            "commands": ConsoleCore.ordered,
            "dead-letter": ConsoleCore.refused,
        }

    def start(self) -> None:
        threading.Thread(target=self._run, name="tailing", daemon=True).start()

    def _run(self) -> None:
        while True:
            consumer = reader(self._settings, **LIMITS)
            try:
                self._read(consumer)
            except LogBeganAgain:
                log.warning("the log has begun again; the picture is read anew")
                self._next.clear()
                self._picture.renew()
            except (KafkaException, ThalwegError) as error:
                self._wait.note(f"the broker at {self._settings.broker}: {in_words(error)}")
                time.sleep(PAUSE_S)
            finally:
                consumer.close()

    def _read(self, consumer: Consumer) -> None:
        consumer.assign([TopicPartition(topic, 0, self._start(consumer, topic)) for topic in self._kinds])
        while True:
            time.sleep(GATHER_S)
            while messages := consumer.consume(BATCH, 0):
                if records := [record for message in messages if (record := read(message)) is not None]:
                    self._wait.over()
                    self._fold(records)

    def _start(self, consumer: Consumer, topic: str) -> int:
        """Return from where to read on."""
        low, high = bounds(self._settings, consumer, TopicPartition(topic, 0), ANSWER_S)
        if (reached := self._next.get(topic)) is not None:
            if high < reached:
                raise LogBeganAgain
            return reached
        newest = NEWEST.get(self._kinds[topic])
        return OFFSET_BEGINNING if newest is None else max(low, high - newest)

    def _fold(self, records: Sequence[Record]) -> None:
        by_kind: dict[str, list[Record]] = {}
        for record in records:
            if record.offset < self._next.get(record.topic, 0):
                raise LogBeganAgain
            self._next[record.topic] = record.offset + 1
            by_kind.setdefault(self._kinds[record.topic], []).append(record)
        for kind, found in by_kind.items():
            if kind == "summaries":
                self._sum_up(found)
            else:
                self._picture.ask(partial(_folded, self._folds[kind], found))

    def _sum_up(self, records: Sequence[Record]) -> None:
        """Decode all that is said of examples, and of the scored what there is room for: many they are, and large."""
        examples = [record for record in records if SAID not in record.value[:8]]
        scored = self._some([record for record in records if SAID in record.value[:8]])
        decoded = [decoded for record in (*examples, *scored) if (decoded := _decode(record)) is not None]
        labelled = [summary for summary in decoded if isinstance(summary, ExampleSummary)]
        others = [summary for summary in decoded if isinstance(summary, ScoredSummary)]
        self._picture.ask(lambda core: core.summed_up(labelled, others))

    def _some(self, scored: Sequence[Record]) -> Sequence[Record]:
        now = time.monotonic()
        self._room, self._at = min(SAVED, self._room + SCORED * (now - self._at)), now
        if len(scored) > self._room:
            return scored[:1]
        self._room -= len(scored)
        return scored


def _folded(fold: Fold, records: Sequence[Record], core: ConsoleCore) -> None:
    fold(core, records)


def _decode(record: Record) -> Summary | None:
    try:
        return decode_summary(record.value)
    except msgspec.MsgspecError:  # of another version of the service
        return None
