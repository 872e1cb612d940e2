"""Snapshots: the newest that can be trusted and is not ahead of what was committed, or none."""

import hashlib
import json
from pathlib import Path

import pytest

from services.runtime.snapshots import KEEP, Snapshots


def snapshots(data: Path, fingerprint: str = "rule", service: str = "features", stream: str = "flights") -> Snapshots:
    return Snapshots(data, stream, service, fingerprint)


def folder(data: Path, partition: int = 0) -> Path:
    return data / "state" / "flights" / "features" / str(partition)


def files(data: Path, partition: int = 0) -> list[int]:
    """Return the offsets that the files' names say."""
    return [int(path.stem) for path in sorted(folder(data, partition).glob("*.snapshot"))]


def state(kept: Snapshots, committed: int, partition: int = 0) -> bytes | None:
    found = kept.newest(partition, {"in": committed})
    return None if found is None else found.state


@pytest.fixture
def three(tmp_path: Path) -> Snapshots:
    """Snapshots at 10, 20 and 30, each saying its own number."""
    kept = snapshots(tmp_path)
    for offset in (10, 20, 30):
        kept.write(0, {"in": offset}, b"at %d" % offset)
    return kept


@pytest.mark.parametrize("content", [b"", b"x", b"\n", b"a\nb\n\nc", bytes(range(256))])
def test_round_trip(tmp_path: Path, content: bytes) -> None:
    """A state comes back byte for byte, line breaks and all, with the offsets that it was taken at."""
    snapshots(tmp_path).write(3, {"in": 7, "other": 5}, content)
    found = snapshots(tmp_path).newest(3, {"in": 7, "other": 5})
    assert found is not None
    assert found.state == content
    assert found.header.offsets == {"in": 7, "other": 5}
    assert (found.header.partition, found.header.fingerprint) == (3, "rule")


def test_none(tmp_path: Path) -> None:
    """Where there is no snapshot there is none, and nothing was refused."""
    kept = snapshots(tmp_path)
    assert kept.newest(0, {"in": 5}) is None
    assert kept.take_refused() == []


@pytest.mark.parametrize(
    ("committed", "found", "gone"),
    [
        (0, None, 3),
        (9, None, 3),
        (10, b"at 10", 2),
        (19, b"at 10", 2),
        (20, b"at 20", 1),
        (29, b"at 20", 1),
        (30, b"at 30", 0),
        (99, b"at 30", 0),
    ],
)
def test_newest_not_ahead(three: Snapshots, tmp_path: Path, committed: int, found: bytes | None, gone: int) -> None:
    """The newest that is not ahead of the committed offset. Those that are belong to a log that is gone, and go too."""
    assert state(three, committed) == found
    refused = three.take_refused()
    assert len(refused) == gone
    assert all(reason.endswith("ahead of what was committed, so of a log that is gone; removed") for reason in refused)
    assert files(tmp_path) == [10, 20, 30][: 3 - gone]
    assert state(three, 99) == found


@pytest.mark.parametrize(
    ("committed", "found"),
    [
        ({"left": 100, "right": 8}, b"old"),
        ({"left": 1, "right": 100}, b"old"),
        ({"left": 2, "right": 9}, b"new"),
        ({"left": 100}, None),
    ],
)
def test_ahead_on_any_input(tmp_path: Path, committed: dict[str, int], found: bytes | None) -> None:
    """A snapshot that is ahead on one input is not used, though it is behind on the other or nothing is known of it."""
    kept = snapshots(tmp_path)
    kept.write(0, {"left": 1, "right": 1}, b"old")
    kept.write(0, {"left": 2, "right": 9}, b"new")
    newest = kept.newest(0, committed)
    assert (None if newest is None else newest.state) == found


def test_order_is_by_number(tmp_path: Path) -> None:
    """Newest is by offset, not by how its number is spelt or when it was written."""
    kept = snapshots(tmp_path)
    for offset in (10, 9, 10_000_000_000):
        kept.write(0, {"in": offset}, b"at %d" % offset)
    assert state(kept, 10**12) == b"at 10000000000"
    assert state(kept, 50) == b"at 10"


def test_a_log_that_starts_over(tmp_path: Path) -> None:
    """Snapshots of a log that is gone neither stay nor are used when its successor has come as far as they say."""
    kept = snapshots(tmp_path)
    for offset in (100, 200, 300):
        kept.write(0, {"in": offset}, b"at %d" % offset)
    assert state(kept, 0) is None
    kept.write(0, {"in": 7}, b"anew")
    assert state(kept, 250) == b"anew"


def test_a_late_writer_leaves_newer_ones(tmp_path: Path) -> None:
    """A member that was paused while another took over, and then writes, removes nothing that is newer than its own."""
    kept = snapshots(tmp_path)
    for offset in (100, 200, 300, 150):
        kept.write(0, {"in": offset}, b"at %d" % offset)
    assert files(tmp_path) == [100, 150, 200, 300]
    assert state(kept, 300) == b"at 300"


def test_partitions(tmp_path: Path) -> None:
    """Each partition has its own snapshots."""
    kept = snapshots(tmp_path)
    kept.write(0, {"in": 5}, b"zero")
    kept.write(1, {"in": 4}, b"one")
    assert (state(kept, 9, 0), state(kept, 9, 1), state(kept, 9, 2)) == (b"zero", b"one", None)


def test_pruned(tmp_path: Path) -> None:
    """Only the newest few are kept, in each partition for itself, and no draft is left."""
    kept = snapshots(tmp_path)
    kept.write(1, {"in": 1}, b"other")
    for offset in range(1, KEEP + 4):
        kept.write(0, {"in": offset}, b"x")
        assert files(tmp_path) == list(range(max(1, offset - KEEP + 1), offset + 1))
    assert files(tmp_path, 1) == [1]
    assert len(list(folder(tmp_path).iterdir())) == KEEP == 3


def test_same_offset_again(three: Snapshots, tmp_path: Path) -> None:
    """A snapshot at the same offset replaces the older one."""
    three.write(0, {"in": 30}, b"again")
    assert files(tmp_path) == [10, 20, 30]
    assert state(three, 30) == b"again"


@pytest.mark.parametrize("length", [0, 1, 63, 64, 127, 128, 129, 200, -6, -5, -4, -1])
def test_torn(three: Snapshots, tmp_path: Path, length: int) -> None:
    """A torn file is passed over with its name and the reason, said once, and the next older one is used."""
    path = folder(tmp_path) / f"{30:020d}.snapshot"
    path.write_bytes(path.read_bytes()[:length])
    assert state(three, 30) == b"at 20"
    refused = three.take_refused()
    assert len(refused) == 1
    assert refused[0].startswith(f"{path}: ")
    assert "not signed by this installation" in refused[0] or "torn or damaged: its" in refused[0]
    assert three.take_refused() == []


def test_any_bit(three: Snapshots, tmp_path: Path) -> None:
    """One bit changed anywhere, in the signature, the header, the line break or the state, and it is passed over."""
    path = folder(tmp_path) / f"{30:020d}.snapshot"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert state(three, 30) == b"at 20"
    path.write_bytes(good + b"x")
    assert state(three, 30) == b"at 20"
    path.write_bytes(good)
    assert state(three, 30) == b"at 30"


def test_line(three: Snapshots, tmp_path: Path) -> None:
    """The file's first line says in plain text what the state is: a signature, and JSON."""
    del three
    line, _, content = (folder(tmp_path) / f"{30:020d}.snapshot").read_bytes().partition(b"\n")
    signature, _, header = line.partition(b" ")
    assert len(bytes.fromhex(signature.decode())) == 64
    assert json.loads(header) == {
        "fingerprint": "rule",
        "partition": 0,
        "offsets": {"in": 30},
        "size": 5,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert content == b"at 30"


def test_all_torn(three: Snapshots, tmp_path: Path) -> None:
    """Where no file is good there is no snapshot, and each is named."""
    for path in folder(tmp_path).iterdir():
        path.write_bytes(b"junk")
    assert state(three, 30) is None
    assert len(three.take_refused()) == 3


def test_foreign_file(three: Snapshots, tmp_path: Path) -> None:
    """A file that is no snapshot is passed over, one of another installation is, and neither is removed."""
    (folder(tmp_path) / "notes.txt").write_text("do not delete")
    (folder(tmp_path) / f"{50:020d}.snapshot").write_bytes(b"\xff" * 500)
    snapshots(tmp_path / "theirs").write(0, {"in": 40}, b"theirs")
    (folder(tmp_path / "theirs") / f"{40:020d}.snapshot").rename(folder(tmp_path) / f"{40:020d}.snapshot")
    assert state(three, 99) == b"at 30"
    assert [Path(reason.split(":")[0]).name for reason in three.take_refused()] == [
        f"{50:020d}.snapshot",
        f"{40:020d}.snapshot",
    ]
    three.write(0, {"in": 31}, b"at 31")
    assert state(three, 99) == b"at 31"
    assert files(tmp_path) == [20, 30, 31, 40, 50]
    assert (folder(tmp_path) / "notes.txt").exists()


def test_misplaced(tmp_path: Path) -> None:
    """A snapshot of another partition, service or stream can't stand in, though this installation signed it."""
    path = folder(tmp_path) / f"{5:020d}.snapshot"
    path.parent.mkdir(parents=True)
    other = {
        "partition": (1, "features", "flights"),
        "service": (0, "labels", "flights"),
        "stream": (0, "features", "b"),
    }
    for partition, service, stream in other.values():
        snapshots(tmp_path, service=service, stream=stream).write(partition, {"in": 5}, b"other")
        (tmp_path / "state" / stream / service / str(partition) / path.name).rename(path)
        kept = snapshots(tmp_path)
        assert state(kept, 5) is None
        assert "not signed by this installation for this place, or damaged" in kept.take_refused()[0]


def test_other_fingerprint(three: Snapshots, tmp_path: Path) -> None:
    """A snapshot of another definition is passed over, both are named, and an older one that fits is used."""
    snapshots(tmp_path, "new rule").write(0, {"in": 35}, b"new")
    assert state(three, 99) == b"at 30"
    (reason,) = three.take_refused()
    assert reason.endswith(f"{35:020d}.snapshot: of new rule, while this service now runs rule")
    assert state(snapshots(tmp_path, "third"), 99) is None
