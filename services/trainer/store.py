"""The offline store: the examples of one feature set as a Delta table, appended exactly once.

An append carries a Delta application transaction: in one commit the rows become visible and the table notes the next
offset of `examples`. Whatever comes again, in whatever batches, is known by that and adds nothing; of two that append
the same rows at once, one fails. Readers pin a version: it gives the same rows for as long as versions are kept.
"""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from numpy.typing import NDArray

from services.runtime.errors import Retry, Stop
from services.runtime.frames import micros
from services.runtime.records import Record
from services.runtime.stream import Stream
from services.trainer.rows import DATE, ORIGIN, Rows, TrainingSet, training_set

_FEATURE_SET, _COLUMNS = "thalweg.feature_set", "thalweg.columns"
_KEPT = ("delta.logRetentionDuration", "delta.deletedFileRetentionDuration")
_NO_CLEANING = PostCommitHookProperties(cleanup_expired_logs=False)  # it would look at every file of a long log
_AWAY = re.compile(r"\(os error \d+\)|\bOs \{ code|\bGeneric \w+ error\b|already exists")


class Extent(NamedTuple):
    """How far a version of the table has come: its rows, and its newest event time (µs since 1970; None: no row)."""

    rows: int
    newest: int | None


class ExampleStore:
    """The table of a stream's feature set, in a folder of its own below `root`, a folder or a URL that deltalake takes.

    A version can be read for `keep_days` after the next one was made, and longer until `tidy` is called.
    """

    def __init__(self, root: str, stream: Stream, keep_days: int = 30) -> None:
        self.place = f"{root.rstrip('/')}/{stream.name}/examples/{stream.feature_set.rpartition(':')[2]}"
        self._stream, self._keep_days, self._rows = stream, keep_days, Rows(stream)
        self._topic = stream.topic("examples")
        self._table: DeltaTable | None = None
        self._identity = ""

    @property
    def identity(self) -> str:
        """The table's own id: another table in the same place has another. The table is made if there is none."""
        with self._edge():
            self._fresh()
        return self._identity

    def position(self, partition: int) -> int:
        """Return the first offset of `examples` that the table has not seen."""
        with self._edge():
            return self._seen(self._fresh(), partition)

    def reached(self, partition: int, version: int) -> int | None:
        """Return the first offset of `examples` that this version has not seen; None if it is kept no longer.

        No table is made where there is none.
        """
        with self._edge():
            try:
                return self._seen(DeltaTable(self.place, version=version), partition)
            except TableNotFoundError:
                return None
            except DeltaError as error:
                if _away(error):
                    raise
                return None

    def first_with(self, partition: int, offset: int) -> int | None:
        """Return the oldest version still kept that has seen this offset of `examples`; None if none has."""
        with self._edge():
            newest = self._find()
        if newest is None or self._seen(newest, partition) <= offset:
            return None
        low, high = 0, newest.version()
        while low < high:
            middle = (low + high) // 2
            seen = self.reached(partition, middle)
            low, high = (low, middle) if seen is not None and seen > offset else (middle + 1, high)
        return low

    def append(self, partition: int, records: Sequence[Record]) -> int:
        """Add what is new of these records, in one commit; return how many rows that is.

        Raise Retry if they may not all be there, Stop if the table holds other examples at these offsets.
        """
        with self._edge():
            table = self._fresh()
            seen = self._seen(table, partition)
            if old := [record for record in records if record.offset < seen]:
                self._compare(table, old[-1])
            new = [record for record in records if record.offset >= seen]
            if not new:
                return 0
            rows = self._rows.read(new)
            self._write(table, rows, Transaction(self._application(partition), new[-1].offset + 1))
            return len(rows)

    def tidy(self) -> None:
        """Compact each day's files into one, and remove data and log of versions that are kept no longer."""
        with self._edge():
            table = self._fresh()
            table.optimize.compact()
            table.vacuum(dry_run=False, full=True)

    def version(self) -> int:
        """Return the newest version that this process knows of."""
        with self._edge():
            return (self._table or self._fresh()).version()

    def extent(self) -> Extent:
        """Return the extent of the newest version that this process knows of, from the log of commits alone."""
        with self._edge():
            files = pa.table((self._table or self._fresh()).get_add_actions(flatten=True))
            if not files.num_rows:
                return Extent(0, None)
            times = micros(files["max.event_time"].combine_chunks())
            return Extent(int(files["num_records"].to_numpy().sum()), int(times.max()))

    def labelled_times(self, since: int) -> NDArray[np.int64]:
        """Return the event times of the labelled rows of that version, from `since` on, in order; µs since 1970.

        A correction is a row of its own.
        """
        with self._edge():
            day = dt.datetime.fromtimestamp(since / 1e6, dt.UTC).date()
            found = _scan(self._table or self._fresh(), ["event_time", "label"], f"{DATE} >= '{day}'")
            times = micros(found["event_time"].combine_chunks())[found["label"].is_valid().to_numpy()]
            return np.sort(times[times >= since])

    def training_set(self, version: int | None = None, until: int | None = None) -> TrainingSet:
        """Read a version, the newest if none is named; of it what labels had said `until` then (µs since 1970).

        The same bytes each time, whatever was appended or compacted since. Stop if the version is kept no longer.
        """
        with self._edge():
            pinned = self._fresh().version() if version is None else version
            return training_set(pinned, self._stream.columns, self._read(pinned), until)

    def _read(self, version: int) -> pa.Table:
        try:
            table = DeltaTable(self.place, version=version)
            return _scan(table, self._rows.schema.names).cast(self._rows.schema)
        except DeltaError as error:
            if _away(error):
                raise
            raise Stop(
                f"{self.place}: version {version} can't be read. Versions are kept for {self._keep_days} days"
                f" (THALWEG_TRAINER_KEEP_DAYS); train on a newer one: {_brief(error)}"
            ) from error

    def _compare(self, table: DeltaTable, record: Record) -> None:
        """Stop if the table knows other examples of this offset: then it was filled from another log."""
        found = _scan(table, ["event_id"], f"{ORIGIN} = {record.offset}")
        if sorted(found["event_id"].to_pylist()) != sorted(self._rows.read([record])["event_id"].to_pylist()):
            raise Stop(
                f"{self.place} holds other examples of {self._topic}[{record.partition}]@{record.offset} than the log:"
                " it was filled from another one. Move it away, or name another place in THALWEG_TRAINER_STORE"
            )

    def _seen(self, table: DeltaTable, partition: int) -> int:
        return table.transaction_version(self._application(partition)) or 0

    def _write(self, table: DeltaTable, rows: pa.Table, transaction: Transaction) -> None:
        commit = CommitProperties(app_transactions=[transaction])
        write_deltalake(table, rows, mode="append", commit_properties=commit, post_commithook_properties=_NO_CLEANING)

    def _application(self, partition: int) -> str:
        return f"{self._topic}/{partition}"

    # The table

    def _fresh(self) -> DeltaTable:
        """Return the table as it is now, whoever wrote to it."""
        if self._table is None:
            self._table = self._open()
        else:
            self._table.update_incremental()
        return self._table

    def _open(self) -> DeltaTable:
        table = self._find()
        if table is None:
            if self._identity:
                raise self._missing()
            table = self._create()
        self._check(table)
        if any(table.metadata().configuration.get(name) != value for name, value in self._kept().items()):
            table.alter.set_table_properties(self._kept())
        return table

    def _find(self) -> DeltaTable | None:
        try:
            return DeltaTable(self.place)
        except TableNotFoundError:
            return None

    def _gone(self) -> bool:
        with suppress(DeltaError, OSError):
            return bool(self._identity) and self._find() is None
        return False

    def _missing(self) -> Retry:
        """Return what to say of a table that was there: removed, or on a disk that is not there any more."""
        return Retry(f"{self.place} is gone. Put it back, or start again: a new one is filled from the log")

    def _create(self) -> DeltaTable:
        named = {_FEATURE_SET: self._stream.feature_set, _COLUMNS: "\n".join(self._stream.columns)}
        return DeltaTable.create(
            self.place,
            self._rows.schema,
            partition_by=[DATE],
            name=self._topic,
            description=f"Labelled examples of {self._stream.feature_set}",
            configuration=named | self._kept(),
            raise_if_key_not_exists=False,
        )

    def _kept(self) -> dict[str, str]:
        return dict.fromkeys(_KEPT, f"interval {self._keep_days} days")

    def _check(self, table: DeltaTable) -> None:
        known, identity = table.metadata().configuration, str(table.metadata().id)
        columns = known.get(_COLUMNS, "").split("\n")
        if known.get(_FEATURE_SET) != self._stream.feature_set or columns != list(self._stream.columns):
            raise Stop(
                f"{self.place} holds {known.get(_FEATURE_SET) or 'no examples of ours'}, expected"
                f" {self._stream.feature_set}. Move it away, or name another place in THALWEG_TRAINER_STORE"
            )
        if self._identity not in ("", identity):
            raise Stop(f"{self.place} is another table than before. Start again: it is filled from the log")
        self._identity = identity

    @contextmanager
    def _edge(self) -> Iterator[None]:
        """Turn deltalake's errors into ours. After one the table is opened anew."""
        try:
            yield
        except (Retry, Stop):
            self._table = None
            raise
        except (OSError, CommitFailedError) as error:
            self._table = None
            raise Retry(f"the store of examples at {self.place}: {_brief(error)}") from error
        except DeltaError as error:
            self._table = None
            if _away(error):
                raise Retry(f"the store of examples at {self.place}: {_brief(error)}") from error
            if self._gone():
                raise self._missing() from error
            raise Stop(
                f"{self.place} can't be used: {_brief(error)}. Mend it, or move it away and start again: a new table is"
                " filled from the log, as far back as that is kept"
            ) from error


def _scan(table: DeltaTable, columns: list[str], predicate: str | None = None) -> pa.Table:
    try:
        return pa.table(table.scan(columns, predicate))
    except Exception as error:  # deltalake raises a plain one
        raise DeltaError(str(error)) from error


def _away(error: Exception) -> bool:
    """Whether the store is at fault, and not the table."""
    return bool(_AWAY.search(str(error))) and "not found" not in str(error)


def _brief(error: Exception) -> str:
    """Return what a vendor's error says, on one line, without colours and stack."""
    lines = re.sub(r"\x1b\[\d*m", "", str(error)).replace("↳", "").split("\n")
    said = [line.strip() for line in lines if line.strip() and not re.match(r"\s*\d+: ", line)]
    return ": ".join(said)[:300]
