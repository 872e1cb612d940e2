"""Spans in SQLite, in a file that never grows beyond its size: the oldest traces go first.

One thread writes what waits in a bounded queue, a transaction a batch; whoever reads has a connection of their own.
The size is of all that lies on disk: the database, which SQLite itself is told to keep under its part, and the log of
what is not in it yet (WAL), which has the rest. A file that is damaged is moved aside, and a new one begins.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from services.console.span import Kind, Span, Status

log = logging.getLogger(__name__)
VERSION = 1
PAGE = 4096
QUEUED = 20_000  # spans that wait
BATCH = 2_000  # spans of a transaction
DROPPED = 1_000  # spans at a time, and the rest of their traces
FULL, ENOUGH = 0.92, 0.88  # of the database's part: from where on traces are dropped, and until when
MOST_WAL = 32 << 20
PATIENCE_S = 5.0
LONGEST = 2_000  # spans of a trace that are shown
LOOKED_AT = 20_000  # newest spans among which traces are listed
EVENT_ID = "thalweg.event_id"
SCHEMA = f"""
CREATE TABLE spans (id INTEGER PRIMARY KEY, trace BLOB, span BLOB, start INTEGER, lasted INTEGER, service TEXT,
                    name TEXT, event TEXT, rest BLOB);
CREATE INDEX by_trace ON spans (trace);
CREATE INDEX by_event ON spans (event) WHERE event IS NOT NULL;
PRAGMA user_version = {VERSION};
"""
Row: TypeAlias = tuple[Any, ...]


class Rest(msgspec.Struct, frozen=True, array_like=True):
    """What is not asked for by itself."""

    parent_id: str | None
    kind: Kind
    status: Status
    message: str
    attributes: dict[str, Any]
    events: list[dict[str, Any]]
    links: list[dict[str, Any]]


class Listed(msgspec.Struct, frozen=True):
    """A trace of the list. `lasted_ms` is from its first span's start to its last one's end, as far as was looked."""

    trace_id: str
    start_ns: int
    lasted_ms: float
    spans: int
    services: list[str]
    name: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Rest).decode


class Store:
    """The store in the file `path`, of at most `size` bytes on disk."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._wal = path, min(size // 4, MOST_WAL)
        self._pages = (size - self._wal) // PAGE
        self._queue: deque[Sequence[Span]] = deque()
        self._queued, self._busy = 0, False
        self._changed = threading.Condition()
        self._closing = False
        self.taken = 0  # spans
        self.lost = 0  # of which could not be written
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = self._open()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    # Taking

    @property
    def full(self) -> bool:
        return self._queued >= QUEUED

    def offer(self, spans: Sequence[Span]) -> bool:
        """Take them, to be written in a moment; False, and none is taken, while too many wait."""
        with self._changed:
            if self._closing or (self._queued and self._queued + len(spans) > QUEUED):
                return False
            self._queue.append(spans)
            self._queued += len(spans)
            self.taken += len(spans)
            self._changed.notify_all()
        return True

    def flush(self) -> None:
        """Return once all that was taken before is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue and not self._busy)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._connection.close()

    # Writing

    def _run(self) -> None:
        while spans := self._next():
            for start in range(0, len(spans), BATCH):
                self._write(spans[start : start + BATCH])
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> list[Span]:
        """Wait for spans, and take those that are there; none once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            taken: list[Span] = []
            while self._queue and len(taken) < BATCH:
                taken += self._queue.popleft()
            self._queued -= len(taken)
            self._busy = bool(taken)
            return taken

    def _write(self, spans: Sequence[Span]) -> None:
        rows = [_row(span) for span in spans]
        for _ in range(3):
            try:
                self._trim()
                with self._connection as connection:
                    connection.executemany("INSERT INTO spans VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            except sqlite3.OperationalError as error:  # no room, or the disk says no
                log.warning("%d spans are not written yet: %s", len(rows), error)
                self._drop()
            except sqlite3.DatabaseError as error:
                log.warning("the span store is damaged: %s", error)
                self._connection.close()
                self._connection = self._begin_anew()
            else:
                return
        self.lost += len(rows)
        log.warning("%d spans are lost; %d since the start", len(rows), self.lost)

    def _trim(self) -> None:
        """Drop the oldest traces until there is room again."""
        if self._used() <= FULL:
            return
        while self._used() > ENOUGH and self._drop():
            pass

    def _used(self) -> float:
        """Return which part of the pages that it may have hold something."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return float((pages - free) / self._pages)

    def _drop(self) -> int:
        """Drop the traces that began longest ago; return how many spans went."""
        oldest = "SELECT trace FROM (SELECT trace FROM spans ORDER BY id LIMIT ?)"
        try:
            with self._connection as connection:
                return connection.execute(f"DELETE FROM spans WHERE trace IN ({oldest})", (DROPPED,)).rowcount  # noqa: S608 - no value is in it
        except sqlite3.OperationalError as error:
            log.warning("no trace could be dropped: %s", error)
            return 0

    # The file

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            log.warning("%s can't be read: %s", self._path, error)
            return self._begin_anew()

    def _begin_anew(self) -> sqlite3.Connection:
        """Move the file aside, where the one that was moved before it goes, and begin another."""
        aside = self._path.with_name(f"{self._path.name}.damaged")
        for name in ("-wal", "-shm"):
            self._path.with_name(self._path.name + name).unlink(missing_ok=True)
        if self._path.exists():
            self._path.replace(aside)
            log.warning("it was moved to %s; a new one begins, and the traces so far are there alone", aside)
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=PATIENCE_S, check_same_thread=False)
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {self._wal // 4 // PAGE}")
        connection.execute(f"PRAGMA journal_size_limit = {self._wal // 4}")
        connection.execute("PRAGMA cache_size = -8192")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(SCHEMA)
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"it is of version {version}, this console writes {VERSION}")
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise sqlite3.DatabaseError(said)
        self._shrink(connection)
        connection.execute(f"PRAGMA max_page_count = {self._pages}")

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Bring a file that was larger down to the size that it may have now."""
        self._connection = connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        if pages > self._pages:
            while self._used() > ENOUGH and self._drop():
                pass
            connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # Reading

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace in the order of their starts; none if it is not there."""
        try:
            key = bytes.fromhex(trace_id)
        except ValueError:
            return []
        rows = self._ask("SELECT * FROM spans WHERE trace = ? ORDER BY start LIMIT ?", (key, LONGEST))
        return [_span(row) for row in rows]

    def of_event(self, event_id: str) -> str | None:
        """Return the id of the newest trace with a span of this event."""
        rows = self._ask("SELECT trace FROM spans WHERE event = ? ORDER BY id DESC LIMIT 1", (event_id,))
        return next((trace.hex() for (trace,) in rows), None)

    def traces(self, service: str | None, min_ms: float, limit: int) -> list[Listed]:
        """Return the newest traces, the newest first: those with a span of the service, and that took so long."""
        rows = self._ask("SELECT trace, start, lasted, service, name FROM spans ORDER BY id DESC LIMIT ?", (LOOKED_AT,))
        found: dict[bytes, list[Row]] = {}
        for row in rows:
            found.setdefault(row[0], []).append(row)
        listed = (_listed(trace, spans) for trace, spans in found.items())
        good = (one for one in listed if service in (None, *one.services) and one.lasted_ms >= min_ms)
        return [one for one, _ in zip(good, range(limit), strict=False)]

    def _ask(self, question: str, values: Iterable[object]) -> Iterator[Row]:
        try:
            with closing(sqlite3.connect(self._path, timeout=PATIENCE_S)) as connection:
                return iter(connection.execute(question, tuple(values)).fetchall())
        except sqlite3.DatabaseError as error:  # the writer will find that as well, and begin anew
            log.warning("the span store can't be read: %s", error)
            return iter(())


def _row(span: Span) -> Row:
    rest = Rest(span.parent_id, span.kind, span.status, span.message, span.attributes, span.events, span.links)
    event = span.attributes.get(EVENT_ID)
    return (
        bytes.fromhex(span.trace_id),
        bytes.fromhex(span.span_id),
        span.start_ns,
        span.end_ns - span.start_ns,
        span.service,
        span.name,
        event if isinstance(event, str) else None,
        _encode(rest),
    )


def _span(row: Row) -> Span:
    _, trace, span, start, lasted, service, name, _, rest = row
    parent, kind, *others = msgspec.structs.astuple(_decode(rest))
    return Span(trace.hex(), span.hex(), parent, name, service, kind, start, start + lasted, *others)


def _listed(trace: bytes, spans: Sequence[Row]) -> Listed:
    start, end = min(row[1] for row in spans), max(row[1] + row[2] for row in spans)
    first = min(spans, key=lambda row: row[1])
    services = sorted({row[3] for row in spans})
    return Listed(trace.hex(), start, round((end - start) / 1e6, 3), len(spans), services, first[4])
