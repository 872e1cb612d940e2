"""The demo on Apache Kafka, where the guarantees hold: skipped, with the reason, where Java or Maven is missing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EVENTS = 2000
THALWEG = Path(sys.executable).with_name("thalweg")
MISSING = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"Apache Kafka needs {' and '.join(MISSING)}, which this machine lacks")
def test_on_apache_kafka_every_event_is_predicted_exactly_once(tmp_path: Path) -> None:
    """`thalweg demo --broker kafka`: exit 0; none missing, none twice, and each label one example of one event."""
    report_file = tmp_path / "report.json"
    options = ["--broker", "kafka", "--events", str(EVENTS), "--speed", "max", "--report", report_file]
    command = [THALWEG, "demo", *options, "--run-dir", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(report_file.read_text())
    assert report["broker"]["kind"] == "kafka"
    assert report["broker"]["version"].startswith("4.")
    assert report["events_sent"] == report["predictions"] == EVENTS
    assert (report["missing"], report["duplicates"], report["dead_letters"]) == (0, 0, 0)
    assert report["labels_sent"] == report["examples"] > 0.9 * EVENTS
    assert "Traceback" not in done.stderr
