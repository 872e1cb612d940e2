"""Asks every process of the run, once a second, how it is. What speaks TLS has to show a certificate that holds."""

import http.client
import logging
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from services.console.core import ConsoleCore
from services.console.flow import Probe
from services.console.picture import Picture
from services.runtime.errors import ConfigError

log = logging.getLogger(__name__)
EVERY_S = 1.0
PATIENCE_S = 1.0


class _Running(msgspec.Struct, frozen=True):
    """What is read of the file that the launcher writes."""

    services: dict[str, str]


def addresses(said: str) -> Callable[[], Mapping[str, str]]:
    """Return what says where processes answer, now: `name=url,name=url`, or the file that the launcher writes."""
    if not said:
        return dict
    if "=" not in said:
        return lambda: _read(Path(said))
    found = dict(part.split("=", 1) for part in said.split(",") if "=" in part)
    for name, url in found.items():
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(
                f"THALWEG_CONSOLE_SERVICES: found {url!r} for {name}, expected http:// or https://HOST:PORT"
            )
    return lambda: found


def _read(path: Path) -> Mapping[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Running).services
    except (OSError, msgspec.DecodeError):  # it is written once all have started
        return {}


class Prober:
    """A thread that asks one after the other; who is slow is silent."""

    def __init__(
        self, where: Callable[[], Mapping[str, str]], picture: Picture, own: str, trusting: ssl.SSLContext
    ) -> None:
        """`own` is the name of the service that asks: it need not ask itself."""
        self._where, self._picture, self._own, self._trusting = where, picture, own, trusting

    def start(self) -> None:
        threading.Thread(target=self._run, name="prober", daemon=True).start()

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            reports = {name: ask(url, self._trusting) for name, url in self._where().items() if name != self._own}
            self._picture.ask(partial(_probed, reports))
            time.sleep(max(0.05, began + EVERY_S - time.monotonic()))


def _probed(reports: Mapping[str, Probe | None], core: ConsoleCore) -> None:
    core.probed(time.time_ns() // 1_000_000, reports)


def ask(url: str, trusting: ssl.SSLContext) -> Probe | None:
    """Return what a process says of itself; None if it does not answer in time, or answers something else."""
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=trusting)
    try:
        connection.request("GET", "/readyz")
        return msgspec.json.decode(connection.getresponse().read(), type=Probe)
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    finally:
        connection.close()
