"""The learner under kills: exactly-once learning, on Apache Kafka."""

import shutil
from pathlib import Path

import pytest

from infra.chaos.learner import run


@pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")), reason="Apache Kafka needs java and mvn")
def test_a_killed_learner_ends_as_one_that_never_was(tmp_path: Path) -> None:
    """Killed at random instants while it learns, it has the same state and gives the same scores, bit for bit."""
    outcome = run(tmp_path, 1500, 5, 7, lambda _: None)
    assert outcome.examples > 1000
    assert outcome.killed == outcome.undisturbed
    assert outcome.same_scores
