"""The offline store: appended exactly once, pinned by version, and never taken for what it is not."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from services.runtime.errors import Retry, Stop
from services.runtime.frames import micros, rows
from services.trainer.rows import TrainingSet, training_set
from services.trainer.store import ExampleStore
from tests.lessons import COLUMNS, FRAME, STREAM, unknown
from tests.stored import HOUR, expected, ids, records, value

DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> ExampleStore:
    return ExampleStore(str(tmp_path), STREAM)


def digest(found: TrainingSet) -> list[object]:
    """Return all that a training set holds but its version, bit for bit."""
    values = [getattr(found, field.name) for field in fields(found) if field.name != "version"]
    return [value.tobytes() if isinstance(value, np.ndarray) else value for value in values]


def logged(store: ExampleStore) -> Path:
    return Path(store.place) / "_delta_log"


# Appending


def test_every_column_comes_back(store: ExampleStore) -> None:
    """The table holds each column of `examples` bit for bit, beside the event's date and the record's offset."""
    sent = records(2, size=20)
    assert store.append(0, sent) == 40
    found = store._read(store.version()).sort_by("offset")
    batches = pa.Table.from_batches([FRAME.decode(record) for record in sent])
    assert found.select(batches.schema.names).combine_chunks() == batches.cast(
        found.select(batches.schema.names).schema
    )
    assert found["examples_offset"].to_pylist() == [0] * 20 + [2] * 20
    assert found["examples_row"].to_pylist() == [*range(20)] * 2
    assert found["event_date"].to_pylist() == batches["event_time"].cast(pa.date32()).to_pylist()
    assert {path.name for path in Path(store.place).glob("event_date=*")} == {
        f"event_date=1970-01-0{day}" for day in (1, 2)
    }


def test_what_comes_again_adds_nothing(store: ExampleStore, tmp_path: Path) -> None:
    """After a crash between the table's commit and the offsets' the batch comes again, to another process."""
    sent = records(6)
    store.append(0, sent[:3])
    version = store.version()
    again = ExampleStore(str(tmp_path), STREAM)
    assert again.append(0, sent[:3]) == 0
    assert (again.version(), again.position(0)) == (version, 5)


def test_an_overlap_adds_only_what_is_new(store: ExampleStore) -> None:
    """Batches are cut anywhere: the table takes up each record once."""
    sent = records(6)
    assert [store.append(0, sent[cut]) for cut in (slice(0, 3), slice(1, 5), slice(0, 6), slice(5, 6))] == [9, 6, 3, 0]
    assert ids(store) == expected(18)
    assert store.position(0) == sent[-1].offset + 1


def test_of_two_that_append_the_same_one_fails(store: ExampleStore, tmp_path: Path) -> None:
    """A process that was thought dead can't add its batch after its successor did, nor the other way round."""
    other = ExampleStore(str(tmp_path), STREAM)
    sent = records(2)
    assert store.identity == other.identity
    stale = other._fresh()
    store.append(0, sent)
    other._fresh = lambda: stale  # type: ignore[method-assign]
    with pytest.raises(Retry, match="transaction"):
        other.append(0, sent)
    del other._fresh  # type: ignore[method-assign]
    assert other.append(0, sent) == 0
    assert ids(other) == expected(6)


def test_partitions_do_not_share_a_position(store: ExampleStore) -> None:
    """Each partition of `examples` is a transaction of its own."""
    first, second = records(2)[:1], [msgspec.structs.replace(records(2)[1], partition=1, offset=0)]
    assert (store.append(0, first), store.append(1, second)) == (3, 3)
    assert ids(store) == expected(6)


def test_a_long_log_of_commits_forgets_no_position(store: ExampleStore, tmp_path: Path) -> None:
    """Checkpoints carry the position, and outlive the log's old files, which are removed."""
    sent = records(40, size=1)
    store.append(0, sent[:1])
    DeltaTable(store.place).alter.set_table_properties({"delta.checkpointInterval": "10"})
    for record in sent[:20]:
        store.append(0, [record])
    for path in logged(store).iterdir():
        os.utime(path, (time.time() - 40 * DAY,) * 2)
    for record in sent[20:]:
        store.append(0, [record])
    store.tidy()
    assert not (logged(store) / f"{5:020d}.json").exists(), "nothing was cleaned up, so nothing is tested"
    again = ExampleStore(str(tmp_path), STREAM)
    assert again.append(0, sent) == 0
    assert ids(again) == expected(40)


# Tidying


def test_tidying_changes_no_row_and_leaves_a_file_a_day(store: ExampleStore) -> None:
    """Compaction merges a day's files; position and rows are the same."""
    for record in records(10):
        store.append(0, [record])
    before = digest(store.training_set())
    store.tidy()
    assert digest(store.training_set()) == before
    assert len(DeltaTable(store.place).file_uris()) == 2
    assert (store.append(0, records(10)), store.append(0, records(11))) == (0, 3)


def test_a_pinned_version_gives_the_same_bytes(store: ExampleStore) -> None:
    """Whatever is appended, compacted and vacuumed since."""
    sent = records(20)
    pinned = {}
    for n in range(0, 20, 4):
        store.append(0, sent[n : n + 4])
        found = store.training_set()
        pinned[found.version] = digest(found)
        store.tidy()
    assert len(pinned) == 5
    assert {version: digest(store.training_set(version)) for version in pinned} == pinned


def test_versions_are_kept_for_the_stated_time(store: ExampleStore, tmp_path: Path) -> None:
    """The table itself says so, for any tool that vacuums it, and a new setting reaches a table that is there."""
    store.append(0, records(1))
    kept = ("delta.logRetentionDuration", "delta.deletedFileRetentionDuration")
    for days in (30, 30, 7):
        again = ExampleStore(str(tmp_path), STREAM, days)
        assert again.identity == store.identity
        found = DeltaTable(store.place)
        assert [found.metadata().configuration[name] for name in kept] == [f"interval {days} days"] * 2
    assert found.version() == 2, "what is said already is not said again"


def test_a_version_that_is_kept_no_longer(store: ExampleStore) -> None:
    """It is refused by its number, and never read in part."""
    for record in records(4):
        store.append(0, [record])
    old = store.version()
    store.tidy()
    DeltaTable(store.place).vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(Stop, match=f"version {old} can't be read. Versions are kept for 30 days"):
        store.training_set(old)
    with pytest.raises(Stop, match="version 99 can't be read"):
        store.training_set(99)
    assert len(store.training_set()) == 12


def test_how_far_a_version_has_come(store: ExampleStore, tmp_path: Path) -> None:
    """Of each version, the offset that it reached; of each offset, the first version that has it; no table is made."""
    assert (store.reached(0, 3), store.first_with(0, 0), [*tmp_path.iterdir()]) == (None, None, [])
    sent, versions = records(12), dict[int, int]()
    for one in sent:
        store.append(0, [one])
        versions[store.version()] = one.offset + 1
    assert {version: store.reached(0, version) for version in versions} == versions
    assert store.reached(0, 99) is None
    for one in sent:
        assert store.first_with(0, one.offset) == next(v for v, reached in versions.items() if reached > one.offset)
    assert store.first_with(0, sent[-1].offset + 1) is None
    assert ExampleStore(str(tmp_path), STREAM).first_with(0, 4) == store.first_with(0, 4)


# Reading


def test_a_training_set_is_in_the_order_of_its_events(store: ExampleStore) -> None:
    """Whatever the order in which they were labelled and stored; each row is that of one example."""
    labelled = [records(10)[n] for n in (3, 0, 9, 1, 2, 8, 7, 4, 6, 5)]
    store.append(0, [msgspec.structs.replace(record, offset=n) for n, record in enumerate(labelled)])
    found = store.training_set()
    whole = pa.Table.from_batches([FRAME.decode(record) for record in records(10)]).combine_chunks()
    assert found.features.tobytes() == rows(whole["features"].chunk(0)).tobytes()
    assert found.labels.tolist() == whole["label"].to_pylist()
    assert found.event_times.tolist() == micros(whole["event_time"].chunk(0)).tolist()
    assert found.label_times.tolist() == micros(whole["label_time"].chunk(0)).tolist()
    assert [found.keys[code] for code in found.key_codes] == whole["key"].to_pylist()
    assert (found.keys, found.columns, found.version) == (("k0", "k1", "k2", "k3"), COLUMNS, store.version())
    assert (found.features.dtype, found.features.shape, len(found)) == (np.float32, (30, 3), 30)


def test_of_one_time_as_in_the_log(store: ExampleStore) -> None:
    """By partition and offset of the event."""
    sent = records(1, size=4)
    batch = FRAME.decode(sent[0])
    at = batch.column("event_time")
    same = batch.set_column(2, batch.schema.field(2), pa.array([at[0]] * 4, at.type))
    offsets = same.set_column(3, batch.schema.field(3), pa.array([2, 2, 1, 0]))
    parted = offsets.set_column(8, batch.schema.field("partition"), pa.array([0, 1, 0, 0], pa.int32()))
    store.append(0, [msgspec.structs.replace(sent[0], value=FRAME.encode(parted.columns))])
    order = [3, 2, 0, 1]
    assert store.training_set().features.tobytes() == rows(batch.column("features"))[order].tobytes()


def test_equal_rows_give_equal_bytes(store: ExampleStore) -> None:
    """Whatever the order in which files are read: what was said of an event, and events of one time, included."""
    sent = [value(0, 6), value(0, 6, corrects=True)]
    said = [FRAME.decode(msgspec.structs.replace(records(1)[0], value=held)) for held in sent]
    batch = pa.Table.from_batches(said).combine_chunks().to_batches()[0]
    at = pa.array([batch.column("event_time")[0]] * 12, batch.schema.field("event_time").type)
    same = batch.set_column(2, batch.schema.field(2), at)
    store.append(0, [msgspec.structs.replace(records(1)[0], value=FRAME.encode(same.columns))])
    table = store._read(store.version())
    found = digest(training_set(1, COLUMNS, table))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(12)
        assert digest(training_set(1, COLUMNS, table.take(pa.array(order)))) == found


def test_labelled_rows_are_counted_from_a_time_on(store: ExampleStore) -> None:
    """In order, that time's too, over days, which are partitions; what is unknown is none."""
    assert store.labelled_times(0).tolist() == []
    for record in reversed(records(20)):
        store.append(0, [msgspec.structs.replace(record, offset=100 - record.offset)])
    for first in (0, 23, 24, 25, 59, 60):
        expected = [hour * HOUR for hour in range(first, 60)]
        assert store.labelled_times(first * HOUR).tolist() == expected
        assert store.labelled_times(first * HOUR - 1).tolist() == expected
        assert store.labelled_times(first * HOUR + 1).tolist() == [time for time in expected if time != first * HOUR]


def test_until_leaves_out_what_was_not_known(store: ExampleStore) -> None:
    """Only labels whose own time has come, its last moment included: an event may be known long before its label."""
    store.append(0, records(10))
    whole = store.training_set()
    for until in (-HOUR, 0, 6 * HOUR, 6 * HOUR - 1, 100 * HOUR):
        known, known_rows = store.training_set(until=until), whole.label_times <= until
        assert known.features.tobytes() == whole.features[known_rows].tobytes()
        assert known.label_times.tolist() == whole.label_times[known_rows].tolist()


def test_a_correction_holds_from_its_time_on(store: ExampleStore) -> None:
    """The last that was said of an event is its label, once; before that time it is what was said then."""
    sent = records(4)
    correction = msgspec.structs.replace(records(4)[3], value=value(0, 2, corrects=True))
    store.append(0, [*sent[:3], correction])
    found = store.training_set()
    assert found.labels.tolist() == [1, 0, 0, 1, 0, 1, 0, 1, 0]
    assert found.label_times[:3].tolist() == [4 * HOUR, 4 * HOUR, 3 * HOUR]
    assert store.training_set(until=4 * HOUR - 1).labels[:2].tolist() == [0, 1]
    assert len(ids(store)) == 11, "the table has all that was ever said"


def test_of_two_in_one_record_the_later_holds(store: ExampleStore) -> None:
    """Also once the table's files were rewritten."""
    both = [FRAME.decode(record) for record in records(1)]
    both.append(FRAME.decode(msgspec.structs.replace(records(1)[0], value=value(0, 3, corrects=True))))
    batch = pa.Table.from_batches(both).combine_chunks().to_batches()[0]
    store.append(0, [msgspec.structs.replace(records(1)[0], value=FRAME.encode(batch.columns))])
    store.append(0, records(2)[1:])
    store.tidy()
    assert store.training_set().labels.tolist()[:3] == [1, 0, 1]


def test_a_table_without_rows(store: ExampleStore) -> None:
    found = store.training_set()
    assert (found.features.shape, found.labels.shape, found.keys) == ((0, 3), (0,), ())


# What is not ours, and what is away


def test_another_feature_set_has_another_table(store: ExampleStore, tmp_path: Path) -> None:
    """Rows of two feature sets never stand in one table, and the older one stays as it is."""
    other = ExampleStore(str(tmp_path), msgspec.structs.replace(STREAM, feature_set="made:1"))
    store.append(0, records(1))
    assert other.position(0) == 0
    assert Path(other.place).name == "1"
    assert (ids(store), ids(other)) == (expected(3), [])


@pytest.mark.parametrize("change", [{"feature_set": "else:0"}, {"columns": ("x", "z", "y")}])
def test_a_table_of_something_else_is_refused(store: ExampleStore, tmp_path: Path, change: dict[str, object]) -> None:
    """A table says which feature set and columns it holds, wherever somebody has put it."""
    other = ExampleStore(str(tmp_path), msgspec.structs.replace(STREAM, **change))
    other.append(0, [])
    assert other.place == store.place
    with pytest.raises(Stop, match=r"holds \w+:0, expected made:0. Move it away, or name another place in THALWEG"):
        store.append(0, records(1))


def test_a_foreign_table_is_refused(store: ExampleStore) -> None:
    """It is left as it was found."""
    schema = pa.schema([pa.field("x", pa.int64())])
    DeltaTable.create(store.place, schema)
    with pytest.raises(Stop, match="holds no examples of ours, expected made:0"):
        store.append(0, records(1))
    assert DeltaTable(store.place).version() == 0


def test_a_damaged_table_is_refused(store: ExampleStore, tmp_path: Path) -> None:
    """What to do is said, on one line."""
    store.append(0, records(1))
    (logged(store) / f"{1:020d}.json").write_text("{garbage")
    with pytest.raises(Stop, match=r"can't be used: .*Mend it, or move it away and start again") as found:
        ExampleStore(str(tmp_path), STREAM).append(0, records(2))
    assert "\n" not in str(found.value)


def test_a_table_that_lost_a_file_is_refused(store: ExampleStore) -> None:
    """What is missing is neither waited for nor passed over."""
    store.append(0, records(1))
    for path in Path(store.place).rglob("*.parquet"):
        path.unlink()
    with pytest.raises(Stop, match=r"can't be used: .*Failed to fetch"):
        store.append(0, records(2))
    with pytest.raises(Stop, match="version 1 can't be read"):
        store.training_set(1)


def test_a_table_of_another_log_is_refused(store: ExampleStore) -> None:
    """A log that began anew reuses offsets; its examples are neither mixed with the old nor passed over."""
    store.append(0, records(3))
    other = [msgspec.structs.replace(record, value=records(9)[8].value) for record in records(2)]
    with pytest.raises(Stop, match=r"other examples of made.examples\[0\]@2 than the log: it was filled from another"):
        store.append(0, other)


def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """A folder that can't be made is a Retry that names the place; once it can, all is well."""
    (tmp_path / "made").write_text("in the way")
    store = ExampleStore(str(tmp_path), STREAM)
    for act in (lambda: store.identity, lambda: store.append(0, records(1)), store.tidy, store.training_set):
        with pytest.raises(Retry, match=r"the store of examples at .*made/examples/0: .*NotADirectory"):
            act()
    (tmp_path / "made").unlink()
    assert store.append(0, records(1)) == 3


def test_a_table_that_is_gone_is_waited_for(store: ExampleStore, tmp_path: Path) -> None:
    """A disk that is not mounted any more looks like that: no second table is begun beside it. It may come back."""
    store.append(0, records(1))
    shutil.move(store.place, tmp_path / "aside")
    for _ in range(2):
        with pytest.raises(Retry, match=r"is gone\. Put it back, or start again: a new one is filled from the log"):
            store.append(0, records(2))
    with pytest.raises(Retry, match="is gone"):
        store.position(0)
    shutil.rmtree(store.place, ignore_errors=True)
    shutil.move(tmp_path / "aside", store.place)
    assert store.append(0, records(2)) == 3


def test_another_table_in_its_place_is_refused(store: ExampleStore, tmp_path: Path) -> None:
    """A process fills one table: what it counts as done is done there."""
    store.append(0, records(2))
    shutil.rmtree(store.place)
    with pytest.raises(Retry):
        store.append(0, records(3))
    ExampleStore(str(tmp_path), STREAM).append(0, records(1))
    with pytest.raises(Stop, match=r"is another table than before\. Start again: it is filled from the log"):
        store.append(0, records(3))


def test_an_unknown_kind_of_place_is_refused(tmp_path: Path) -> None:
    store = ExampleStore("nosuch://bucket", STREAM)
    with pytest.raises(Stop, match="Unknown scheme: nosuch"):
        store.position(0)
    assert not list(tmp_path.iterdir())


def test_each_call_sees_what_others_did(store: ExampleStore, tmp_path: Path) -> None:
    """Another process compacts meanwhile; appends go on and nothing is added twice."""
    other = ExampleStore(str(tmp_path), STREAM)
    acts: list[Callable[[], object]] = [other.tidy, lambda: other.append(0, records(6)), other.tidy]
    for n, act in enumerate(acts, 1):
        store.append(0, records(2 * n + 1))
        act()
    assert (store.append(0, records(9)), other.append(0, records(9))) == (6, 0)
    assert ids(other) == expected(27)


def test_what_is_unknown_is_kept_and_not_trained_on(store: ExampleStore) -> None:
    """The table has every row; a training set those whose label is known."""
    sent = [unknown(record) for record in records(2)]
    store.append(0, sent)
    assert ids(store) == expected(6)
    found = store.training_set()
    assert (found.event_times // HOUR).tolist() == [1, 4]
    assert np.isfinite(found.labels).all()
    assert (store.labelled_times(0) // HOUR).tolist() == [1, 4]
