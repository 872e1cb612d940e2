"""Arrow frames: what one service writes is what the next one reads, or it says that they do not fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from services.runtime.errors import Stop
from services.runtime.frames import TIME, Frame, matrix, matrix_type, micros, rows, times
from services.runtime.records import SCHEMA_HEADER, Headers, Record
from services.runtime.schemas import BESIDE, SCORE, examples_frame, features_frame, scored_frame
from services.runtime.stream import Stream, load_stream

SCHEMA = pa.schema([("id", pa.string()), ("at", TIME), ("x", matrix_type(3, pa.float32()))], {"feature_set": "f:1"})
FRAME = Frame(SCHEMA)
NUMBERS = np.arange(30, dtype=np.float32).reshape(10, 3)


def columns(numbers: np.ndarray = NUMBERS) -> list[pa.Array]:
    count = len(numbers)
    return [pa.array(map(str, range(count)), pa.string()), times(np.arange(count, dtype=np.int64) - 5), matrix(numbers)]


def record(value: bytes, headers: Headers | None) -> Record:
    return Record("flights.features", 2, 9131, None, value, headers=headers)


@pytest.mark.parametrize("count", [0, 1, 10])
def test_round_trip(count: int) -> None:
    """Columns come back as they were: text, times before 1970 too, and numbers bit for bit."""
    batch = FRAME.decode(record(FRAME.encode(columns(NUMBERS[:count])), FRAME.headers))
    assert batch.schema.equals(SCHEMA, check_metadata=True)
    assert batch.column("id").to_pylist() == [str(number) for number in range(count)]
    assert micros(batch.column("at")).tolist() == list(range(-5, count - 5))
    found = rows(batch.column("x"))
    assert (found.dtype, found.shape) == (np.float32, (count, 3))
    assert found.tobytes() == NUMBERS[:count].tobytes()


def test_odd_numbers() -> None:
    """Not-a-number, infinity and minus zero survive bit for bit."""
    numbers = np.array([[np.nan, np.inf, -0.0], [-np.inf, 1e-45, 3.4e38]], np.float32)
    batch = FRAME.decode(record(FRAME.encode(columns(numbers)), FRAME.headers))
    assert rows(batch.column("x")).tobytes() == numbers.tobytes()


def test_plain_arrow() -> None:
    """Any Arrow library reads a message without us: one batch, and how it was made in the schema's metadata."""
    with pa.ipc.open_stream(FRAME.encode(columns())) as reader:
        batches = list(reader)
    assert [batch.num_rows for batch in batches] == [10]
    assert batches[0].schema.metadata == {b"feature_set": b"f:1"}


@pytest.mark.parametrize(("start", "length"), [(0, 4), (3, 4), (9, 1), (5, 0)])
def test_sliced(start: int, length: int) -> None:
    """A slice is written and read as its own rows, not as those of the array that it was cut from."""
    whole = FRAME.encode(columns())
    sliced = FRAME.encode([column.slice(start, length) for column in columns()])
    assert len(sliced) < len(whole)
    batch = FRAME.decode(record(sliced, FRAME.headers))
    assert batch.column("id").to_pylist() == [str(number) for number in range(start, start + length)]
    assert micros(batch.column("at")).tolist() == list(range(start - 5, start + length - 5))
    assert rows(batch.column("x")).tolist() == NUMBERS[start : start + length].tolist()


@pytest.mark.parametrize("cut", [lambda a: a[2:6], lambda a: a[::2], np.asfortranarray, lambda a: a[::-1]])
def test_matrix_of_views(cut: Callable[[np.ndarray], np.ndarray]) -> None:
    """However an array lies in memory, its rows are its rows; slices of the column are slices of the array."""
    numbers = cut(NUMBERS)
    column = matrix(numbers)
    assert column.type == matrix_type(3, pa.float32())
    assert np.array_equal(rows(column), numbers)
    assert np.array_equal(rows(column.slice(1, 2)), numbers[1:3])


def test_times_of_slices() -> None:
    """Microseconds of a sliced time column are the slice's."""
    column = times(np.array([10, 20, 30], np.int64))
    assert column.type == TIME
    assert micros(column.slice(1)).tolist() == [20, 30]


OTHER = Frame(SCHEMA.with_metadata({"feature_set": "f:2"}))


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [("other", b"x")],
        OTHER.headers,
        [(SCHEMA_HEADER, None)],
        [(SCHEMA_HEADER, FRAME.fingerprint[:-1].encode())],
    ],
)
def test_mismatch(headers: Headers | None) -> None:
    """A message of another schema, or that does not say of which, stops the service: topic, place, found, expected."""
    with pytest.raises(Stop) as error:
        FRAME.decode(record(FRAME.encode(columns()), headers))
    assert "flights.features[2]@9131" in str(error.value)
    assert f"built for {FRAME.fingerprint}" in str(error.value)
    assert str(dict(headers or []).get(SCHEMA_HEADER)) in str(error.value)


def test_other_headers() -> None:
    """Headers of others do no harm."""
    value = FRAME.encode(columns())
    assert FRAME.decode(record(value, [("traceparent", b"00-1"), *FRAME.headers])).num_rows == 10


def test_fingerprint() -> None:
    """The fingerprint is the schema's own: the same whenever it is made, another for any other field or feature set."""
    again = pa.schema(list(SCHEMA), SCHEMA.metadata)
    others = [
        SCHEMA.with_metadata({"feature_set": "f:2"}),
        SCHEMA.append(pa.field("y", pa.int8())),
        pa.schema(list(SCHEMA)[::-1], SCHEMA.metadata),
        SCHEMA.set(2, pa.field("x", matrix_type(4, pa.float32()))),
        SCHEMA.set(0, pa.field("id", pa.string(), nullable=False)),
    ]
    assert Frame(again).fingerprint == FRAME.fingerprint
    assert len({FRAME.fingerprint, *(Frame(other).fingerprint for other in others)}) == 6
    assert FRAME.headers == [(SCHEMA_HEADER, FRAME.fingerprint.encode())]


@pytest.fixture(scope="module")
def stream() -> Stream:
    return load_stream(Path(__file__).parents[2] / "schemas", "flights")


def test_stream_frames(stream: Stream) -> None:
    """Each batch type is the one before and more, says its feature set and columns, and passes as no other."""
    features, scored, examples = (make(stream) for make in (features_frame, scored_frame, examples_frame))
    assert scored.schema.names == [*features.schema.names, "served", "online", "batch"]
    assert examples.schema.names == [*scored.schema.names, "partition", "label", "label_time", "outcome", "retracts"]
    assert features.schema.field("features").type == matrix_type(len(stream.columns), pa.float32())
    assert scored.schema.field("online").type == SCORE
    assert scored.schema.field("batch").type == BESIDE
    for frame in (features, scored, examples):
        assert frame.schema.metadata[b"feature_set"].decode() == stream.feature_set
        assert frame.schema.metadata[b"columns"].decode().split("\n") == list(stream.columns)
    assert len({features.fingerprint, scored.fingerprint, examples.fingerprint}) == 3
