"""Takes a key's rows out of a table of examples, and out of all versions of it: files and log."""

import time

import pyarrow as pa
from deltalake import DeltaTable

KEPT = "delta.logRetentionDuration"


def rows_of(place: str, key: str) -> int:
    """Return how many rows of the newest version are of this key; 0 where there is no table."""
    if not DeltaTable.is_deltatable(place):
        return 0
    found: pa.Table = pa.table(DeltaTable(place).scan(["key"], _of(key)))
    return int(found.num_rows)


def forget(place: str, key: str) -> int:
    """Delete the key's rows, and what older versions hold of them: only the newest version can be read from then on.

    The commits so far are replaced by a checkpoint, as they tell the least and the largest id and key of each file.
    Return how many rows went.
    """
    if not DeltaTable.is_deltatable(place):
        return 0
    table = DeltaTable(place)
    gone = int(table.delete(_of(key))["num_deleted_rows"])
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
    table = DeltaTable(place)
    usual = table.metadata().configuration.get(KEPT)
    table.alter.set_table_properties({KEPT: "interval 0 seconds"})
    table.create_checkpoint()
    time.sleep(1.0)  # commits are told from the checkpoint by whole seconds
    table.cleanup_metadata()
    if usual:
        table.alter.set_table_properties({KEPT: usual})
    return gone


def _of(key: str) -> str:
    return "key = '{}'".format(key.replace("'", "''"))
