"""What the console's page bears, and what it costs, in a real browser over a real run."""

import os

import pytest
from playwright.sync_api import Browser, expect

from tests.browsed import REFUSED, Look, look
from tests.played import Run, note

PAINT_MS = 1000
PAGE_BYTES = 200_000
BUSY = 0.25  # of a core, that a browser without a GPU may take to keep the page up to date on a crowded machine
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
DRAWN = "performance.getEntriesByName('drawn')[0]?.startTime"
LOADED = """performance.getEntriesByType('resource').filter(one => !one.name.includes('/api/'))
    .reduce((sum, one) => sum + one.encodedBodySize, performance.getEntriesByType('navigation')[0].encodedBodySize)"""
pytestmark = pytest.mark.timeout(600)


def test_the_console_s_restart_is_seen_and_got_over(browser: Browser, run: Run) -> None:
    """Killed, the page says that it reconnects and keeps what it had; started again it goes on, the session too."""
    console = run.stack.children["console"]
    with look(browser, run.address, loud=(*REFUSED, "ERR_")) as looked:
        looked.enter(run.tokens.reading)
        looked.page.wait_for_selector(".town")
        console.kill()
        looked.page.wait_for_selector("[data-link=reconnecting]")
        assert looked.page.locator(".town").count() > 0
        console.restart()
        looked.page.wait_for_selector("[data-link=live]")
        looked.open("quality")
        expect(looked.page.locator(".key")).to_contain_text("served")
        looked.open("predictions")
        expect(looked.page.locator(".tape a").first).to_be_visible()


def test_it_is_there_within_a_second_and_weighs_little(browser: Browser, run: Run) -> None:
    """First paint, and the river drawn, each within a second at best of three; all that it loads is 200 kB at most."""
    found = []
    for _ in range(3):
        with look(browser, run.address) as looked:
            looked.enter(run.tokens.reading)
            looked.reload()
            looked.page.wait_for_selector(".town")
            looked.open("quality")
            looked.page.wait_for_selector(".plot canvas")
            looked.until(f"Boolean({PAINTED} && {DRAWN})")
            found.append([looked.page.evaluate(told) for told in (PAINTED, DRAWN, LOADED)])
    painted, drawn, loaded = (min(one) for one in zip(*found, strict=True))
    note(painted_ms=painted, drawn_ms=drawn, bytes=loaded)
    assert painted < PAINT_MS * crowding()
    assert drawn < PAINT_MS * crowding()
    assert 100_000 < loaded <= PAGE_BYTES


def test_it_is_cheap_to_keep_open(looked: Look) -> None:
    """Ten seconds of a live view: scripts, layout and paint take little of a core."""
    session = looked.page.context.new_cdp_session(looked.page)
    session.send("Performance.enable")
    before = busy(session.send("Performance.getMetrics"))
    looked.page.wait_for_timeout(10_000)
    spent = (busy(session.send("Performance.getMetrics")) - before) / 10
    note(share_of_a_core=spent)
    assert spent < BUSY


def crowding() -> float:
    """Return how many wait for each core: what takes a second of a core takes so many then."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def busy(found: dict[str, list[dict[str, float]]]) -> float:
    """Seconds that the page's main thread has worked."""
    return next(one["value"] for one in found["metrics"] if one["name"] == "TaskDuration")
