"""One reader of `predictions`, many listeners: each has a bounded queue, and one that can't keep up is let go.

All listeners wait for the same records, so that together they hold little more than the slowest of them may.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence

from services.runtime.errors import Retry
from services.runtime.kafka import Tail
from services.runtime.records import Record

log = logging.getLogger(__name__)
LAG = 20_000  # records that a listener may be behind
UNDER_WAY = 8  # batches that were read and are not in the queues yet
BATCH = 500
HEARTBEAT_S = 15.0


class Queue(asyncio.Queue[Sequence[Record]]):
    """Batches that wait for a listener. It is full once they hold `LAG` records."""

    held = 0

    def full(self) -> bool:
        return self.held >= LAG

    def _put(self, item: Sequence[Record]) -> None:
        super()._put(item)
        self.held += len(item)

    def _get(self) -> Sequence[Record]:
        item = super()._get()
        self.held -= len(item)
        return item

    def clear(self) -> None:
        while not self.empty():
            self.get_nowait()


class Broadcast:
    """Reads while anybody listens."""

    def __init__(self, tail: Callable[[], Tail]) -> None:
        self._tail = tail
        self._queues: set[Queue] = set()
        self._reading = False
        self._opened = asyncio.Event()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(UNDER_WAY)

    async def listen(self) -> AsyncIterator[Sequence[Record] | None]:
        """Yield None once it hears what comes from now on, then batches as they come, and None when it is quiet.

        It ends if the listener is too slow, or the log can't be read.
        """
        queue = Queue()
        self._queues.add(queue)
        self._start()
        try:
            await self._opened.wait()
            if queue in self._queues:
                yield None
            while queue in self._queues:
                try:
                    yield await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield None
        finally:
            self._queues.discard(queue)

    def _start(self) -> None:
        with self._lock:
            if not self._reading:
                self._reading = True
                self._opened.clear()
                loop = asyncio.get_running_loop()
                threading.Thread(target=self._read, args=(loop,), name="broadcast", daemon=True).start()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        tail = None
        try:
            tail = self._tail()
            _tell(loop, self._opened.set)
            while self._wanted() and not loop.is_closed():
                with contextlib.suppress(Retry):
                    if records := tail.poll(BATCH, 0.2):
                        self._room.acquire()
                        _tell(loop, self._push, records)
        except Exception:
            log.exception("reading predictions failed; those who listen are let go")
            _tell(loop, self._let_go)
        finally:
            if tail is not None:
                tail.close()

    def _wanted(self) -> bool:
        """Whether anybody listens; if not, the next listener starts a new reader."""
        with self._lock:
            self._reading = bool(self._queues)
            return self._reading

    def _push(self, records: Sequence[Record]) -> None:
        self._room.release()
        for queue in list(self._queues):
            try:
                queue.put_nowait(records)
            except asyncio.QueueFull:
                self._queues.discard(queue)
                queue.clear()  # its listener may never come for it

    def _let_go(self) -> None:
        self._queues.clear()
        self._opened.set()
        with self._lock:
            self._reading = False


def _tell(loop: asyncio.AbstractEventLoop, act: Callable[..., object], *arguments: object) -> None:
    """Have it done in the loop; if that has ended, so have all who listened."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(act, *arguments)
