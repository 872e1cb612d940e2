"""Two minutes of faults under load, on three nodes of Apache Kafka, and the proof."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
@pytest.mark.skipif(not (shutil.which("java") and shutil.which("mvn")), reason="Apache Kafka needs java and mvn")
def test_nothing_is_lost_or_doubled_under_faults(tmp_path: Path) -> None:
    """Services, Triton and brokers are killed, paused and resized, and every promise of the log holds."""
    report = tmp_path / "report.json"
    command = [sys.executable, "loadtests/chaos.py", "--minutes", "2", "--seed", "3", "--events", "400"]
    paths = ["--run-dir", str(tmp_path / "run"), "--report", str(report)]
    done = subprocess.run([*command, *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(report.read_bytes())
    assert found["what"] == [], done.stdout[-3000:]
    assert done.returncode == 0
    assert found["faults"] >= 8
    assert len(found["faults_by_kind"]) >= 5
    assert found["checked"]["predictions"] == found["events"] > 5000
