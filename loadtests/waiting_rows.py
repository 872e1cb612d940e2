"""What it takes to have ten million rows wait for their labels at once, and whether a few rows pay for that.

    .venv/bin/python loadtests/waiting_rows.py [--rows N] [--partitions P] [--few N] [--at FOLDER]

Rows of the flights stream are folded into the labels cores of P partitions until N wait, with their labels away. Then
labels come, of the oldest rows in their order and of rows drawn at random; a partition is snapshot as the service does
it; and a new process restores that. Last, both this join and the former one, which kept each row as an object, are
given as many rows as the former held by default, and as few as a quiet stream has, a record at a time.
"""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pyarrow as pa

from infra.local.stack import REPOSITORY
from services.labels.core import LabelsCore
from services.labels.segments import Disk, open_disks
from services.runtime.frames import matrix, times
from services.runtime.records import Record
from services.runtime.schemas import BESIDE, SCORE, scored_frame
from services.runtime.snapshots import Snapshots
from services.runtime.stage import Core, Storing
from services.runtime.stream import Stream, load_stream
from tests.former.core import LabelsCore as Former

BATCH = 2000
FORMER = 500_000  # rows that the former join let wait by default
LABELS = 200_000
NOON = 1_357_387_200_000_000
STEP_US = 1000  # from row to row
STEPS = 10  # of progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--few", type=int, default=1000, help="rows of the quiet stream")
    parser.add_argument("--at", type=Path, help="where to keep segments and snapshots (default: a temporary folder)")
    parser.add_argument("--restore", type=Path, help=argparse.SUPPRESS)  # the new process: restore what is there
    parser.add_argument("--former", action="store_true", help=argparse.SUPPRESS)  # a process for the former join
    given = parser.parse_args()
    made = Made(load_stream(REPOSITORY / "schemas", "flights"))
    if given.restore:
        restore(made, given.restore)
    elif given.former:
        beside(made, "the former join", lambda _: Former(made.stream, 0), given.few)
    else:
        with TemporaryDirectory(prefix="waiting-", dir=given.at) as data:
            full(made, Path(data), given.rows, given.partitions)
            again("--restore", data)
            disks = open_disks(Path(data) / "beside", made.stream.name, "")
            beside(made, "this join", lambda n: LabelsCore(made.stream, 0, disks(n)), given.few)
        again("--former", "--few", str(given.few))


def again(*options: str) -> None:
    subprocess.run([sys.executable, __file__, *options], check=True)


class Made:
    """Makes records of the stream: row n of a partition, and its label."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._frame = scored_frame(stream)
        draw = np.random.default_rng(5)
        self._vectors = draw.random((BATCH, len(stream.columns)), np.float32)

    def rows(self, first: int, count: int) -> Record:
        numbers = np.arange(first, first + count)
        version = pa.StructArray.from_arrays(
            [pa.array(numbers // BATCH), pa.array(numbers / 1e9), pa.array(np.ones(count))], fields=list(SCORE)
        )
        columns = [
            pa.array([f"2013-01-05-UA-{n}" for n in numbers.tolist()]),
            pa.array(["JFK"] * count),
            times(NOON + numbers * STEP_US),
            pa.array(numbers),
            matrix(self._vectors[:count]),
            pa.array(np.full(count, 0.25)),
            version,
            pa.array(
                [[{"version": 7, "score": 0.5, "weight": 0.5, "state": "champion", "beside": 0.5}]] * count, BESIDE
            ),
        ]
        topic = self.stream.topic("scored")
        return Record(topic, 0, first, None, self._frame.encode(columns), headers=self._frame.headers)

    def label(self, n: int) -> Record:
        names = {"event_id": f"2013-01-05-UA-{n}", "origin": "JFK", "landed_at": "2013-01-05T12:00:00Z"}
        value = names | {"arrival_delay_min": 3.0, "late": False}
        return Record(self.stream.topic("labels"), 0, n, b"JFK", msgspec.json.encode(value))

    def log(self, count: int) -> Iterator[Record]:
        return (self.rows(first, min(BATCH, count - first)) for first in range(0, count, BATCH))


def full(made: Made, data: Path, rows: int, partitions: int) -> None:
    disks = open_disks(data, made.stream.name, "")
    opened = [disks(partition) for partition in range(partitions)]
    cores = [LabelsCore(made.stream, partition, disk) for partition, disk in enumerate(opened)]
    cores[0].fold([])
    before, each, took = resident(), rows // partitions, 0.0
    for number, record in enumerate(made.log(each)):
        took += timed(lambda: [core.fold([record]) for core in cores])  # noqa: B023 - called at once
        if (number + 1) % max(1, each // BATCH // STEPS) == 0:
            tell(f"{sum(core.waiting[0] for core in cores):,} rows wait", f"{resident()} MB resident")
    waiting = sum(core.waiting[0] for core in cores)
    disk = sum(path.stat().st_size for path in data.rglob("*.arrow"))
    tell(f"{waiting / took:,.0f} rows/s in", f"while {waiting:,} came to {partitions} partitions")
    tell(f"{resident()} MB resident", f"{before} before; {(resident() - before) * 1e6 / waiting:.0f} bytes a row")
    tell(
        f"{disk / 1e6:,.0f} MB on disk",
        f"{disk / waiting:.0f} bytes a row, {sum(len(c.segments) for c in cores)} files",
    )
    oldest, drawn = list(range(LABELS)), random.Random(5).sample(range(LABELS, each), LABELS)  # noqa: S311
    for what, numbers in [("of the oldest rows, in order", oldest), ("of rows drawn at random", drawn)]:
        tell(f"{rate(cores[0], map(made.label, numbers), BATCH):,.0f} labels/s joined", what)
    tell(f"{resident()} MB resident", f"and {resident('RssFile')} MB of files that are mapped")
    save(made, data, cores[0], opened[0])


def save(made: Made, data: Path, core: LabelsCore, disk: Disk) -> None:
    kept = Snapshots(data, made.stream.name, "labels", "rule")
    taken: list[Storing] = []
    held_up = timed(lambda: taken.append(disk.saving(core.segments, core.snapshot())))
    wrote = timed(lambda: taken[0](lambda state: kept.write(0, {"flights.scored": 1}, state)))
    [file] = data.rglob("*.snapshot")
    size = file.stat().st_size / 1e6
    tell(f"a snapshot of {core.waiting[0]:,} rows", f"holds up {held_up:.2f} s, {wrote:.2f} s beside it, {size:.1f} MB")


def restore(made: Made, data: Path) -> None:
    kept, disks = Snapshots(data, made.stream.name, "labels", "rule"), open_disks(data, made.stream.name, "")
    LabelsCore(made.stream, 0).fold([made.rows(0, 1), made.label(0)])  # what is compiled is loaded
    core = LabelsCore(made.stream, 0, disks(0))

    def act() -> None:
        found = kept.newest(0, {"flights.scored": 1})
        assert found is not None, kept.take_refused()
        core.restore(found.state)

    tell(f"restored in {timed(act):.2f} s", f"{core.waiting[0]:,} rows wait, {resident()} MB resident")


def beside(made: Made, name: str, build: Callable[[int], Core], few: int) -> None:
    core = build(0)
    core.fold([made.rows(0, 1), made.label(0)])
    before = resident()
    rows = rate(core, made.log(FORMER), 1) * BATCH
    memory = (resident() - before) * 1e6 / FORMER
    held_up = timed(core.snapshot)
    labels = rate(core, map(made.label, range(LABELS)), BATCH)
    tell(name, f"{FORMER:,} rows: {rows:,.0f} rows/s in, {labels:,.0f} labels/s, {memory:.0f} bytes a row in memory")
    tell("", f"a snapshot of them holds up {held_up:.2f} s")
    core = build(1)
    rows, labels = (rate(core, (make(n) for n in range(few)), 1) for make in (lambda n: made.rows(n, 1), made.label))
    tell("", f"{few:,} rows, one by one: {1e6 / rows:.0f} µs a row, {1e6 / labels:.0f} µs a label")


def rate(core: Core, log: Iterator[Record], batch: int) -> float:
    """Return how many records a second the core folds; to make them is not counted."""
    count, took = 0, 0.0
    while some := list(islice(log, batch)):
        count += len(some)
        took += timed(lambda: core.fold(some))
    return count / took


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def resident(kind: str = "RssAnon") -> int:
    """Return the megabytes of memory that this process has to itself, or of the other kind."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) * 1024 // 1_000_000


def tell(what: str, more: str) -> None:
    print(f"  {what:<32} {more}", flush=True)


if __name__ == "__main__":
    main()
