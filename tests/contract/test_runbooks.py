"""A page for each alert: what it means, what to do, and, truthfully, how it was tried."""

import argparse
import re
from pathlib import Path

import pytest

from infra import cli

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "infra" / "runbooks"
ALERTS = (ROOT / "infra" / "prometheus" / "alerts.yml").read_text()
CAUSES = (ROOT / "loadtests" / "alerts.py").read_text()
CAUSED = "Caused by `loadtests/alerts.py`"
NAMES = re.findall(r"- alert: (\w+)", ALERTS)
SECTIONS = ["What it means", "What users notice", "How to look", "What to do", "How it was tried"]
TRIED = ("infra/prometheus/rules_test.yml", "loadtests/alerts.py", "tests/e2e/test_alerts.py")


def commands() -> set[str]:
    """Return what can follow `thalweg`: commands, and commands with their actions."""
    found = set()
    for name, parser in choices(cli._parser()).items():
        found |= {name} | {f"{name} {action}" for action in choices(parser)}
    return found


def choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (actions,) = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)] or [None]
    return {} if actions is None else dict(actions.choices)


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    """Alerts and pages are the same set, and each alert says where its page is."""
    assert len(NAMES) == len(set(NAMES)) >= 12
    assert {path.stem for path in PAGES.glob("*.md")} == set(NAMES)
    blocks = re.split(r"^ +- alert: ", ALERTS, flags=re.MULTILINE)[1:]
    said = {block.split()[0]: re.findall(r"^ +runbook: (\S+)$", block, re.MULTILINE) for block in blocks}
    assert said == {name: [f"infra/runbooks/{name}.md"] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_all_that_it_should(name: str) -> None:
    """It is headed by the alert and its severity, has each section in order, and none is empty."""
    text = (PAGES / f"{name}.md").read_text()
    severity = re.search(rf"- alert: {name}\n(?:.*\n)*?.*severity: (\w+)", ALERTS)
    assert severity
    assert text.splitlines()[0] == f"# {name} ({severity[1]})"
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    assert parts[::2] == SECTIONS
    assert all(len(part.strip()) > 7 for part in parts[1::2])
    assert any(way in parts[-1] for way in TRIED)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_tells_the_truth_of_how_it_was_tried(name: str) -> None:
    """What a page says was caused by the load test, that load test causes."""
    said = (PAGES / f"{name}.md").read_text().replace("\n", " ")
    assert (CAUSED in said) == (f'"{name}"' in CAUSES)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_commands_that_there_are(name: str) -> None:
    """Every `thalweg …` on a page is a command, with an action that it has."""
    there = commands()
    assert {"status", "models rollback", "drift hold"} <= there
    for found in re.findall(r"`thalweg ([a-z-]+(?: [a-z-]+)?)", (PAGES / f"{name}.md").read_text()):
        words = found.split()
        actions = {one for one in there if one.startswith(f"{words[0]} ")}
        assert words[0] in there, found
        assert not actions or len(words) == 1 or " ".join(words) in there, found
