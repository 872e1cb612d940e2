"""Snapshots: a partition's state at an offset, so that a restart folds only what came after.

One file per snapshot, `<stream>/<service>/<partition>/<offsets>.snapshot`: a line, and the state. The line is a
signature in hexadecimal and a JSON header, which says what the state is, how far each input was read, and the state's
size and SHA-256. The installation signs the header alone: a digest of a large state costs a quarter of a signature of
it. So what is not signed for is not read.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from services.runtime.errors import Stop, Unusable
from services.runtime.signing import SIGNATURE_BYTES, Signer, Verifier
from services.runtime.stores import open_store

KEEP = 3


class Header(msgspec.Struct, frozen=True):
    """`offsets` says for each input topic the first offset that the state has not seen."""

    fingerprint: str
    partition: int
    offsets: dict[str, int]
    size: int
    sha256: str


class Snapshot(msgspec.Struct, frozen=True):
    header: Header
    state: bytes


class Snapshots:
    """The snapshots of one service on one stream, at `where`: a folder or an fsspec URL; `<data>/state` if empty.

    `fingerprint` names what the state depends on (the feature set, the model's definition): a snapshot of another one
    is passed over, as is a damaged or foreign file, and the state is folded from an older one or from the beginning.
    """

    def __init__(self, data: Path, stream: str, service: str, fingerprint: str, where: str = "") -> None:
        self._store = open_store(where or str(data / "state"))
        self._folder = f"{stream}/{service}"
        self._fingerprint = fingerprint
        self._signer = Signer(data / "keys")
        self._verifier = Verifier(data / "keys")
        self._refused: list[str] = []

    def write(self, partition: int, offsets: Mapping[str, int], state: bytes) -> None:
        """Write one and remove the oldest. Raise Retry if the store fails: those that are there stand."""
        header = Header(self._fingerprint, partition, dict(offsets), len(state), sha256(state).hexdigest())
        path = f"{self._folder}/{partition}/{_file(header)}"
        self._store.write(path, self._line(header), state)
        for old in [other for other in self._newest_first(partition) if other <= path][KEEP:]:
            self._store.remove(old)

    def newest(self, partition: int, committed: Mapping[str, int]) -> Snapshot | None:
        """Return the newest usable snapshot that is not ahead of `committed` on any input, or None."""
        return next(self.usable(partition, committed), None)

    def usable(self, partition: int, committed: Mapping[str, int]) -> Iterator[Snapshot]:
        """Yield the usable snapshots that are not ahead of `committed` on any input, the newest first.

        Raise Retry or Stop if the store can't say; that is not the same as to have none.
        """
        for path in self._newest_first(partition):
            try:
                snapshot = self._read(path, partition, committed)
            except Unusable as reason:
                self._refused.append(f"{self._store.place(path)}: {reason}")
            else:
                if snapshot:  # else another process pruned it
                    yield snapshot

    def take_refused(self) -> list[str]:
        """Return why files were passed over since the last call."""
        refused, self._refused = self._refused, []
        return refused

    def _newest_first(self, partition: int) -> list[str]:
        folder = f"{self._folder}/{partition}"
        names = [name for name in self._store.names(folder) if name.endswith(".snapshot")]
        return [f"{folder}/{name}" for name in reversed(names)]

    def _read(self, path: str, partition: int, committed: Mapping[str, int]) -> Snapshot | None:
        found = self._store.read(path, lambda line: self._header(line, partition).size)
        return None if found is None else self._open(path, partition, *found, committed)

    def _open(self, path: str, partition: int, line: bytes, state: bytes, committed: Mapping[str, int]) -> Snapshot:
        header = self._header(line, partition)
        if not path.endswith(f"/{_file(header)}"):
            raise Unusable(f"an older one under a new name: it was {_file(header)}")
        if any(offset > committed.get(topic, 0) for topic, offset in header.offsets.items()):
            self._store.remove(path)  # before the log that took the other's place reaches its offset
            raise Unusable("ahead of what was committed, so of a log that is gone; removed")
        if header.fingerprint != self._fingerprint:
            raise Unusable(f"of {header.fingerprint}, while this service now runs {self._fingerprint}")
        if header.sha256 != sha256(state).hexdigest():
            raise Unusable(f"torn or damaged: its {len(state)} bytes are not those that were signed for")
        return Snapshot(header, state)

    # The line: `signature header`, and a line break

    def _line(self, header: Header) -> bytes:
        sealed = self._signer.seal(self._name(header.partition), msgspec.json.encode(header))
        return b"%s %s\n" % (sealed[:SIGNATURE_BYTES].hex().encode(), sealed[SIGNATURE_BYTES:])

    def _header(self, line: bytes, partition: int) -> Header:
        signature, _, header = line.partition(b" ")
        try:
            sealed = bytes.fromhex(signature.decode()) + header.removesuffix(b"\n")
            return msgspec.json.decode(self._verifier.open(self._name(partition), sealed), type=Header)
        except (Stop, ValueError, msgspec.DecodeError) as error:
            raise Unusable("not signed by this installation for this place, or damaged") from error

    def _name(self, partition: int) -> str:
        return f"snapshot/{self._folder}/{partition}"


def _file(header: Header) -> str:
    return f"{sum(header.offsets.values()):020d}.snapshot"
