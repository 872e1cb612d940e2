"""The Arrow codec: what services hand each other is one record batch a message, as an Arrow IPC stream.

Any Arrow library reads it without us. The schema's fingerprint travels in a header, so that a service which was built
for another feature set says so instead of misreading.
"""

import hashlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.runtime.errors import Stop
from services.runtime.records import SCHEMA_HEADER, Headers, Record

TIME = pa.timestamp("us", tz="UTC")
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class Frame:
    """One kind of batch: its Arrow schema, and how to write and read it. Make one per topic and stream."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._head = schema.serialize().to_pybytes()
        self.fingerprint = hashlib.sha256(self._head).hexdigest()[:16]
        self.headers: Headers = [(SCHEMA_HEADER, self.fingerprint.encode())]

    def encode(self, columns: list[pa.Array]) -> bytes:
        """Write an IPC stream of one batch: the schema's message is made once, which a writer would do each time."""
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        return b"".join((self._head, batch.serialize(), _END_OF_STREAM))

    def decode(self, record: Record) -> pa.RecordBatch:
        """Read a message; raise Stop if it was written for another schema."""
        found = dict(record.headers or []).get(SCHEMA_HEADER)
        if found != self.fingerprint.encode():
            raise Stop(
                f"{record.topic}[{record.partition}]@{record.offset}: schema {found!r}, this service was built for"
                f" {self.fingerprint}. Run services of one feature set, or replay the topic into a fresh prefix"
            )
        return pa.ipc.open_stream(record.value).read_next_batch()


def matrix_type(columns: int, kind: pa.DataType) -> pa.DataType:
    return pa.list_(kind, columns)


def matrix(values: NDArray[np.generic]) -> pa.Array:
    """Make an Arrow column of rows from a (rows, columns) array, without a copy."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values.shape[1])


def rows(column: pa.Array) -> NDArray[np.generic]:
    """Return a column of rows as a (rows, columns) array, without a copy."""
    return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)


def times(values: NDArray[np.int64]) -> pa.Array:
    """Make a time column from microseconds since 1970."""
    return pa.array(values).view(TIME)


def micros(column: pa.Array) -> NDArray[np.int64]:
    return np.asarray(column.view(pa.int64()), np.int64)
