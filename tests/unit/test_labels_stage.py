"""The labels service without a broker: its stage in the production loop, with more rows than stay in memory."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from services.labels.core import LabelsCore
from services.labels.joining import Joining
from services.labels.rows import PAGE
from services.labels.segments import open_disks
from services.runtime.clock import SystemClock
from services.runtime.frames import matrix, times
from services.runtime.health import Health
from services.runtime.records import Outgoing
from services.runtime.schemas import BESIDE, SCORE, scored_frame
from tests.loops import Place
from tests.unit.test_labels_core import NOON, STREAM

BATCH, ROWS = 8000, 5 * PAGE // 2
TOPICS = ("made.scored", "made.labels")


def scored(first: int) -> Outgoing:
    """Return rows named by their number, a microsecond apart."""
    numbers = np.arange(first, min(first + BATCH, ROWS))
    columns = [
        pa.array(list(map(str, numbers))),
        pa.array(["k"] * len(numbers)),
        times(NOON + numbers),
        pa.array(numbers),
        matrix(np.column_stack([numbers, -numbers]).astype(np.float32)),
        pa.array(np.full(len(numbers), 0.5)),
        pa.array([{"version": 1, "score": 0.5, "weight": 1.0}] * len(numbers), SCORE),
        pa.array([[]] * len(numbers), BESIDE),
    ]
    frame = scored_frame(STREAM)
    return Outgoing("made.scored", frame.encode(columns), partition=0, headers=frame.headers)


def label(n: int) -> Outgoing:
    value = {"id": f"{n}", "key": "k", "at": "2013-01-05T12:01:00Z", "late": n % 2 == 0}
    return Outgoing("made.labels", json.dumps(value).encode(), b"k", partition=0)


class Run(Place):
    """A log on which labels come and go."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, topics=TOPICS)
        for first in range(0, ROWS, BATCH):
            self.log.append(scored(first))

    def go_on(self, records: int) -> None:
        """Run a new process until it has folded so many, and have it leave in order."""
        stage = Joining(STREAM, ROWS + 1, Health("labels", SystemClock()), open_disks(self.data, "made", ""))
        loop = self.loop(stage, batch=3, snapshot_every_s=0)
        loop.run(count=records)
        loop.close()

    def examples(self) -> list[bytes]:
        return [record.value for record in self.log.read("made.examples")]

    def segments(self) -> list[Path]:
        return sorted((self.data / "state").rglob("*.arrow"))


def test_a_restart_goes_on_from_segments(tmp_path: Path) -> None:
    """Rows on disk meet their labels in another process, as in one that was never stopped."""
    run = Run(tmp_path)
    run.go_on(-(-ROWS // BATCH))
    assert len(run.segments()) == 2
    assert run.examples() == []
    wanted = [3, ROWS - 1, PAGE, 2 * PAGE + 5, 4]
    for n in wanted:
        run.log.append(label(n))
    run.go_on(len(wanted))
    core = LabelsCore(STREAM, 0)
    core.fold(run.log.read("made.scored"))
    assert run.examples() == [
        out.value for n in (slice(3), slice(3, 6)) for out in core.fold(run.log.read("made.labels")[n])
    ]


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"torn")])
def test_a_segment_is_lost(harm: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The snapshots that rely on it are passed over and named, and the log is folded again: no example is lost."""
    run = Run(tmp_path)
    run.go_on(-(-ROWS // BATCH))
    for path in run.segments():
        harm(path)
    run.log.append(label(3))
    run.go_on(1)
    assert len(run.examples()) == 1
    said = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert said
    assert all("is missing or damaged" in message for message in said)
    assert len(run.segments()) == 2
