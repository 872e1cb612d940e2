"""The HTTP server, with an end to its patience: uvicorn waits for ever for a request that does not come to its end."""

import asyncio
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.runtime.tls import Tls

RENEW_S = 1  # between looks at the files of a certificate


class PatientProtocol(H11Protocol):
    """Closes a connection that owes us the head of a request, or the rest of one that was answered, for too long."""

    patience_s = 30.0
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._calm()
        elif self._head is None:
            self._head = self.loop.call_later(self.patience_s, self._give_up)

    def _calm(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_up(self) -> None:
        self._head = None
        self.transport.close()


class PromptServer(uvicorn.Server):
    """Ends as soon as it is told to: uvicorn wakes ten times a second to see whether it was."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):  # sees to what is due once a second
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), 1.0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.set)


def run(app: ASGIApp, host: str, port: int, connections: int, patience_s: float, tls: Tls | None = None) -> None:
    """Serve until SIGTERM or SIGINT, at most so many connections at once."""
    protocol = type("Protocol", (PatientProtocol,), {"patience_s": patience_s})
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        limit_concurrency=connections,
        timeout_graceful_shutdown=2,
        **({} if tls is None else _secured(tls)),
    )
    PromptServer(config).run()


def _secured(tls: Tls) -> dict[str, Any]:
    async def renew() -> None:
        tls.renew()

    return {
        "ssl_context_factory": lambda _config, _usual: tls.context,
        "timeout_notify": RENEW_S,
        "callback_notify": renew,
    }
