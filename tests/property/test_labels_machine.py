"""The labels core held against the former one, which kept every row as an object: the same bytes, whatever happens."""

import datetime as dt
import json
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from services.labels.core import LabelsCore
from services.labels.segments import open_disks
from services.runtime.errors import Unusable
from services.runtime.frames import matrix, times
from services.runtime.grammar import Duration
from services.runtime.records import Record
from services.runtime.schemas import BESIDE, SCORE, scored_frame
from services.runtime.snapshots import KEEP
from tests.former.core import LabelsCore as Former
from tests.unit.test_labels_core import made

SECOND = 1_000_000
NOON = 1_357_387_200_000_000
PAGE = 4
IDS = st.sampled_from("abcdef")
AGES = st.integers(-15, 15)  # seconds by which a time is off the newest
ROWS = st.lists(st.tuples(IDS, AGES), min_size=1, max_size=9)
LABELS = st.lists(st.tuples(IDS, AGES, st.booleans()), min_size=1, max_size=9)


class Saved(NamedTuple):
    """A moment to which a crash may lead back."""

    state: bytes
    segments: list[str]
    former: bytes
    rows: int


class Labels(RuleBasedStateMachine):
    """Rows and labels in any order and in batches of any size, snapshots, and crashes that lead back to one of them."""

    @initialize(
        on_timeout=st.sampled_from(["drop", "negative"]), corrections=st.sampled_from([None, "10s", "15s", "40s"])
    )
    def begin(self, on_timeout: str, corrections: str | None) -> None:
        stream = made(on_timeout)
        more = corrections and Duration(corrections)
        label = replace(stream.pipeline.label, horizon=Duration("10s"), corrections=more)
        self.stream = replace(stream, pipeline=replace(stream.pipeline, label=label))
        self.frame = scored_frame(self.stream)
        self.folder = Path(mkdtemp(prefix="labels-"))
        self.now = self.rows = self.told = 0
        self.saved: list[Saved] = []
        self.former = Former(self.stream, 3)
        self.open()

    def open(self) -> None:
        self.disk = open_disks(self.folder, "made", "")(3)
        self.core = LabelsCore(self.stream, 3, self.disk, PAGE)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            rmtree(self.folder)

    @rule(passed=st.integers(0, 12), batches=st.lists(st.one_of(ROWS, LABELS), min_size=1, max_size=4))
    def fold(self, passed: int, batches: list[list[Any]]) -> None:
        self.now += passed
        log = [record for batch in batches for record in self.records(batch)]
        assert self.core.fold(log) == self.former.fold(log)

    def records(self, batch: list[Any]) -> list[Record]:
        if len(batch[0]) == 2:
            return [self.scored(batch)]
        return [self.label(name, self.now + age, late=late) for name, age, late in batch]

    def scored(self, batch: list[tuple[str, int]]) -> Record:
        first, self.rows = self.rows, self.rows + len(batch)
        numbers = np.arange(first, self.rows)
        columns = [
            pa.array([name for name, _ in batch]),
            pa.array(["k"] * len(batch)),
            times(np.array([NOON + (self.now + age) * SECOND for _, age in batch], np.int64)),
            pa.array(numbers),
            matrix(np.column_stack([numbers, numbers / 7]).astype(np.float32)),
            pa.array((numbers % 8 + 1) / 10),
            pa.array([{"version": n, "score": n / 9, "weight": 1.0} for n in numbers.tolist()], SCORE),
            pa.array([[{"version": n, "state": "shadow"}] * (n % 3) for n in numbers.tolist()], BESIDE),
        ]
        return Record("made.scored", 3, 0, None, self.frame.encode(columns), headers=self.frame.headers)

    def label(self, name: str, seconds: int, *, late: bool) -> Record:
        at = dt.datetime.fromtimestamp(NOON / SECOND + seconds, dt.UTC).isoformat()
        value = {"id": name, "key": "k", "at": at, "late": late}
        self.told += 1
        return Record("made.labels", 3, self.told, b"k", json.dumps(value).encode())

    @rule()
    def snapshot(self) -> None:
        parts = self.core.segments, self.former.snapshot(), self.rows
        store = self.disk.saving(self.core.segments, self.core.snapshot())
        store(lambda state: self.saved.append(Saved(state, *parts)))
        self.saved = self.saved[-KEEP:]

    @precondition(lambda self: self.saved)
    @rule(back=st.integers(0, KEEP - 1))
    def crash(self, back: int) -> None:
        """All the snapshots that are kept can be gone on from, whatever was removed; newer ones are gone then."""
        self.saved = self.saved[: max(1, len(self.saved) - back)]
        saved = self.saved[-1]
        self.open()
        self.core.restore(saved.state)
        self.former = Former(self.stream, 3)
        self.former.restore(saved.former)
        self.rows = saved.rows

    @precondition(lambda self: self.saved and self.saved[-1].segments)
    @rule(drawn=st.randoms(), cut=st.booleans())
    def damage(self, drawn: Any, *, cut: bool) -> None:
        """See a snapshot refused if one of its segments is missing or torn; the message names that."""
        name = drawn.choice(self.saved[-1].segments)
        [path] = self.folder.rglob(name)
        content = path.read_bytes()
        if cut:
            path.write_bytes(content[: drawn.randrange(len(content))])
        else:
            path.unlink()
        with pytest.raises(Unusable, match=name):
            LabelsCore(self.stream, 3, open_disks(self.folder, "made", "")(3), PAGE).restore(self.saved[-1].state)
        path.write_bytes(content)

    @invariant()
    def the_same(self) -> None:
        if hasattr(self, "core"):
            assert self.core.waiting == self.former.waiting
            assert self.core.totals == self.former.totals
            assert self.core.quality.state() == self.former.quality.state()
            assert self.core.maturity.state() == self.former.maturity.state()


TestLabels = Labels.TestCase
TestLabels.settings = settings(deadline=None, max_examples=100, stateful_step_count=30)
