"""When the events of a batch came to the log, in a header of the batch that is made of them: for their age later on.

At most `SAMPLED` of them are told, evenly spread, each for those up to the next. So it costs the same however large the
batch is; what a partition holds is about in the order of its timestamps.
"""

from collections.abc import Iterator, Sequence

import msgspec

from services.runtime.records import Record

PRODUCED_HEADER = "thalweg-produced"
SAMPLED = 64


def produced(records: Sequence[Record]) -> tuple[str, bytes]:
    """Return the header for a batch that is made of these records, one row each."""
    step = -(-len(records) // SAMPLED) or 1
    told = (len(records), [record.timestamp for record in records[::step]])
    return PRODUCED_HEADER, msgspec.msgpack.encode(told)


def timestamps(record: Record) -> Iterator[tuple[int, int]]:
    """Yield the timestamps, in milliseconds since 1970, and how many rows each stands for; unknown ones not."""
    header = dict(record.headers or []).get(PRODUCED_HEADER)
    if not isinstance(header, bytes):
        return
    rows, told = msgspec.msgpack.decode(header, type=tuple[int, list[int]])
    step = -(-rows // SAMPLED) or 1
    for place, timestamp in enumerate(told):
        if timestamp > 0:
            yield timestamp, min(step, rows - place * step)
