"""A real browser on the console of a real run: what it hears there, whom it asks, and what bars somebody from it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, TimeoutError, sync_playwright  # noqa: A004 - Playwright's own

CHROMIUM = Path("/usr/bin/chromium")
WAIT_MS = 30_000
TORN = "ERR_NETWORK_CHANGED"
GRAVE = ("serious", "critical")
REFUSED = ("Failed to load resource",)  # the browser's own words on 401, 403 and a refused connection


@contextmanager
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: no browser looks at the console (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = _launch(playwright)
        yield browser
        browser.close()


def _launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@dataclass
class Look:
    """A page on the console at `address`, and all that it said and asked for.

    `loud` are words of messages that are to be expected, such as the browser's own on a refused request.
    """

    page: Page
    address: str
    loud: tuple[str, ...] = ()
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    torn: bool = False  # the machine's network has changed: Chromium then drops what it loads, from this machine too

    def __post_init__(self) -> None:
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", lambda message: self._hear(message.type, f"{message.text} ({message.location['url']})"))
        self.page.on("pageerror", lambda error: self._hear("error", str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _hear(self, kind: str, words: str) -> None:
        if TORN in words:
            self.torn = True
        elif kind in ("error", "warning") and not any(word in words for word in self.loud):
            self.said.append(words)

    def enter(self, token: str) -> None:
        """Open the address that the launcher prints, and wait until something lives on it."""
        self._load(lambda: self.page.goto(f"{self.address}/#token={token}"))

    def reload(self) -> None:
        self._load(self.page.reload)

    def _load(self, go: Callable[[], object]) -> None:
        self.torn = False
        go()
        try:
            self.page.wait_for_selector("[data-link=live]")
        except TimeoutError:
            if not self.torn:
                raise
            self.reload()

    def open(self, view: str) -> None:
        self.page.evaluate("where => { location.hash = where; }", f"#/{view}")
        self.page.wait_for_selector(f"main.{view.partition('/')[0]}")

    def until(self, condition: str) -> None:
        """Wait until this holds on the page; the page's own policy bars Playwright's way of doing it."""
        end = time.monotonic() + WAIT_MS / 1000
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.05)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    def grave(self) -> list[str]:
        """Return what axe-core finds that bars somebody from the page."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
            for one in found
            if one["impact"] in GRAVE
            for node in one["nodes"]
        ]

    def check(self) -> None:
        """Nothing was wrong, and nobody else was asked for anything."""
        assert not self.said, f"the browser says: {self.said}"
        assert {urlsplit(url).netloc for url in self.asked} == {urlsplit(self.address).netloc}


@contextmanager
def look(
    browser: Browser,
    address: str,
    theme: str = "light",
    size: tuple[int, int] = (1440, 900),
    loud: tuple[str, ...] = (),
) -> Iterator[Look]:
    """Yield a window of its own, with no cookie of another; what it did is checked at the end."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
        has_touch=width < 500,
    )
    try:
        looked = Look(context.new_page(), address, loud)
        yield looked
        looked.check()
    finally:
        context.close()
