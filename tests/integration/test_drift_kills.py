"""Drift under kills, as a service of its own on Apache Kafka: the same alerts, each once, every row counted once."""

import shutil
from pathlib import Path

import pytest

from infra.chaos.drift import run


@pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")), reason="Apache Kafka needs java and mvn")
def test_a_killed_drift_makes_the_same_alerts(tmp_path: Path) -> None:
    """Killed while it folds, it goes on from what it saved; transactions that were aborted are never seen."""
    found = run(tmp_path, 34_000, 2, 3, "kafka", lambda _: None)
    assert found.violations == []
    assert found.rows["scored"] == 34_000
    assert found.summaries > 50
    assert found.alerts >= 2
    assert found.went_on >= 1
