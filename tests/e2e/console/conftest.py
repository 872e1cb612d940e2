"""One browser and one run for all that looks at the console's page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browsed import Look, chromium, look
from tests.kept_open import kept_open
from tests.played import SCREENSHOTS, Run, played

expect.set_options(timeout=60_000)  # on a crowded machine; what is there is seen at once


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Browser:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return kept_open(request, "browser", chromium)


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Run:  # noqa: ARG001
    return kept_open(request, "run", lambda: played(tmp_path_factory.mktemp("console")))


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
