"""The JSON codec: a JSON Schema becomes a msgspec type, and a batch of records becomes rows and columns.

msgspec checks types and bounds while it parses. `date-time` fields stay strings there and are parsed a column at a
time by Arrow, which costs a quarter; a string that Arrow alone does not know (nanoseconds, say) is tried as RFC 3339.
Whether a record is good never depends on the records beside it.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from services.runtime.errors import Reject
from services.runtime.record_types import Row, record_type
from services.runtime.records import bare

Int64s: TypeAlias = NDArray[np.int64]
ReadTimes: TypeAlias = Callable[[Sequence[str | None]], Int64s | None]
_AWARE = Annotated[dt.datetime, msgspec.Meta(tz=True)]
_TIME = pa.timestamp("us", tz="UTC")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST = -62_135_596_800_000_000  # years 1 to 9999, which is what clients of all languages can hold
_LAST = 253_402_300_799_999_999
LARGEST = 1 << 19  # bytes of a record; brokers and clients take a megabyte by default, and base64 makes four of three


class Decoded:
    """The good rows of a batch, where they stood in it, their times, and what was wrong with the others."""

    def __init__(
        self, rows: list[Row], places: list[int], rejects: dict[int, Reject], times: dict[str, Int64s]
    ) -> None:
        self.rows = rows
        self.places = places
        self.rejects = rejects
        self._columns: dict[str, list[Any]] = {}
        self.times = times  # microseconds since 1970, for each `date-time` field that is required

    def column(self, name: str) -> list[Any]:
        if name not in self._columns:
            self._columns[name] = list(map(attrgetter(name), self.rows))
        return self._columns[name]

    def drop(self, rejects: dict[int, Reject]) -> None:
        """Refuse further records, by their places in the batch."""
        if not rejects:
            return
        self.rejects |= rejects
        self._columns.clear()
        kept = [row for row, place in enumerate(self.places) if place not in rejects]
        self.rows = [self.rows[row] for row in kept]
        self.places = [self.places[row] for row in kept]
        self.times = {field: column[kept] for field, column in self.times.items()}


class JsonCodec:
    """Reads the records of one schema."""

    def __init__(self, name: str, schema: dict[str, Any], read_times: ReadTimes | None = None) -> None:
        """`read_times` may read a column of times faster than Arrow does; what it leaves is Arrow's."""
        self._read_times = read_times or _no_times
        self._type = record_type(name, schema)
        self._decode = msgspec.json.Decoder(self._type).decode
        self._integers = [field for field, rule in schema["properties"].items() if "integer" in rule.get("type", ())]
        self._times = [field for field, rule in schema["properties"].items() if rule.get("format") == "date-time"]
        self._required = [field for field in self._times if field in schema.get("required", [])]

    def decode(self, values: Sequence[bytes]) -> Decoded:
        """Read a batch; a bad record costs nobody but itself."""
        rows, places, rejects = self._rows(values)
        columns = {field: self._column_of_times(rows, field) for field in self._times}
        if any(column is None for column in columns.values()):
            rows, places = self._drop_bad_times(rows, places, rejects)
            columns = {field: _rfc3339(rows, field) for field in self._times}
        times = {field: column for field, column in columns.items() if field in self._required and column is not None}
        return Decoded(rows, places, rejects, times)

    def _column_of_times(self, rows: list[Row], field: str) -> Int64s | None:
        texts = list(map(attrgetter(field), rows))
        times = self._read_times(texts)
        return _arrow_times(texts) if times is None else times

    def _rows(self, values: Sequence[bytes]) -> tuple[list[Row], list[int], dict[int, Reject]]:
        decode = self._decode
        if max(map(len, values), default=0) > LARGEST:
            return self._rows_one_by_one(values)
        try:
            return list(map(decode, values)), list(range(len(values))), {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._rows_one_by_one(values)

    def _rows_one_by_one(self, values: Sequence[bytes]) -> tuple[list[Row], list[int], dict[int, Reject]]:
        rows, places, rejects = [], [], {}
        for place, value in enumerate(values):
            try:
                rows.append(self._row(bare(value)))
                places.append(place)
            except Reject as error:
                rejects[place] = error
            except msgspec.ValidationError as error:
                rejects[place] = Reject("schema", str(error))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                rejects[place] = Reject("json", str(error))
        return rows, places, rejects

    def _row(self, value: bytes) -> Row:
        if len(value) > LARGEST:
            raise Reject("size", f"Expected a record of at most {LARGEST} bytes, got {len(value)}")
        try:
            return self._decode(value)
        except msgspec.ValidationError:
            if (found := self._with_integers(value)) is None:
                raise
            return msgspec.convert(found, self._type)

    def _with_integers(self, value: bytes) -> dict[str, Any] | None:
        """Return it with integers for numbers such as 1.0 where they are expected (to JSON Schema they are), if any."""
        try:
            found = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        fields = self._integers if isinstance(found, dict) else []
        whole = {field for field in fields if isinstance(number := found.get(field), float) and number.is_integer()}
        return found | {field: int(found[field]) for field in whole} if whole else None

    def _drop_bad_times(
        self, rows: list[Row], places: list[int], rejects: dict[int, Reject]
    ) -> tuple[list[Row], list[int]]:
        good = []
        for row, place in zip(rows, places, strict=True):
            bad = [field for field in self._times if not _is_time(getattr(row, field))]
            if bad:
                found = getattr(row, bad[0])
                rejects[place] = Reject(
                    "schema", f"Expected a date-time with a zone (RFC 3339), got {found!r} - at `$.{bad[0]}`"
                )
            else:
                good.append((row, place))
        return [row for row, _ in good], [place for _, place in good]


def _no_times(_: Sequence[str | None]) -> None:
    return None


def _arrow_times(texts: Sequence[str | None]) -> Int64s | None:
    """Return a column of times, or None if one of them is not to be read this way."""
    try:
        parsed = pa.array(texts, pa.string()).cast(_TIME)
    except pa.ArrowInvalid:
        return None
    column = np.asarray((parsed.fill_null(_EPOCH) if parsed.null_count else parsed).view(pa.int64()), np.int64)
    return column if not len(column) or (column.min() >= _FIRST and column.max() <= _LAST) else None


def _rfc3339(rows: list[Row], field: str) -> Int64s:
    return np.array([_parse_time(getattr(row, field)) or 0 for row in rows], np.int64)


def _is_time(text: str | None) -> bool:
    return text is None or _parse_time(text) is not None


def _parse_time(text: str | None) -> int | None:
    """Return microseconds since 1970, or None for what is no time, or none of the years 1 to 9999."""
    if text is None:
        return None
    try:
        micros = int(pa.scalar(text).cast(_TIME).value)
    except pa.ArrowInvalid:
        try:
            micros = (msgspec.convert(text, _AWARE) - _EPOCH) // dt.timedelta(microseconds=1)
        except (msgspec.ValidationError, OverflowError):
            return None
    return micros if _FIRST <= micros <= _LAST else None
