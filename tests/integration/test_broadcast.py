"""The reader behind the event stream, with its races played out one step at a time: a fake log, real threads."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence

import pytest

from services.ingestion import broadcast
from services.ingestion.broadcast import Broadcast
from services.runtime.errors import Retry
from services.runtime.records import Record


class FakeTail:
    """Has a batch of one record each time that `gate` opens, once unless told; calls `opening` and `closing`."""

    def __init__(
        self, opening: Callable[[], object], closing: Callable[[], object], gate: threading.Semaphore | None = None
    ) -> None:
        opening()
        self.close = closing
        self._gate = gate or threading.Semaphore(1)

    def poll(self, _: int, timeout: float) -> list[Record]:
        opened = self._gate.acquire(timeout=timeout / 10)
        return [Record("flights.predictions", 0, 0, b"JFK", b"{}")] if opened else []


class Counted(broadcast.Queue):
    """Remembers the most that any queue has held."""

    most = 0

    def _put(self, item: Sequence[Record]) -> None:
        super()._put(item)
        Counted.most = max(Counted.most, self.held)


async def hear(broadcast: Broadcast) -> bool:
    """Listen until a first batch comes, for a second at most; return whether it did."""
    async with contextlib.aclosing(broadcast.listen()) as batches:
        try:
            assert await asyncio.wait_for(anext(batches), 1) is None, "first it says that it listens"
            return await asyncio.wait_for(anext(batches), 1) is not None
        except (TimeoutError, StopAsyncIteration):
            return False


def test_a_listener_that_comes_as_the_last_one_goes_is_served() -> None:
    """Listeners come and go at any moment: one that joins while the reader is closing gets its predictions too."""

    async def scene() -> tuple[bool, bool]:
        closing, joined = threading.Event(), threading.Event()

        def close() -> None:
            closing.set()
            joined.wait(1)

        broadcast = Broadcast(lambda: FakeTail(lambda: None, close))
        first = await hear(broadcast)
        await asyncio.to_thread(closing.wait, 5)
        asyncio.get_running_loop().call_later(0.1, joined.set)
        return first, await hear(broadcast)

    assert asyncio.run(scene()) == (True, True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_could_not_be_opened_is_opened_again() -> None:
    """A broker that was away when a first listener came does not leave those after it without predictions."""

    async def scene() -> bool:
        answers = iter([False, True, True, True])

        def open_() -> None:
            if not next(answers):
                raise Retry("the broker is away")

        broadcast = Broadcast(lambda: FakeTail(open_, lambda: None))
        await hear(broadcast)
        return await hear(broadcast)

    assert asyncio.run(scene())


def test_a_reader_that_outlives_its_loop_ends_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """A batch that arrives as the service ends has nobody to go to; that is no error of any thread."""
    polling, ended, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow(FakeTail):
        def poll(self, _: int, timeout: float) -> list[Record]:
            polling.set()
            ended.wait(5)
            return super().poll(_, timeout)

    async def scene() -> None:
        batches = Broadcast(lambda: Slow(lambda: None, closed.set)).listen()
        assert await anext(batches) is None
        await asyncio.to_thread(polling.wait, 5)

    asyncio.run(scene())
    ended.set()
    assert closed.wait(5)
    assert caplog.text == ""


def test_a_listener_that_cannot_keep_up_is_let_go_and_costs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a listener is bounded, and dropped with it: one that does not read is ended, others hear all."""
    monkeypatch.setattr(broadcast, "LAG", 50)
    monkeypatch.setattr(broadcast, "Queue", Counted)

    async def scene() -> tuple[int, int]:
        gate = threading.Semaphore(1)
        channel = Broadcast(lambda: FakeTail(lambda: None, lambda: None, gate))
        slow, quick = channel.listen(), channel.listen()
        await asyncio.gather(anext(slow), anext(quick))
        heard = 1
        while heard < 100:
            gate.release()
            heard += await asyncio.wait_for(anext(quick), 30) is not None
        left = [batch async for batch in slow]
        await quick.aclose()
        return heard, len(left)

    heard, left = asyncio.run(scene())
    assert heard == 100
    assert Counted.most == 50
    assert left <= 1


def test_a_queue_counts_records_and_not_batches() -> None:
    """Many small batches are no more than one large one; what is taken makes room again."""

    async def scene() -> None:
        queue = broadcast.Queue()
        record = Record("flights.predictions", 0, 0, b"JFK", b"{}")
        for _ in range(broadcast.LAG - 1):
            queue.put_nowait([record])
        queue.put_nowait([record] * 10)
        with pytest.raises(asyncio.QueueFull):
            queue.put_nowait([record])
        for _ in range(10):
            queue.get_nowait()
        queue.put_nowait([record])
        queue.clear()
        assert (queue.held, queue.qsize()) == (0, 0)

    asyncio.run(scene())
