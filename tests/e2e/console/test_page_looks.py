"""What each view of the console's page shows, in a real browser over a real run: it is what is, and bars nobody."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsed import REFUSED, Look, look
from tests.played import SCREENSHOTS, Run, wait

PHONE = (360, 780)
pytestmark = pytest.mark.timeout(600)


def shows_flow(page: Page, run: Run) -> None:
    names = {name.partition("-")[0] for name in run.stack.instances.probes} - {"console"} | {"ingestion"}
    for name in names:
        expect(page.get_by_role("table", name="Each process")).to_contain_text(name)
    shown = page.get_by_role("table", name="Topics").get_by_role("row", name=re.compile("^events ")).locator("td").last
    expect(shown).to_have_text(re.compile(r"\d,\d{3}"))

    def true() -> bool:  # of the last batch that was written the embedded broker counts one record
        return int(shown.inner_text().replace(",", "")) == pytest.approx(len(run.read("events")), rel=0.05)

    wait(true, run.stack, 60)


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
    with look(browser, run.address, theme, size) as looked:
        looked.enter(run.tokens.reading)
        found = {}
        for key, view in enumerate(SHOWS, 1):
            looked.page.keyboard.press(str(key))
            looked.page.wait_for_selector(f"main.{view}")
            SHOWS[view](looked.page, run)
            found |= judged(looked, view, f"{view}-{theme}-{size[0]}")
        looked.open(f"predictions/{run.newest}")
        expect(looked.page.locator(".verdict h2")).to_have_text(run.newest)
        found |= judged(looked, "prediction", f"prediction-{theme}-{size[0]}")
        looked.open("dead")
        looked.page.get_by_role("link", name="Look at dead letter").first.click()
        expect(looked.page.locator(".detail .reason")).to_contain_text("departure_delay_min")
        found |= judged(looked, "letter", f"letter-{theme}-{size[0]}")
        assert found == {}


def judged(looked: Look, view: str, name: str) -> dict[str, list[str]]:
    """Keep a picture of what is shown, which fits the window; return what of it bars somebody."""
    looked.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    assert looked.overflow() <= 0, view
    return {view: grave} if (grave := looked.grave()) else {}


def test_the_theme_is_chosen_and_remembered(looked: Look) -> None:
    """The switch goes through auto, light and dark; what was chosen holds after a reload."""
    page = looked.page
    assert background(page) == "rgb(243, 246, 246)"
    page.keyboard.press("t")
    page.keyboard.press("t")
    assert background(page) == "rgb(11, 17, 21)"
    looked.reload()
    assert background(page) == "rgb(11, 17, 21)"


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


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
