"""Who may do what on the console's page, in a browser over a real run: what is ordered is on the log, and done."""

import json
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from services.runtime.commands import Command, Hold, Silence, decode_command
from services.runtime.dead_letters import DeadLetter, Replayed, decode_dead_letter
from services.runtime.models import Moved, decode_event
from tests.browsed import REFUSED, Look, look
from tests.departures import EVENT
from tests.played import ALERT, BAD, SCREENSHOTS, WORSE, Run, wait

TRAINED_MS = 150_000  # a version is trained of what was played, and another of what comes in half a day
GOOD = EVENT | {"event_id": BAD["event_id"]}
ACTS = [
    ("models", "Hold training for alerts"),
    ("models", "Promote batch@"),
    ("models", "Retire batch@"),
    ("alerts", "Silence volume: JFK"),
    ("dead", "Send as it is"),
    ("dead", "Send fixed"),
]
pytestmark = pytest.mark.timeout(600)


def test_without_a_good_token_it_says_where_one_is(browser: Browser, run: Run) -> None:
    """A wrong one: nothing is shown but where to find a good one; that one opens, and is in no address."""
    with look(browser, run.address, loud=REFUSED) as looked:
        page = looked.page
        page.goto(f"{run.address}/#token=wrong")
        expect(page.locator(".gate")).to_contain_text("console/tokens.json")
        expect(page.locator(".gate .wrong")).not_to_be_empty()
        assert looked.grave() == []
        page.screenshot(path=SCREENSHOTS / "gate-light-1440.png")
        page.locator(".gate input").fill(run.tokens.reading)
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector("[data-link=live]")
        assert "token" not in page.url


def test_no_act_is_done_without_the_acting_token(looked: Look, run: Run) -> None:
    """To whoever may read, every button says where the acting token is; the log has nothing of it."""
    page = looked.page
    for view, name in ACTS:
        looked.open(f"dead/{of(run, BAD)[0][0]}" if view == "dead" else view)
        page.get_by_role("button", name=name).first.click(timeout=TRAINED_MS)
        expect(page.locator("dialog")).to_contain_text("acting token")
        page.get_by_role("button", name="Cancel").click()
    looked.open("settings")
    page.get_by_role("button", name="Give the acting token").click()
    show(page, run.tokens.reading)
    expect(page.locator("dialog .wrong")).to_contain_text("may read, not act")
    page.keyboard.press("Escape")
    assert (commands(run), moved(run), sent_again(run)) == ([], [], set())


def test_the_settings_take_the_token_and_the_theme(looked: Look, run: Run) -> None:
    """Given the acting token there, one may act; the theme that is chosen is shown at once."""
    page = looked.page
    looked.open("settings")
    page.get_by_role("button", name="Give the acting token").click()
    show(page, run.tokens.acting)
    expect(page.locator("main")).to_contain_text("You may read and act")
    page.get_by_role("button", name="dark", exact=True).click()
    expect(page.get_by_role("button", name="dark", exact=True)).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_training_is_held_and_goes_on(looked: Look, run: Run) -> None:
    """A reader gives the acting token when asked; with it and a reason the order is on the log, and shows."""
    page = looked.page
    looked.open("models")
    page.get_by_role("button", name="Hold training").click()
    show(page, run.tokens.acting)
    assert looked.grave() == []
    page.screenshot(path=SCREENSHOTS / "dialog-light-1440.png")
    say(page, "Hold", "while the feed is repaired")
    page.get_by_role("button", name="Let training").click()
    say(page, "Go on", "it is repaired")
    expect(page.get_by_role("button", name="Hold training")).to_be_visible()
    held = [(order.held, order.reason) for order in commands(run) if isinstance(order, Hold)]
    assert held == [(True, "while the feed is repaired"), (False, "it is repaired")]


def test_an_alert_is_silenced_and_told_of_again(acting: Look, run: Run) -> None:
    """For the hours that were asked for, of its subject and kind; the alert itself says so."""
    page = acting.page
    acting.open("alerts")
    alert = page.locator(".alert").filter(has=page.get_by_role("heading", name="volume: JFK"))
    alert.get_by_role("button", name="Silence").click()
    page.locator("dialog input[name=hours]").fill("2")
    say(page, "Silence", "a strike")
    expect(alert).to_contain_text("silenced")
    expect(page.locator(".orders-list")).to_contain_text("a strike")
    alert.get_by_role("button", name="Tell again").click()
    say(page, "Tell again", "it is over")
    expect(alert).not_to_contain_text("silenced")
    first, second = (order for order in commands(run) if isinstance(order, Silence))
    assert {(one.subject, one.kind) for one in (first, second)} == {(ALERT.subject, ALERT.kind)}
    assert first.until - second.until > 6_000_000_000  # µs; it was silent for less than 20 min


def test_a_dead_letter_is_fixed_and_sent_through(acting: Look, run: Run) -> None:
    """Its bytes are shown and mended; what is no event yet is refused; sent through again, it is predicted, once."""
    acting.loud = REFUSED
    page = acting.page
    acting.open("dead")
    ((where, _),) = of(run, BAD)
    page.locator(f"main a[href='#/dead/{where}']").click()
    editor = page.get_by_label("The bytes of the event")
    expect(page.locator(".detail .reason")).to_contain_text("departure_delay_min")
    assert json.loads(editor.input_value()) == BAD
    editor.fill("{")
    expect(page.locator(".detail")).to_contain_text("Not JSON yet")
    editor.fill(json.dumps(BAD))
    page.get_by_role("button", name="Send fixed").click()
    page.get_by_role("button", name="Send through again").click()
    expect(page.locator("dialog .wrong")).to_contain_text("not good either")
    page.get_by_role("button", name="Cancel").click()
    editor.fill(json.dumps(GOOD))
    page.get_by_role("button", name="Send fixed").click()
    page.get_by_role("button", name="Send through again").click()
    wait(lambda: GOOD["event_id"] in run.predicted(), run.stack, 60)
    expect(page.locator("main table")).to_contain_text("sent again")


def test_a_dead_letter_is_sent_as_it_is(acting: Look, run: Run) -> None:
    """Still bad, it is refused again, as a letter of its own; the first is noted as sent again."""
    page = acting.page
    ((where, first),) = of(run, WORSE)
    acting.open(f"dead/{where}")
    page.get_by_role("button", name="Send as it is").click()
    page.get_by_role("button", name="Send through again").click()
    wait(lambda: len(of(run, WORSE)) > 1, run.stack, 60)
    assert first.place in sent_again(run)


def test_a_challenger_is_retired(acting: Look, run: Run) -> None:
    """Of the version that is retired the log says who did it and why, and the page follows."""
    acting.open("models")
    retire = acting.page.get_by_role("button", name=re.compile(r"^Retire batch@\d+$")).last
    order(acting.page, run, str(retire.get_attribute("aria-label", timeout=TRAINED_MS)), "retired")


def test_a_version_is_promoted_and_rolled_back_by_hand(acting: Look, run: Run) -> None:
    """Two clicks, each with its reason: the log says who moved it and why, and the page follows."""
    acting.open("models")
    promote = acting.page.get_by_role("button", name=re.compile(r"^Promote batch@\d+$")).first
    name = str(promote.get_attribute("aria-label", timeout=TRAINED_MS))
    order(acting.page, run, name, "champion")
    order(acting.page, run, name.replace("Promote", "Roll back"), "retired")


def order(page: Page, run: Run, words: str, state: str) -> None:
    """Click the button of these words, such as "Retire batch@1"; then the version's state is this one."""
    does, _, name = words.rpartition(" ")
    panel = page.locator(".version").filter(has=page.get_by_role("heading", name=name, exact=True))
    panel.get_by_role("button", name=words).click()
    say(page, does, f"the board wants it {state}")
    expect(panel.locator(".state")).to_have_text(state)
    mine = [one for one in moved(run) if f"batch@{one.version}" == name]
    assert (mine[-1].state, mine[-1].reason) == (state, f"the board wants it {state}")


def show(page: Page, token: str) -> None:
    """Give the token that is asked for."""
    page.locator("dialog input").fill(token)
    page.get_by_role("button", name="Use it").click()


def say(page: Page, button: str, reason: str) -> None:
    """Give the reason that is asked for."""
    page.locator("dialog input[name=reason]").fill(reason)
    page.locator("dialog").get_by_role("button", name=button, exact=True).click()
    expect(page.locator("dialog")).to_be_hidden()


# What the log says


def commands(run: Run) -> list[Command]:
    return [decode_command(one.value) for one in run.read("commands")]


def moved(run: Run) -> list[Moved]:
    """Return what people did on the page to versions."""
    found = [decode_event(one.value) for one in run.read("models")]
    return [one for one in found if isinstance(one, Moved) and one.actor.startswith("console")]


def letters(run: Run) -> list[tuple[str, DeadLetter]]:
    """Return the letters, each with where it stands."""
    found = [(f"{one.partition}/{one.offset}", decode_dead_letter(one)) for one in run.read("dead-letter")]
    return [(where, said) for where, said in found if isinstance(said, DeadLetter)]


def of(run: Run, event: dict[str, str]) -> list[tuple[str, DeadLetter]]:
    """Return the letters about an event."""
    return [(where, said) for where, said in letters(run) if said.original()[1] == json.dumps(event).encode()]


def sent_again(run: Run) -> set[str]:
    """Return the places of the originals that were sent through again."""
    said = map(decode_dead_letter, run.read("dead-letter"))
    return {one.place for one in said if isinstance(one, Replayed)}
