"""The console as a process on a real broker: what it outlives."""

from pathlib import Path

import httpx
import msgspec

from infra.local import brokers
from infra.local.processes import Children
from services.runtime.models import BATCH, Registered
from tests.consoles import Log, Running, states, until
from tests.spanned import PROTOBUF, spans


def test_a_killed_console_is_there_again(log: Log, tmp_path: Path) -> None:
    """Sessions, spans and the picture are there after a kill: in cookies, on disk, read anew."""
    mine = Log.__new__(Log)
    mine.__dict__ |= log.__dict__ | {"settings": msgspec.structs.replace(log.settings, data=tmp_path)}
    console = Running(mine)
    console.start()
    with console.page() as (page, csrf):
        httpx.post(f"{console.url}/v1/traces", content=spans(31), headers=PROTOBUF)
        until(lambda: page.get(f"/api/traces/{31:032x}").is_success)
        console.kill()
        console.start()
        assert page.get("/api/session").json() == {"reading": True, "acting": True, "csrf": csrf}
        assert page.get(f"/api/traces/{31:032x}").is_success
    assert console.stop() == 0


def test_a_broker_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """Without a broker the page says for what it waits; with one it reads, with another anew."""
    with Children(tmp_path / "logs") as children:
        broker = brokers.start("embedded", children, tmp_path)
        brokers.wait_ready(broker, children)
        log = Log(broker, tmp_path / "data")
        log.create()
        log.say("models", *(Registered(BATCH, n, log.stream.feature_set, 9, 0.3, 0.5, "schedule") for n in (1, 2)))
        children["tansu"].stop()
        console = Running(log)
        console.start()
        try:
            with console.program() as program:
                until(lambda: "broker" in (console.live(program, 1.5)["flow"]["waiting_for"] or ""))
                assert program.get("/api/predictions/x").status_code == 503
                children["tansu"].restart()
                brokers.wait_ready(broker, children)
                until(lambda: "not there" in (console.live(program, 1.5)["flow"]["waiting_for"] or ""), 40)
                log.create()
                log.say("models", Registered(BATCH, 1, log.stream.feature_set, 9, 0.3, 0.5, "schedule"))
                until(lambda: console.live(program, 1.5)["flow"]["waiting_for"] is None, 40)
                until(lambda: states(program) == {"batch@1": "registered"}, 40)
        finally:
            console.kill()
