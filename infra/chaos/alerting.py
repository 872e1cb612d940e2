"""Alerts that are caused: a real Prometheus over a real run, by the rules of infra/prometheus with time made shorter.

Every duration of a rule, and every threshold in seconds, is divided by the same number, so that what takes half an hour
in life takes a minute here. The expressions are what they are.
"""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from infra.local.brokers import free_ports
from infra.local.processes import Children

RULES = Path(__file__).parents[1] / "prometheus"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SECONDS = ("thalweg_waiting_seconds", "thalweg_snapshot_age_seconds", "thalweg_summary_age_seconds", "lag_seconds")
_CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml, alerts.yml]
scrape_configs:
  - job_name: thalweg
    file_sd_configs: [{{files: ["{targets}"], refresh_interval: 1s}}]
"""


def shortened(rules: str, factor: int) -> str:
    """Return the rules with every duration, and every threshold of a metric in seconds, divided by `factor`."""
    shorter = re.sub(
        r"(\[|for: |offset )(\d+)([smhd])\b",
        lambda found: f"{found[1]}{int(found[2]) * UNITS[found[3]] * 1000 // factor}ms",
        rules,
    )
    return re.sub(
        rf"((?:{'|'.join(SECONDS)})(?:{{[^}}]*}})?\)* (?:>|<=)(?: bool)? )(\d+)\b",
        lambda found: f"{found[1]}{int(found[2]) / factor:g}",
        shorter,
    )


class Prometheus:
    """One that scrapes the runs below `run_dir` every second, in `folder`; `children` end it."""

    def __init__(self, children: Children, folder: Path, run_dir: Path, factor: int) -> None:
        program = shutil.which("prometheus")
        if program is None:
            raise LookupError("Prometheus is missing; install it with: apt-get install prometheus")
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("rules.yml", "alerts.yml"):
            (folder / name).write_text(shortened((RULES / name).read_text(), factor))
        targets = run_dir.resolve() / "prometheus" / "*.json"
        (folder / "prometheus.yml").write_text(_CONFIG.format(targets=targets))
        address = f"127.0.0.1:{free_ports(1)[0]}"
        where = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
        children.start("prometheus", [program, *where, f"--web.listen-address={address}", "--log.level=warn"])
        self._url = f"http://{address}/api/v1/alerts"

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now; none while it does not answer yet."""
        try:
            told = httpx.get(self._url, timeout=5).raise_for_status().json()
        except httpx.HTTPError:
            return set()
        return {alert["labels"]["alertname"] for alert in told["data"]["alerts"] if alert["state"] == "firing"}

    def wait(self, fine: Callable[[set[str]], bool], seconds: float, check: Callable[[], None]) -> float | None:
        """Return after how many seconds what fires is fine; None if it is not in time."""
        began = time.monotonic()
        while not fine(self.firing()):
            check()
            if time.monotonic() - began > seconds:
                return None
            time.sleep(0.25)
        return time.monotonic() - began
