"""A consumer that only counts: predictions and examples, and how long was the longest wait for a prediction."""

import threading
import time
from collections.abc import Callable

from services.runtime.errors import Retry
from services.runtime.kafka import Tail
from services.runtime.records import Record
from services.runtime.schemas import examples_frame
from services.runtime.settings import Settings
from services.runtime.stream import Stream

BATCH = 5000


class Watch(threading.Thread):
    """Reads predictions from the moment it is made. A wait counts only while some accepted event has none."""

    def __init__(self, settings: Settings, stream: Stream, accepted: Callable[[], int]) -> None:
        super().__init__(name="watch", daemon=True)
        self._predictions = Tail(settings, stream.topic("predictions"), from_beginning=False)
        self._examples = Tail(settings, stream.topic("examples"), from_beginning=False)
        self._frame = examples_frame(stream)
        self._accepted = accepted
        self._stopping = threading.Event()
        self._since = time.monotonic()
        self.predictions = self.examples = 0
        self.longest_s = 0.0
        self.longest_until = 0.0  # monotonic seconds

    def run(self) -> None:
        while not self._stopping.is_set():
            self._look(self._read(self._predictions))
            self.examples += sum(self._frame.decode(record).num_rows for record in self._read(self._examples))
        for tail in (self._predictions, self._examples):
            tail.close()

    def _read(self, tail: Tail) -> list[Record]:
        try:
            return tail.poll(BATCH, 0.05)
        except Retry:
            return []

    def _look(self, found: list[Record]) -> None:
        now, accepted = time.monotonic(), self._accepted()
        if now - self._since > self.longest_s and self.predictions < accepted:
            self.longest_s, self.longest_until = now - self._since, now
        self.predictions += len(found)
        if found or self.predictions >= accepted:
            self._since = now

    def stop(self) -> None:
        self._stopping.set()
        self.join()
