"""A topic without a key, on disk between the moment when the old one goes and when the new one is whole.

It is complete once its plan is there, which is written last: before, the topic was not touched; from then on, whatever
is killed, the topic is made from it again.
"""

import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from services.runtime.records import Record

_LENGTH = struct.Struct("<I")


class Run(msgspec.Struct, array_like=True):
    """Records at consecutive offsets, and how many offsets behind them hold none."""

    first: int
    count: int
    gap: int = 0


class Partition(msgspec.Struct):
    """Where a partition's first record stands, where it ends, and its runs."""

    number: int
    begin: int
    end: int
    runs: list[Run]


class Plan(msgspec.Struct):
    """What a topic is to be again; `committed` is by consumer group and partition."""

    topic: str
    replicas: int
    config: dict[str, str]
    partitions: list[Partition]
    committed: dict[str, dict[int, int]]


class Spool:
    """The records of one topic, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def plan(self) -> Plan | None:
        """Return the plan; None if the spool is not complete."""
        try:
            return msgspec.msgpack.decode((self._folder / "plan").read_bytes(), type=Plan)
        except FileNotFoundError:
            return None

    def begin(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)

    def write(self, number: int, records: Iterable[Record], end: int) -> Partition:
        """Keep a partition's records, which ends at the offset `end`."""
        runs: list[Run] = []
        with (self._folder / str(number)).open("wb") as file:
            for record in records:
                _put(file, record)
                if runs and runs[-1].first + runs[-1].count == record.offset:
                    runs[-1].count += 1
                    continue
                runs.append(Run(record.offset, 1))
            file.flush()
            os.fsync(file.fileno())
        for place, run in enumerate(runs, 1):
            run.gap = (runs[place].first if place < len(runs) else end) - run.first - run.count
        return Partition(number, runs[0].first if runs else end, end, runs)

    def complete(self, plan: Plan) -> None:
        draft = self._folder / "plan.draft"
        with draft.open("wb") as file:
            file.write(msgspec.msgpack.encode(plan))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._folder / "plan")

    def read(self, number: int) -> Iterator[Record]:
        with (self._folder / str(number)).open("rb") as file:
            while head := file.read(_LENGTH.size):
                (length,) = _LENGTH.unpack(head)
                topic, partition, offset, key, value, timestamp, headers = msgspec.msgpack.decode(file.read(length))
                pairs = None if headers is None else [(name, content) for name, content in headers]
                yield Record(topic, partition, offset, key, value, timestamp, pairs)

    def remove(self) -> None:
        """Remove it, the plan first: what is left then is no spool."""
        (self._folder / "plan").unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def _put(file: BinaryIO, record: Record) -> None:
    content = msgspec.msgpack.encode(msgspec.structs.astuple(record))
    file.write(_LENGTH.pack(len(content)) + content)
