"""The hostile run in small: malformed records and bodies at a whole stack on Apache Kafka, every one accounted for."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.malformed import SPOILT

ROOT = Path(__file__).parents[2]
RECORDS = 5000
MISSING = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"Apache Kafka needs {' and '.join(MISSING)}, which this machine lacks")
def test_every_malformed_record_is_accounted_for(tmp_path: Path) -> None:
    """Good ones are predicted once, bad ones refused or dead letters, nothing ends or grows; every kind was sent."""
    report_file = tmp_path / "report.json"
    options = ["--records", str(RECORDS), "--broker", "kafka", "--report", report_file]
    command = [sys.executable, ROOT / "loadtests" / "hostile.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads(report_file.read_text())
    assert report["violations"] == []
    assert report["bad"] >= RECORDS
    assert report["good"] > RECORDS / 25
    own = {"clock", "duplicate", "wrong key", "no key", "tombstone"}
    for kind in ("events", "labels"):
        assert {f"{kind}: {what}" for what in {*SPOILT, *own} - {"too large"}} <= report["kinds"].keys()
    assert sum(kind.startswith("body: ") for kind in report["kinds"]) == 20
