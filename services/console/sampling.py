"""Looks at the log a few times a second: where its topics end, and a few of the newest predictions.

What it reads does not grow with the traffic: it seeks to near the end, takes a few records, and lets go.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.console.picture import Picture
from services.runtime.clients import client
from services.runtime.errors import ThalwegError
from services.runtime.kafka import in_words, read, reader
from services.runtime.records import Record
from services.runtime.settings import Settings

log = logging.getLogger(__name__)
EVERY_S = 1.0
SAMPLE = 20  # predictions a second
ANSWER_S = 2.0
READ_S = 0.8
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
LITTLE = {
    "queued.min.messages": 1,
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 1024,
    "max.partition.fetch.bytes": 1 << 16,
    "enable.partition.eof": True,
}


class Sampler:
    """A thread that looks, and looks again however often the broker is away."""

    def __init__(self, settings: Settings, topics: Mapping[str, str], predictions: str, picture: Picture) -> None:
        """`topics` are those whose growth is shown, by their kind."""
        self._settings, self._topics, self._predictions, self._picture = settings, topics, predictions, picture
        self._consumer: Consumer | None = None
        self._asking: AdminClient | None = None
        self._partitions: dict[str, list[int]] = {}
        self._read: dict[int, int] = {}  # up to where predictions were looked at
        self._last: dict[int, int] = {}  # where the last of them ended
        self._filled = 1.0  # which share of the newest offsets were predictions, and not where transactions ended

    def start(self) -> None:
        threading.Thread(target=self._run, name="sampler", daemon=True).start()

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._look()
            except (KafkaException, ThalwegError) as error:
                self._away(in_words(error))
            time.sleep(max(0.05, began + EVERY_S - time.monotonic()))

    def _away(self, why: str) -> None:
        log.debug("the broker is away: %s", why)
        said = f"the broker at {self._settings.broker}: {why}"
        self._picture.ask(lambda core: core.ended(_now(), {}, said))
        self._partitions = {}

    def _look(self) -> None:
        if self._consumer is None:
            self._consumer = reader(self._settings, **LITTLE)
        if self._asking is None:
            self._asking = AdminClient(client(self._settings))
        consumer, asking = self._consumer, self._asking
        if not self._partitions:
            self._partitions = self._find(asking)
            self._read, self._last = {}, {}
        ends = self._ends(asking)
        missing = sorted(topic for kind, topic in self._topics.items() if kind not in self._partitions)
        lack = f"topics that are not there: {', '.join(missing)}" if missing else None
        sums = {kind: sum(found.values()) for kind, found in ends.items()}
        self._picture.ask(lambda core: core.ended(_now(), sums, lack))
        if missing:
            self._partitions = {}
        if sample := self._sample(consumer, ends.get("predictions", {})):
            self._picture.ask(lambda core: core.sampled(sample, self._filled))

    def _find(self, asking: AdminClient) -> dict[str, list[int]]:
        known = asking.list_topics(timeout=ANSWER_S).topics
        return {kind: sorted(known[topic].partitions) for kind, topic in self._topics.items() if topic in known}

    def _ends(self, asking: AdminClient) -> dict[str, dict[int, int]]:
        """Return where each partition ends, by its topic's kind: all are asked for at once.

        Of what is committed the embedded broker says now and then that it ends at 0; these ends are of all there is.
        """
        where = [(kind, p) for kind, partitions in self._partitions.items() for p in partitions]
        asked = {TopicPartition(self._topics[kind], p): LATEST for kind, p in where}
        told = asking.list_offsets(asked, request_timeout=ANSWER_S).values()
        ends: dict[str, dict[int, int]] = {kind: {} for kind in self._partitions}
        for (kind, partition), future in zip(where, told, strict=True):
            ends[kind][partition] = future.result().offset
        return ends

    def _sample(self, consumer: Consumer, ends: Mapping[int, int]) -> list[Record]:
        """Return some of the newest predictions that were not looked at."""
        grown = [p for p in sorted(ends) if ends[p] > self._read.get(p, 0)]
        if not grown:
            return []
        share = max(1, SAMPLE // len(grown))
        floors = {p: max(0, ends[p] - share) for p in grown}
        starts = {p: max(self._read.get(p, 0), floor) for p, floor in floors.items()}
        consumer.assign([TopicPartition(self._predictions, p, start) for p, start in starts.items()])
        try:
            found = self._take(consumer, {p: ends[p] for p in grown})
            self._note_filled(found, floors)
            return found[-SAMPLE:]
        finally:
            consumer.unassign()

    def _note_filled(self, found: Sequence[Record], floors: Mapping[int, int]) -> None:
        last = {record.partition: record.offset + 1 for record in found}
        offsets = sum(end - max(self._last.get(p, 0), floors[p]) for p, end in last.items())
        self._filled = len(found) / offsets if offsets else self._filled
        self._last |= last

    def _take(self, consumer: Consumer, ends: Mapping[int, int]) -> list[Record]:
        """Take what stands before these ends; what does not come within a moment is looked at again."""
        found: list[Record] = []
        left = set(ends)
        deadline = time.monotonic() + READ_S
        while left and time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is None:
                continue
            partition = message.partition() or 0
            record = read(message)
            if record is not None:
                found.append(record)
            self._read[partition] = (message.offset() or 0) + (record is not None)  # else it is the partition's end
            if self._read[partition] >= ends[partition]:
                left.discard(partition)
        return found


def _now() -> int:
    return time.time_ns() // 1_000_000
