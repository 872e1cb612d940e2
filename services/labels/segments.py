"""Segments on disk: Arrow files that never change, each named after its content.

They are as durable as the snapshots that rely on them, and are where these are: beside them in a local folder; or as
copies in the store behind a URL, so that another machine finds them there, and in a folder here to be read from.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from services.runtime.errors import Retry, Unusable
from services.runtime.snapshots import KEEP
from services.runtime.stores import LocalStore, Store, open_store

MAPPED = 32  # segments that are kept mapped, each with a file open and 8 MB to be resident at most
NAME = 32  # hexadecimal digits of a SHA-256


class Disk:
    """The segments of one partition, in `folder` of the local store and, if there is one, of the far store."""

    def __init__(self, local: LocalStore, far: Store | None, folder: str) -> None:
        self._local, self._far, self._folder = local, far, folder
        self._copied = set(far.names(folder)) if far else set[str]()
        self._known = set(local.names(folder))
        self._mapped = OrderedDict[str, pa.RecordBatch]()
        self._saved = deque[set[str]](maxlen=KEEP)  # what each of the newest snapshots relies on

    def write(self, batch: pa.RecordBatch) -> str:
        """Store a segment so that it outlives a crash; raise Retry if the disk can't."""
        file = pa.BufferOutputStream()
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        content = file.getvalue().to_pybytes()
        name = _name(content)
        self._local.write(self._path(name), b"", content)
        self._known.add(name)
        return name

    def read(self, name: str) -> pa.RecordBatch:
        """Map a segment: of its columns is read what is taken from them. Raise Retry if it can't be."""
        if name not in self._mapped:
            self._mapped[name] = self._map(name)
            if len(self._mapped) > MAPPED:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(name)
        return self._mapped[name]

    def check(self, name: str) -> pa.RecordBatch:
        """Return a segment whose content is what was written; fetch it if it is not here. Raise Unusable if it's gone.

        It isn't kept mapped, since who restores reads each once.
        """
        path = self._path(name)
        if _name(_content(self._local, path)) != name:
            copy = _content(self._far, path) if self._far else b""
            if _name(copy) != name:
                raise Unusable(f"its segment {(self._far or self._local).place(path)} is missing or damaged")
            self._local.write(path, b"", copy)
            self._known.add(name)
        return self._map(name)

    def drop(self, name: str) -> None:
        """Have it no longer mapped; `saving` removes it when no snapshot names it any more."""
        self._mapped.pop(name, None)

    def saving(self, names: list[str], state: bytes) -> Callable[[Callable[[bytes], None]], None]:
        """Return what stores a snapshot that relies on these, all that are in use, given what saves its state.

        It is run beside the loop. Segments are copied before the state that names them is saved. Those that are not in
        use, and that none of the newest snapshots names, are removed, once as many were written as are kept: until then
        older ones may need any.
        """
        needed = set(names)
        for name in self._spare(self._known) - needed:
            self._local.remove(self._path(name))
            self._known.discard(name)

        def store(save: Callable[[bytes], None]) -> None:
            self._copy(needed)
            save(state)
            self._saved.append(needed)
            self._prune()

        return store

    def _copy(self, names: set[str]) -> None:
        if self._far:
            for name in sorted(names - self._copied):
                self._far.write(self._path(name), b"", _content(self._local, self._path(name)))
                self._copied.add(name)

    def _prune(self) -> None:
        if self._far:
            for name in self._spare(self._copied):
                self._far.remove(self._path(name))
                self._copied.discard(name)

    def _spare(self, names: set[str]) -> set[str]:
        """Return those that none of the snapshots names that are kept."""
        return names.difference(*self._saved) if len(self._saved) == KEEP else set()

    def _map(self, name: str) -> pa.RecordBatch:
        place = self._local.place(self._path(name))
        try:
            return pa.ipc.open_file(pa.memory_map(place)).get_batch(0)
        except (OSError, pa.ArrowInvalid) as error:
            raise Retry(f"{place} can't be read: {error}") from error

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def open_disks(data: Path, stream: str, where: str) -> Callable[[int], Disk]:
    """Return what opens a partition's segments; `where` the snapshots are, as in `Snapshots`."""
    store = open_store(where or str(data / "state"))
    local = store if isinstance(store, LocalStore) else LocalStore(data / "segments")
    far = None if store is local else store
    return lambda partition: Disk(local, far, f"{stream}/labels/{partition}/segments")


def _content(store: Store, path: str) -> bytes:
    """Return what is there; nothing if there is no such file."""
    return b"".join(store.read(path) or ())


def _name(content: bytes) -> str:
    return f"{sha256(content).hexdigest()[:NAME]}.arrow"
