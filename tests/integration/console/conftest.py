"""One broker and one console for all that asks a console."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from infra.local import brokers
from infra.local.processes import Children
from services.runtime.signing import make_keys
from tests.consoles import Log, Running
from tests.kept_open import kept_open


@pytest.fixture(scope="module")
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Log:
    return kept_open(request, "log", lambda: _log(tmp_path_factory.mktemp("console")))


@contextmanager
def _log(folder: Path) -> Iterator[Log]:
    with Children(folder / "logs") as children:
        broker = brokers.start("embedded", children, folder)
        brokers.wait_ready(broker, children)
        log = Log(broker, folder / "data")
        log.create()
        make_keys(log.settings.data / "keys")
        yield log


@pytest.fixture(scope="module")
def console(request: pytest.FixtureRequest, log: Log) -> Running:
    return kept_open(request, "console", lambda: _console(log))


@contextmanager
def _console(log: Log) -> Iterator[Running]:
    console = Running(log)
    console.start()
    yield console
    console.kill()


@pytest.fixture
def program(console: Running) -> Iterator[httpx.Client]:
    with console.program() as client:
        yield client
