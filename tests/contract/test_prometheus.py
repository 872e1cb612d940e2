"""What Prometheus and Grafana are given: rules that do what they say, and no metric that nobody emits."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from infra.grafana import make

ROOT = Path(__file__).parents[2]
PROMETHEUS, GRAFANA = ROOT / "infra" / "prometheus", ROOT / "infra" / "grafana"
LIST = tomllib.loads((ROOT / "infra" / "telemetry.toml").read_text())
OURS = re.compile(r"\b(?:thalweg|messaging|http|nv|process|python)_\w+")
RECORDED = re.compile(r"\b\w+:[\w:]+")  # what rules record has colons
LABELS = {label for told in LIST["metrics"].values() for label in told.get("labels", {})}
DASHBOARDS = sorted(GRAFANA.glob("*.json"))


def promtool(*arguments: str | Path) -> str:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is missing; install it with: apt-get install prometheus")
    done = subprocess.run([tool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def emitted() -> set[str]:
    """Return every series name that the list knows: of a histogram there are three."""
    names = {*LIST["process"]["metrics"], *LIST["triton"]["metrics"]}
    for name, told in LIST["metrics"].items():
        ends = ("_bucket", "_count", "_sum") if told["type"] == "histogram" else ("",)
        names |= {name + end for end in ends}
    return names


def named(text: str) -> set[str]:
    """Return the metrics that expressions name; a label's name may look like one."""
    return set(OURS.findall(RECORDED.sub("", text))) - LABELS


def expressions(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def test_the_configuration_is_one() -> None:
    """Prometheus takes the configuration with its rules and alerts."""
    assert "SUCCESS" in promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_rules_make_of_series_what_they_shall() -> None:
    """Series of a run that is well call nobody out; losses, lateness, lags and stops call out whom they should."""
    assert "SUCCESS" in promtool("test", "rules", PROMETHEUS / "rules_test.yml")


@pytest.mark.parametrize("name", ["rules.yml", "alerts.yml"])
def test_rules_name_metrics_that_are_emitted(name: str) -> None:
    """A rule over a metric that nobody emits would never say anything."""
    found = named(expressions((PROMETHEUS / name).read_text()))
    assert len(found) > 3
    assert found <= emitted()


def test_every_alert_says_what_and_what_to_do() -> None:
    """Each has a severity, a summary and a description; a runbook that is named is there."""
    text = (PROMETHEUS / "alerts.yml").read_text()
    alerts = re.split(r"^ +- alert: ", text, flags=re.MULTILINE)[1:]
    assert len(alerts) >= 12
    for alert in alerts:
        for word in (r"severity: (page|ticket)", r"summary: \S", r"description: \S"):
            assert re.search(word, alert), f"{word} is not in {alert}"
        for runbook in re.findall(r"runbook: (\S+)", alert):
            assert (ROOT / runbook).is_file(), runbook


def test_each_alert_is_tested() -> None:
    """No alert is left out of the tests of rules."""
    alerts = set(re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text()))
    assert alerts <= set(re.findall(r'alertname[:=] ?"?(\w+)', (PROMETHEUS / "rules_test.yml").read_text()))


def test_dashboards_are_what_their_script_makes() -> None:
    """Whoever changes a dashboard changes the script: `python -m infra.grafana.make` writes them."""
    made = {name: make.text(dashboard) for name, dashboard in make.dashboards().items()}
    assert {path.stem: path.read_text() for path in DASHBOARDS} == made


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_show_metrics_that_are_emitted(path: Path) -> None:
    """Every metric in a panel's query is in the list, or is a recording rule."""
    queries = re.findall(r'"expr": "((?:[^"\\]|\\.)*)"', path.read_text())
    assert len(queries) > 3
    recorded = set(re.findall(r"record: (\S+)", (PROMETHEUS / "rules.yml").read_text()))
    for query in queries:
        rules = set(RECORDED.findall(query))
        assert rules <= recorded, query
        assert named(query) <= emitted(), query
        assert rules or named(query), query
