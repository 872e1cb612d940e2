"""The console's page in a real browser, over a real run: what it shows is what is, and what it orders happens."""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from playwright.sync_api import Browser, Page, expect

from infra.local.ledger import Ledger
from infra.local.replayer import Replayer, records
from infra.local.stack import REPOSITORY, Options, Stack
from services.console.access import Tokens
from services.console.tokens import make_tokens, tokens_path
from services.runtime.commands import Hold, decode_command
from services.runtime.history import read_all
from services.runtime.models import Moved, decode_event
from services.runtime.records import Record
from services.runtime.stream import load_stream
from tests.browsed import Look, chromium, look

SCHEMAS = REPOSITORY / "schemas"
STREAM = load_stream(SCHEMAS, "flights")
SCREENSHOTS = Path(os.environ.get("CONSOLE_SCREENSHOTS", Path(__file__).with_name("screenshots")))
RECORDS = 26_000  # events and labels: drift wants 10,000 events before it compares
TRICKLE, TRICKLE_S = 5, 0.25
VIEWS = ("flow", "quality", "predictions", "models", "drift", "alerts", "dead", "settings")
PHONE = (360, 780)
HOUR_NS = 3_600_000_000_000
PAINT_MS = 1000
TRAINED_MS = 150_000  # the trainer trains once 10,000 examples are there, which RECORDS bring
PAGE_BYTES = 200_000
BUSY = 0.25  # of a core, that a browser without a GPU may take to keep the page up to date on a crowded machine
BAD = {"event_id": "2013-12-31-XX-1-JFK", "origin": "JFK", "departure_delay_min": "late"}
GOOD = {
    "event_id": "2013-12-31-XX-1-JFK",
    "origin": "JFK",
    "dest": "MIA",
    "carrier": "AA",
    "flight": 1,
    "tailnum": None,
    "scheduled_at": "2013-01-08T10:40:00Z",
    "departed_at": "2013-01-08T10:42:00Z",
    "departure_delay_min": 2.0,
    "distance_mi": 1089.0,
}
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
DRAWN = "performance.getEntriesByName('drawn')[0]?.startTime"
LOADED = """performance.getEntriesByType('resource').filter(one => !one.name.includes('/api/'))
    .reduce((sum, one) => sum + one.encodedBodySize, performance.getEntriesByType('navigation')[0].encodedBodySize)"""
REFUSED = ("Failed to load resource",)  # the browser's own words on 401, 403 and a refused connection
expect.set_options(timeout=15_000)
pytestmark = pytest.mark.timeout(300)


@dataclass
class Run:
    """A platform that has played flights, one of whose events was refused."""

    stack: Stack
    tokens: Tokens
    newest: str  # the id of the event that was sent last

    @property
    def address(self) -> str:
        return self.stack.console

    def read(self, kind: str) -> list[Record]:
        """Return all that a topic holds."""
        return [record for batch in read_all(self.stack.settings, STREAM.topic(kind)) for record in batch]

    def predicted(self) -> dict[str, dict[str, object]]:
        """Every prediction on the log, by its event's id."""
        found = [json.loads(one.value) for one in self.read("predictions")]
        return {one["event_id"]: one for one in found}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def run(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:  # noqa: ARG001 - no run without one
    options = Options("flights", run_dir=tmp_path_factory.mktemp("console"))
    with Stack(options, STREAM, SCHEMAS) as stack:
        ledger = Ledger(stack.settings, STREAM)
        flights = records(SCHEMAS, "flights", None)
        bulk = Replayer(STREAM, stack.ingestion, islice(flights, RECORDS), float("inf"), stack.check)
        sent = bulk.run(ledger.check)
        wait(lambda: ledger.complete(sent), stack, 150)
        ledger.close()
        producer = Producer({"bootstrap.servers": stack.broker.address})
        producer.produce(STREAM.topic("events"), json.dumps(BAD).encode(), key=b"JFK")
        producer.flush(10)
        tokens, _ = make_tokens(tokens_path(stack.data))
        with trickling(Replayer(STREAM, stack.ingestion, flights, float("inf"), stack.check, most=TRICKLE)):
            yield Run(stack, tokens, list(sent.events)[-1])


@contextmanager
def trickling(replayer: Replayer) -> Iterator[None]:
    """Have some more come all the while, so that there is life to look at."""
    over = threading.Event()

    def trickle() -> None:
        with suppress(Over):
            replayer.run(pause)

    def pause() -> None:
        if over.wait(TRICKLE_S):
            raise Over

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Over(Exception):  # noqa: N818 - an event
    """Enough was sent."""


def wait(condition: Callable[[], bool], stack: Stack, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        stack.check()
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.1)


@pytest.fixture
def looked(browser: Browser, run: Run) -> Iterator[Look]:
    with look(browser, run.address) as looked:
        looked.enter(run.tokens.reading)
        yield looked


@pytest.fixture
def acting(browser: Browser, run: Run) -> Iterator[Look]:
    with look(browser, run.address) as looked:
        looked.enter(run.tokens.acting)
        yield looked


# What is shown


def shows_flow(page: Page, run: Run) -> None:
    names = {name.partition("-")[0] for name in run.stack.instances.probes} - {"console"} | {"ingestion"}
    for name in names:
        expect(page.get_by_role("table", name="Each process")).to_contain_text(name)
    shown = page.get_by_role("table", name="Topics").get_by_role("row", name=re.compile("^events ")).locator("td").last
    expect(shown).to_have_text(re.compile(r"\d,\d{3}"))
    assert int(shown.inner_text().replace(",", "")) == pytest.approx(len(run.read("events")), rel=0.05)


def shows_quality(page: Page, run: Run) -> None:  # noqa: ARG001
    expect(page.locator(".key")).to_contain_text("served")
    expect(page.locator(".plot canvas")).to_be_visible()
    expect(page.locator(".calibration .dot")).not_to_have_count(0)
    expect(page.locator("main table tbody")).to_contain_text("carrier UA")


def shows_predictions(page: Page, run: Run) -> None:
    row = page.locator(".tape a").first
    expect(row).to_be_visible()
    assert row.locator(".id").inner_text() in run.predicted()


def shows_models(page: Page, run: Run) -> None:  # noqa: ARG001
    expect(page.locator(".version h2").first).to_contain_text("online@")


def shows_drift(page: Page, run: Run) -> None:  # noqa: ARG001
    expect(page.locator(".names li")).not_to_have_count(0)
    expect(page.locator(".drifted .histogram rect.after")).not_to_have_count(0)


def shows_alerts(page: Page, run: Run) -> None:  # noqa: ARG001
    expect(page.locator("main .alert, main .hint").first).to_be_visible()


def shows_dead(page: Page, run: Run) -> None:  # noqa: ARG001
    expect(page.locator("main table")).to_contain_text("schema")


def shows_settings(page: Page, run: Run) -> None:
    expect(page.locator(".pairs")).to_contain_text(run.stack.broker.address)
    for secret in (run.tokens.reading, run.tokens.acting, run.tokens.key):
        assert secret not in page.content()


SHOWS = {
    "flow": shows_flow, "quality": shows_quality, "predictions": shows_predictions, "models": shows_models,
    "drift": shows_drift, "alerts": shows_alerts, "dead": shows_dead, "settings": shows_settings,
}  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), PHONE], ids=["desk", "phone"])
def test_every_view_shows_what_is_and_bars_nobody(
    browser: Browser, run: Run, theme: str, size: tuple[int, int]
) -> None:
    """Each view, reached by its key: its content is that of the log, it fits the window, axe finds nothing grave."""
    SCREENSHOTS.mkdir(exist_ok=True)
    with look(browser, run.address, theme, size) as looked:
        looked.enter(run.tokens.reading)
        found = {}
        for key, view in enumerate(VIEWS, 1):
            looked.page.keyboard.press(str(key))
            looked.page.wait_for_selector(f"main.{view}")
            SHOWS[view](looked.page, run)
            looked.page.screenshot(path=SCREENSHOTS / f"{view}-{theme}-{size[0]}.png")
            found |= {view: grave} if (grave := looked.grave()) else {}
            assert looked.overflow() <= 0, view
        assert found == {}


def test_the_theme_is_chosen_and_remembered(looked: Look) -> None:
    """The switch goes through auto, light and dark; what was chosen holds after a reload."""
    page = looked.page
    assert background(page) == "rgb(243, 246, 246)"
    page.keyboard.press("t")
    page.keyboard.press("t")
    assert background(page) == "rgb(11, 17, 21)"
    page.reload()
    page.wait_for_selector("[data-link=live]")
    assert background(page) == "rgb(11, 17, 21)"


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_a_prediction_is_accounted_for(looked: Look, run: Run) -> None:
    """Searched by id: its score, versions, weights and features are those on the log."""
    page = looked.page
    page.keyboard.press("/")
    page.keyboard.type(run.newest)
    page.keyboard.press("Enter")
    expect(page.locator(".verdict h2")).to_have_text(run.newest)
    prediction = run.predicted()[run.newest]
    scores, weights = prediction["scores"], prediction["weights"]
    assert isinstance(scores, dict)
    assert isinstance(weights, dict)
    for version, score in scores.items():
        row = page.locator(".mix tr", has_text=version)
        assert float(row.locator("td").first.inner_text()) == pytest.approx(score, abs=1e-3)
        assert row.locator("td").nth(2).inner_text().rstrip(" %") == f"{100 * weights[version]:.0f}"
    for feature in STREAM.columns:
        expect(page.locator(".features")).to_contain_text(feature)
    assert looked.grave() == []
    page.screenshot(path=SCREENSHOTS / "prediction-light-1440.png")


def test_a_trace_is_a_waterfall(looked: Look, run: Run) -> None:
    """Spans that the console was sent: parents before children, hours without any folded, attributes on a click."""
    start = 1_357_600_000_000_000_000
    sent = [
        span("a1", "", "checkout", "sell", start, 40_000_000, {"thalweg.event_id": run.newest}),
        span("b2", "a1", "ingestion", "POST /v1/streams/{stream}/events", start + 5_000_000, 20_000_000, {}),
        span("c3", "b2", "labels", "process flights.labels", start + 3 * HOUR_NS, 9_000_000, {"thalweg.rows": "7"}),
    ]
    httpx.post(f"{run.address}/v1/traces", json={"resourceSpans": sent}).raise_for_status()
    looked.open(f"predictions/{run.newest}")
    page = looked.page
    rows = page.locator(".waterfall li")
    expect(rows).to_have_count(3)
    assert [row.locator(".label b").inner_text() for row in rows.all()] == ["checkout", "ingestion", "labels"]
    assert [row.locator(".n").inner_text() for row in rows.all()] == ["40 ms", "20 ms", "9 ms"]
    expect(page.locator(".ruler span")).to_have_text("2 h 59 min")
    rows.last.get_by_role("button").click()
    expect(rows.last.locator(".attributes")).to_contain_text("thalweg.rows")
    assert looked.grave() == []
    page.screenshot(path=SCREENSHOTS / "trace-light-1440.png")


def span(
    name: str, parent: str, service: str, does: str, start_ns: int, lasts_ns: int, attributes: dict[str, str]
) -> dict[str, Any]:
    """Return a span of one trace as OTLP has it in JSON, under the service that sends it."""
    told = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
    sent = {"traceId": "5f" * 16, "spanId": name * 8, "parentSpanId": parent * 8, "name": does, "kind": 1}
    sent |= {"startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(start_ns + lasts_ns), "attributes": told}
    named = [{"key": "service.name", "value": {"stringValue": service}}]
    return {"resource": {"attributes": named}, "scopeSpans": [{"spans": [sent]}]}


def test_an_unknown_event_says_what_to_do(browser: Browser, run: Run) -> None:
    """An id that is nowhere: what is wrong, and what to do next."""
    with look(browser, run.address, loud=REFUSED) as looked:
        looked.enter(run.tokens.reading)
        looked.open("predictions/2013-02-30-NO-1-JFK")
        expect(looked.page.locator(".detail .hint h3")).not_to_be_empty()
        expect(looked.page.locator(".detail .hint p")).not_to_be_empty()


def test_rows_are_gone_along_by_keys(looked: Look) -> None:
    """On the tape j and k move, which pauses it, Enter opens, Escape goes back."""
    page = looked.page
    looked.open("predictions")
    page.wait_for_selector(".tape a")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    chosen = page.evaluate("document.activeElement.querySelector('.id').textContent")
    page.keyboard.press("Enter")
    expect(page.locator(".verdict h2")).to_have_text(chosen)
    page.keyboard.press("Escape")
    expect(page.locator(".split.opened")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.locator("dialog[open]")).to_contain_text("next and previous row")


# Who may do what


def test_without_a_good_token_it_says_where_one_is(browser: Browser, run: Run) -> None:
    """A wrong one: nothing is shown but where to find a good one; that one opens, and is in no address."""
    with look(browser, run.address, loud=REFUSED) as looked:
        page = looked.page
        page.goto(f"{run.address}/#token=wrong")
        expect(page.locator(".gate")).to_contain_text("console/tokens.json")
        expect(page.locator(".gate .wrong")).not_to_be_empty()
        assert looked.grave() == []
        page.locator(".gate input").fill(run.tokens.reading)
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector("[data-link=live]")
        assert "token" not in page.url


def test_an_act_wants_the_acting_token_and_a_reason(looked: Look, run: Run) -> None:
    """A reader is told where the acting token is; with it and a reason the order is on the log, and shows."""
    page = looked.page
    looked.open("models")
    page.get_by_role("button", name="Hold training").click()
    expect(page.locator("dialog")).to_contain_text("acting token")
    assert orders(run) == []
    page.locator("dialog input").fill(run.tokens.acting)
    page.get_by_role("button", name="Use it").click()
    page.locator("dialog input[name=reason]").fill("while the feed is repaired")
    assert looked.grave() == []
    page.get_by_role("button", name="Hold", exact=True).click()
    expect(page.get_by_role("button", name="Let training")).to_be_visible()
    assert [(order.held, order.reason) for order in orders(run)] == [(True, "while the feed is repaired")]


def orders(run: Run) -> list[Hold]:
    found = [decode_command(one.value) for one in run.read("commands")]
    return [order for order in found if isinstance(order, Hold)]


def test_a_version_is_promoted_and_rolled_back_by_hand(acting: Look, run: Run) -> None:
    """Two clicks, each with its reason: the log says who moved it and why, and the page follows."""
    acting.open("models")
    promote = acting.page.get_by_role("button", name=re.compile(r"^Promote batch@\d+$")).first
    promote.wait_for(timeout=TRAINED_MS)
    name = str(promote.get_attribute("aria-label")).removeprefix("Promote ")
    panel = acting.page.locator(".version").filter(has=acting.page.get_by_role("heading", name=name, exact=True))
    for button, words, reason, state in (
        (promote, "Promote", "the board wants it", "champion"),
        (panel.get_by_role("button", name=f"Roll back {name}"), "Roll back", "the board regrets it", "retired"),
    ):
        button.click()
        acting.page.locator("dialog input[name=reason]").fill(reason)
        acting.page.locator("dialog").get_by_role("button", name=words, exact=True).click()
        expect(panel.locator(".state")).to_have_text(state)
        moved = [one for one in map(decode_event, (one.value for one in run.read("models"))) if isinstance(one, Moved)]
        mine = next(one for one in moved if one.reason == reason)
        assert (f"batch@{mine.version}", mine.state) == (name, state)
        assert mine.actor.startswith("console")


def test_a_dead_letter_is_fixed_and_sent_through(acting: Look, run: Run) -> None:
    """Its bytes are shown and mended; sent through again, it is predicted, once."""
    page = acting.page
    acting.open("dead")
    page.get_by_role("link", name="Look at dead letter").first.click()
    editor = page.get_by_label("The bytes of the event")
    expect(page.locator(".detail .reason")).to_contain_text("departure_delay_min")
    assert json.loads(editor.input_value()) == BAD
    editor.fill("{")
    expect(page.locator(".detail")).to_contain_text("Not JSON yet")
    editor.fill(json.dumps(GOOD))
    page.get_by_role("button", name="Send fixed").click()
    page.get_by_role("button", name="Send through again").click()
    wait(lambda: GOOD["event_id"] in run.predicted(), run.stack, 30)
    expect(page.locator("main table")).to_contain_text("sent again")


# What it bears, and what it costs


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
        shows_quality(looked.page, run)
        looked.open("predictions")
        expect(looked.page.locator(".tape a").first).to_be_visible()


def test_it_is_there_within_a_second_and_weighs_little(browser: Browser, run: Run) -> None:
    """First paint, and the river drawn, each within a second at best of three; all that it loads is 200 kB at most."""
    found = []
    for _ in range(3):
        with look(browser, run.address) as looked:
            looked.enter(run.tokens.reading)
            looked.page.reload()
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


def note(**figures: float) -> None:
    """Put what was measured beside the screenshots."""
    file = SCREENSHOTS / "figures.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(before | figures, indent=2))


def busy(found: dict[str, list[dict[str, float]]]) -> float:
    """Seconds that the page's main thread has worked."""
    return next(one["value"] for one in found["metrics"] if one["name"] == "TaskDuration")
