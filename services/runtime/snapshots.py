"""Snapshots: a partition's state at an offset, so that a restart folds only what came after.

One file per snapshot: a JSON line (what it is, how far each input was read) and the state, sealed with the
installation's signature, which is its checksum too. Files appear whole (write, sync, rename) and the oldest go.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.runtime.errors import Stop
from services.runtime.signing import Signer, Verifier

KEEP = 3


class Header(msgspec.Struct, frozen=True):
    """`offsets` says for each input topic the first offset that the state has not seen."""

    fingerprint: str
    partition: int
    offsets: dict[str, int]


class Snapshot(msgspec.Struct, frozen=True):
    header: Header
    state: bytes


class Snapshots:
    """The snapshots of one service on one stream, under `<data>/state/<stream>/<service>/<partition>/`.

    `fingerprint` names what the state depends on (the feature set, the model's definition): a snapshot of another one
    is passed over, as is a damaged or foreign file, and the state is folded from an older one or from the beginning.
    """

    def __init__(self, data: Path, stream: str, service: str, fingerprint: str) -> None:
        self._folder = data / "state" / stream / service
        self._fingerprint = fingerprint
        self._signer = Signer(data / "keys")
        self._verifier = Verifier(data / "keys")
        self._refused: list[str] = []

    def write(self, partition: int, offsets: Mapping[str, int], state: bytes) -> None:
        folder = self._folder / str(partition)
        folder.mkdir(parents=True, exist_ok=True)
        header = msgspec.json.encode(Header(self._fingerprint, partition, dict(offsets)))
        target = folder / f"{sum(offsets.values()):020d}.snapshot"
        _write_whole(target, self._signer.seal(self._name(partition), header + b"\n" + state))
        self._prune(folder, target)

    def _prune(self, folder: Path, newest: Path) -> None:
        """Keep the last few, and none that is ahead of what was just written: it is of a log that is gone."""
        found = sorted(folder.glob("*.snapshot"))
        ahead = [path for path in found if path.name > newest.name]
        for path in [*ahead, *[path for path in found if path not in ahead][:-KEEP]]:
            path.unlink(missing_ok=True)

    def newest(self, partition: int, committed: Mapping[str, int]) -> Snapshot | None:
        """Return the newest usable snapshot that is not ahead of `committed` on any input, or None."""
        for path in sorted((self._folder / str(partition)).glob("*.snapshot"), reverse=True):
            snapshot = self._read(path, partition)
            if snapshot is not None and not _ahead(snapshot.header.offsets, committed):
                return snapshot
        return None

    def take_refused(self) -> list[str]:
        """Return why files were passed over since the last call."""
        refused, self._refused = self._refused, []
        return refused

    def _read(self, path: Path, partition: int) -> Snapshot | None:
        try:
            payload = self._verifier.open(self._name(partition), path.read_bytes())
        except FileNotFoundError:  # another process pruned it
            return None
        except Stop as error:
            self._refused.append(f"{path}: {error}")
            return None
        line, _, state = payload.partition(b"\n")
        header = msgspec.json.decode(line, type=Header)
        if header.fingerprint != self._fingerprint:
            self._refused.append(f"{path}: of {header.fingerprint}, while this service now runs {self._fingerprint}")
            return None
        return Snapshot(header, state)

    def _name(self, partition: int) -> str:
        return f"snapshot/{self._folder.parent.name}/{self._folder.name}/{partition}"


def _ahead(offsets: Mapping[str, int], committed: Mapping[str, int]) -> bool:
    return any(offset > committed.get(topic, 0) for topic, offset in offsets.items())


def _write_whole(target: Path, content: bytes) -> None:
    draft = target.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(target)
