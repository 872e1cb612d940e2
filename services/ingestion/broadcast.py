"""One reader of `predictions`, many listeners: each has a bounded queue, and one that can't keep up is let go."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeAlias

from services.runtime.errors import Retry
from services.runtime.kafka import Tail
from services.runtime.records import Record

Queue: TypeAlias = asyncio.Queue[Sequence[Record] | None]
QUEUE = 64  # batches a listener may lag behind
BATCH = 500
HEARTBEAT_S = 15.0


class Broadcast:
    """Reads while anybody listens."""

    def __init__(self, tail: Callable[[], Tail]) -> None:
        self._tail = tail
        self._queues: set[Queue] = set()
        self._thread: threading.Thread | None = None

    async def listen(self) -> AsyncIterator[Sequence[Record] | None]:
        """Yield batches as they come, None every so often when there are none; ends if the listener is too slow."""
        queue: Queue = asyncio.Queue(QUEUE)
        self._queues.add(queue)
        self._start()
        try:
            while queue in self._queues:
                try:
                    yield await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield None
        finally:
            self._queues.discard(queue)

    def _start(self) -> None:
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._read, args=(loop,), name="broadcast", daemon=True)
            self._thread.start()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        tail = self._tail()
        while self._queues:
            with contextlib.suppress(Retry):
                if records := tail.poll(BATCH, 0.2):
                    loop.call_soon_threadsafe(self._push, records)
        tail.close()
        self._thread = None

    def _push(self, records: Sequence[Record]) -> None:
        for queue in list(self._queues):
            try:
                queue.put_nowait(records)
            except asyncio.QueueFull:
                self._queues.discard(queue)
