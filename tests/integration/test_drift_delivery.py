"""Delivery to real HTTP servers: a webhook that fails and comes back, and Alertmanager itself where it is installed."""

import asyncio
import datetime as dt
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from infra.local.brokers import free_ports
from services.drift import delivery
from services.drift.delivery import Delivery
from services.drift.settings import DriftSettings
from services.runtime.alerts import Alert, Explained, Place

BEGAN = int(dt.datetime(2013, 1, 5, 12, tzinfo=dt.UTC).timestamp() * 1e6)


def alert(number: int = 0, event: str = "raised", **more: Any) -> Alert:
    place = Place(BEGAN, "flights.scored", 0, 5)
    fields = {"id": "a", "number": number, "event": event, "kind": "features", "subject": "x", "severity": "warning"}
    fields |= {"since": place, "at": place, "statistic": "psi", "strength": 0.5, "reason": "x has changed"}
    return msgspec.convert(fields | {"features": [Explained("x", "psi", 0.5)]} | more, Alert)


class Server:
    """A receiver that answers what it is told to, and keeps what it was given."""

    def __init__(self) -> None:
        self.answers: list[int] = []  # in turn; then 200
        self.got: list[Any] = []
        self.slow_s = 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(server.slow_s)
                status = server.answers.pop(0) if server.answers else 200
                if status == 200:
                    server.got.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://user:hunter2@127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_S", 0.01)
    monkeypatch.setattr(delivery, "LONGEST_S", 0.02)


async def until(found: Delivery, over: Any, standing: list[Alert] | None = None) -> None:
    end = time.monotonic() + 20
    while not over():
        assert time.monotonic() < end, found.view()
        await found.due(standing or [])
        await asyncio.sleep(0.005)


def run(settings: DriftSettings, body: Any) -> None:
    async def with_client() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await body(Delivery(client, settings))

    asyncio.run(with_client())


def test_a_webhook_that_fails_gets_everything_later_in_order(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Each record once, as it is on `alerts`; what is told to be delivered is; no log has the password."""
    server.answers = [503, 500, 200, 429]

    async def body(found: Delivery) -> None:
        for number in range(4):
            found.add(10 + number, alert(number))
        assert found.told == 10
        await until(found, lambda: len(server.got) == 4)
        assert found.told == 14
        assert found.view()["webhook_delivered"] == 4

    run(DriftSettings(webhook=server.url), body)
    assert [msgspec.convert(one, Alert) for one in server.got] == [alert(number) for number in range(4)]
    assert "takes no alert" in caplog.text
    assert "hunter2" not in caplog.text


def test_what_is_silenced_goes_to_nobody(server: Server) -> None:
    """It is counted as told: nothing waits for it."""

    async def body(found: Delivery) -> None:
        found.add(3, alert(silenced=True))
        await found.due([])
        assert (found.told, server.got) == (4, [])

    run(DriftSettings(webhook=server.url, alertmanager=server.url), body)


def test_a_record_that_is_not_wanted_is_given_up(server: Server) -> None:
    """4xx: another try would change nothing, and the next ones wait no longer."""
    server.answers = [400]

    async def body(found: Delivery) -> None:
        found.add(0, alert(0))
        found.add(1, alert(1))
        await until(found, lambda: len(server.got) == 1)
        assert (server.got[0]["number"], found.view()["webhook_given_up"]) == (1, 1)

    run(DriftSettings(webhook=server.url), body)


def test_a_receiver_that_is_away_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are given up where too many wait, and all of them after `give_up_s`."""
    monkeypatch.setattr(delivery, "MOST", 3)

    async def body(found: Delivery) -> None:
        for number in range(5):
            found.add(number, alert(number))
        assert (found.view()["webhook_waiting"], found.told) == (3, 2)
        await until(found, lambda: found.view()["webhook_given_up"] == 5)
        assert found.told == 5

    (port,) = free_ports(1)
    run(DriftSettings(webhook=f"http://127.0.0.1:{port}", give_up_s=0.1), body)


def test_settings_show_no_url() -> None:
    """A webhook's URL is its password."""
    shown = repr(DriftSettings(webhook="http://hunter2", alertmanager="http://hunter3"))
    assert "hunter" not in shown
    assert "give_up_s=3600.0" in shown


# Alertmanager itself


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the one that is installed, or Debian's package unpacked into a folder."""
    folder = tmp_path_factory.mktemp("alertmanager")
    found = shutil.which("prometheus-alertmanager")
    command = [found] if found else unpacked(folder)
    if command is None:
        pytest.skip("Alertmanager is not installed, and Debian's package prometheus-alertmanager can't be had here")
    (port,) = free_ports(1)
    config = folder / "config.yml"
    config.write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    listen = [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    argv = [*command, f"--config.file={config}", f"--storage.path={folder / 'data'}", *listen]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def unpacked(folder: Path) -> list[str] | None:
    """Return the command of Debian's package. Its templates are in /usr/share: it is given a view of them."""
    apt, dpkg, unshare = (shutil.which(name) for name in ("apt-get", "dpkg-deb", "unshare"))
    if apt is None or dpkg is None or unshare is None:
        return None
    done = subprocess.run([apt, "download", "prometheus-alertmanager"], cwd=folder, capture_output=True, check=False)
    packages = list(folder.glob("*.deb"))
    if done.returncode or not packages:
        return None
    subprocess.run([dpkg, "-x", packages[0], folder / "root"], check=True)
    share, program = folder / "root/usr/share", folder / "root/usr/bin/prometheus-alertmanager"
    mount = f"mount -t overlay overlay -o lowerdir={share}:/usr/share /usr/share"
    inside = [unshare, "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*inside, mount], capture_output=True, check=False).returncode:
        return None
    return [*inside, f'{mount} && exec {program} "$@"', "alertmanager"]


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while True:
        assert process.poll() is None
        try:
            if httpx.get(f"{url}/-/ready", timeout=1).is_success:
                return
        except httpx.HTTPError:
            assert time.monotonic() < end
        time.sleep(0.1)


def active(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/api/v2/alerts", timeout=5).json()
    return found


def test_alertmanager_knows_what_stands_and_forgets_what_is_resolved(alertmanager: str) -> None:
    """The real one: one alert with its labels, still there when it is told again, and gone once it is resolved."""

    async def body(found: Delivery) -> None:
        found.add(0, alert())
        await until(found, lambda: found.view()["alertmanager_told"] >= 1, [alert()])
        (told,) = active(alertmanager)
        labels = {"alertname": "ThalwegDrift", "id": "a", "kind": "features", "subject": "x", "stream": "flights"}
        assert told["labels"] == labels | {"severity": "warning"}
        assert told["annotations"]["summary"] == "x has changed"
        assert told["annotations"]["features"] == "x"
        assert told["startsAt"].startswith("2013-01-05T12:00:00")
        await until(found, lambda: found.view()["alertmanager_told"] >= 3, [alert()])
        assert active(alertmanager)[0]["endsAt"] > told["endsAt"]
        found.add(1, alert(1, "resolved"))
        await until(found, lambda: not active(alertmanager))

    run(DriftSettings(alertmanager=alertmanager, resend_s=0.5), body)


def test_alertmanager_lets_go_of_what_it_hears_nothing_of(alertmanager: str) -> None:
    """A standing alert is told of again and again: without that it ends by itself."""

    async def body(found: Delivery) -> None:
        found.add(0, alert(id="b"))
        await until(found, lambda: found.view()["alertmanager_told"] >= 1, [alert(id="b")])
        assert [one["labels"]["id"] for one in active(alertmanager)] == ["b"]
        end = time.monotonic() + 20
        while active(alertmanager):
            assert time.monotonic() < end
            await asyncio.sleep(0.2)

    run(DriftSettings(alertmanager=alertmanager, resend_s=0.5), body)
