"""How many rows an Arrow message of ours holds, read from its head: counting decodes nothing."""

import struct

FRAMED = ("features", "scored", "examples")  # the topics whose records hold many rows
_PREFIX = 8  # of an IPC message: four bytes of a mark, then its head's length, padding included
_HEADER, _LENGTH = 2, 0  # the fields `Message.header` and `RecordBatch.length`, as Arrow's Message.fbs has them


def rows_of(value: bytes) -> int:
    """Return the rows of an IPC stream of a schema and one batch. A head is a flatbuffer: tables of offsets."""
    start = 2 * _PREFIX + _u32(value, 4)  # past the schema, which has no body
    message = start + _u32(value, start)
    header = message + _field(value, message, _HEADER)
    batch = header + _u32(value, header)
    length: int = struct.unpack_from("<q", value, batch + _field(value, batch, _LENGTH))[0]
    return length if _present(value, batch, _LENGTH) else 0


def _u32(value: bytes, at: int) -> int:
    found: int = struct.unpack_from("<I", value, at)[0]
    return found


def _field(value: bytes, table: int, number: int) -> int:
    """Return where a field stands in its table; 0 if it is left out, as a default is."""
    fields: int = table - struct.unpack_from("<i", value, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", value, fields)[0]:
        return 0
    found: int = struct.unpack_from("<H", value, fields + 4 + 2 * number)[0]
    return found


def _present(value: bytes, table: int, number: int) -> bool:
    return _field(value, table, number) > 0
