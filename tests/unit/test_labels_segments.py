"""Segments on disk: durable before a snapshot names them, found where the snapshots are, removed with the last."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from services.labels.segments import Disk, open_disks
from services.runtime.errors import Retry, Unusable
from services.runtime.snapshots import KEEP
from services.runtime.stores import open_store

FOLDER = "made/labels/3/segments"


@pytest.fixture
def url() -> Iterator[str]:
    yield f"memory://{uuid4().hex}"
    MemoryFileSystem.store.clear()


def segment(n: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"event_id": [f"{n}", "b\n"], "offset": [n, 7]})


def opened(data: Path, where: str = "") -> Disk:
    return open_disks(data, "made", where)(3)


def save(disk: Disk, names: Sequence[str]) -> None:
    disk.saving(list(names), b"state")(lambda _: None)


def test_a_segment_is_what_was_written(tmp_path: Path) -> None:
    """It is read by whoever opens the partition again, and stands beside the partition's snapshots."""
    disk = opened(tmp_path)
    name = disk.write(segment(1))
    assert disk.read(name) == segment(1)
    assert opened(tmp_path).check(name) == segment(1)
    assert [path.name for path in (tmp_path / "state" / FOLDER).iterdir()] == [name]


def test_the_same_rows_are_the_same_segment(tmp_path: Path) -> None:
    """Its name says what is in it, so what a restart writes again is the file that is there."""
    assert (
        opened(tmp_path).write(segment(1)) == opened(tmp_path).write(segment(1)) != opened(tmp_path).write(segment(2))
    )


def test_more_segments_than_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was let go is mapped again."""
    monkeypatch.setattr("services.labels.segments.MAPPED", 2)
    disk = opened(tmp_path)
    names = [disk.write(segment(n)) for n in range(5)]
    assert [disk.read(name) for name in [*names, *names]] == [segment(n) for n in range(5)] * 2


@pytest.mark.parametrize("content", [None, b"", b"torn"])
def test_a_segment_that_is_not_what_it_was(content: bytes | None, tmp_path: Path) -> None:
    """It makes the snapshot unusable, and the message says which it is; while it is in use, all is restored."""
    name = opened(tmp_path).write(segment(1))
    path = tmp_path / "state" / FOLDER / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(Unusable, match=rf"{path} is missing or damaged"):
        opened(tmp_path).check(name)
    with pytest.raises(Retry, match=str(path)):
        opened(tmp_path).read(name)


def test_another_machine_finds_the_segments_where_the_snapshots_are(tmp_path: Path, url: str) -> None:
    """A segment is in the store before the state that names it is, and is fetched from there once."""
    here, far = opened(tmp_path / "here", url), open_store(url)
    names = [here.write(segment(n)) for n in (1, 2)]
    assert far.names(FOLDER) == []
    here.saving(names, b"state")(lambda _: pytest.fail("late") if far.names(FOLDER) != sorted(names) else None)
    there = opened(tmp_path / "there", url)
    assert [there.check(name) for name in names] == [segment(1), segment(2)]
    far.remove(f"{FOLDER}/{names[0]}")
    assert opened(tmp_path / "there", url).check(names[0]) == segment(1)
    with pytest.raises(Unusable, match=f"{url}/{FOLDER}/{names[0]} is missing"):
        opened(tmp_path / "third", url).check(names[0])


def test_a_damaged_segment_is_fetched_again(tmp_path: Path, url: str) -> None:
    """Where there is a copy, a disk that lies costs nothing."""
    disk = opened(tmp_path, url)
    name = disk.write(segment(1))
    save(disk, [name])
    (tmp_path / "segments" / FOLDER / name).write_bytes(b"torn")
    assert opened(tmp_path, url).check(name) == segment(1)


def test_segments_go_with_the_last_snapshot_that_names_them(tmp_path: Path, url: str) -> None:
    """In the store, and then here; what a process found there goes as well once all the snapshots are its own."""
    former = opened(tmp_path, url)
    save(former, [former.write(segment(0))])
    disk, far = opened(tmp_path, url), open_store(url)
    names = [disk.write(segment(n)) for n in range(1, KEEP + 2)]
    for count, name in enumerate(names[:KEEP], start=1):
        save(disk, [name])
        assert len(far.names(FOLDER)) == (count + 1 if count < KEEP else KEEP), "an older snapshot may need the first"
        assert here(tmp_path) == KEEP + 2
    save(disk, names[-1:])
    assert far.names(FOLDER) == sorted(names[1:])
    save(disk, names[-1:])
    assert here(tmp_path) == len(names[1:])


def here(data: Path) -> int:
    return len(list((data / "segments" / FOLDER).iterdir()))


def test_a_segment_that_was_written_meanwhile_stays(tmp_path: Path) -> None:
    """What came after a snapshot was taken is the next one's, although this one does not name it."""
    disk = opened(tmp_path)
    for _ in range(2 * KEEP):
        store = disk.saving([], b"state")
        name = disk.write(segment(1))  # the same again, which was of no use before
        store(lambda _: None)
        assert disk.check(name) == segment(1)
    save(disk, [name])
    assert disk.check(name) == segment(1)


def test_a_snapshot_that_fails_is_none(tmp_path: Path) -> None:
    """Where the state can't be saved the older snapshots stand, and so does all that they name."""
    disk = opened(tmp_path)
    name = disk.write(segment(1))
    save(disk, [name])

    def fail(_: bytes) -> None:
        raise Retry("full")

    for _ in range(KEEP):
        with pytest.raises(Retry):
            disk.saving([], b"state")(fail)
    save(disk, [])
    assert disk.check(name) == segment(1)
