"""What a version has learned from: exactly the examples that made it, as ranges of offsets."""

import numpy as np
import pytest

from services.replay.story.examples import Batch, batches
from services.replay.story.facts import Training
from services.replay.story.lessons import Lessons, batch_lessons, online_lessons
from services.runtime.errors import Stop
from tests.recorded import Recorded


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("run"))


def examples(run: Recorded) -> list[Batch]:
    return [*batches(run.history, run.stream, lambda *_: None)]


def covered(found: Lessons) -> set[tuple[int, int]]:
    ranges = [(source.partition, one) for source in found.sources for one in source.offsets]
    return {(partition, offset) for partition, one in ranges for offset in range(one.first, one.last + 1)}


def test_a_version_of_the_online_model_is_its_first_examples(run: Recorded) -> None:
    """Of each N: ranges cover the events of the first N examples and no others, ids and times are theirs."""
    rows = [(record.offset, row) for record, batch in examples(run) for row in batch.to_pylist()]
    assert len(rows) == 32
    for version in range(1, len(rows) + 1):
        found, first = online_lessons(version, examples(run), ids=True), rows[:version]
        assert covered(found) == {(row["partition"], row["offset"]) for _, row in first}
        assert (found.rows, found.events, found.corrections) == (version, version, 0)
        assert found.ids == [row["event_id"] for _, row in first]
        assert found.records is not None
        assert (found.records.first, found.records.last) == (0, first[-1][0])
        assert found.of_last == sum(offset == first[-1][0] for offset, _ in first)
        times = [int(np.datetime64(row["event_time"].replace(tzinfo=None), "us").astype(int)) for _, row in first]
        assert (found.start, found.end) == (min(times), max(times))
    nothing = online_lessons(0, examples(run), ids=True)
    assert (nothing.rows, nothing.records, nothing.sources, nothing.ids) == (0, None, [], [])
    with pytest.raises(Stop, match="online@33 is not there yet: `examples` holds 32"):
        online_lessons(33, examples(run))


def test_a_version_of_the_batch_model_is_what_its_table_had(run: Recorded) -> None:
    """All before the offset that the table had reached; with the window after a change, what came from then on."""
    rows = [(record.offset, row) for record, batch in examples(run) for row in batch.to_pylist()]
    reached = rows[-1][0]
    found = batch_lessons(Training("batch@1", 4, reached), examples(run))
    assert covered(found) == {(row["partition"], row["offset"]) for offset, row in rows if offset < reached}
    middle = rows[16][1]["event_time"]
    since = int(np.datetime64(middle.replace(tzinfo=None), "us").astype(int))
    after = batch_lessons(Training("batch@2", 4, reached, "after", since), examples(run), ids=True)
    wanted = [row for offset, row in rows if offset < reached and row["event_time"] >= middle]
    assert covered(after) == {(row["partition"], row["offset"]) for row in wanted}
    assert after.ids == [row["event_id"] for row in wanted]
    before = batch_lessons(Training("batch@3", 4, reached, "before", since), examples(run))
    assert covered(before) == covered(found)
    with pytest.raises(Stop, match="kept no longer"):
        batch_lessons(Training("batch@4", 4, None), examples(run))
