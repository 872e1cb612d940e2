"""The trainer under kills, on Apache Kafka: each example once in the table, each version once on `models`."""

import shutil
from pathlib import Path

import pytest

from infra.chaos.trainer import run


@pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")), reason="Apache Kafka needs java and mvn")
def test_a_killed_trainer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The service, the process that trains, or both, at random instants; no process is left behind."""
    outcome = run(tmp_path, 1500, 4, 7, "kafka", lambda _: None)
    assert outcome.violations == []
    assert outcome.examples > 1400
    assert len(outcome.registered) >= 1
    assert sum(outcome.kills.values()) == 4
