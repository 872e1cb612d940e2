"""What stands on the log for fields that say who somebody is. Pure: who knows hashes and tokens is given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from services.runtime.codec import Decoded
from services.runtime.records import bare
from services.runtime.treatments import Treatment

Stands: TypeAlias = Callable[[str, Sequence[Any]], list[str]]  # for the values of a field, none of them None


class Treating:
    """Treats the records of one schema: of the marked fields some go, and others have a stand-in."""

    def __init__(self, marks: Mapping[str, Treatment], stands: Mapping[Treatment, Stands]) -> None:
        self._gone = [name for name, done in marks.items() if done == "drop"]
        self._stands = {name: stands[done] for name, done in marks.items() if done != "drop"}
        self._fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode  # what is not marked stays as it was sent

    def treated(self, key: str, sent: Sequence[bytes], decoded: Decoded) -> tuple[list[Any], list[bytes]]:
        """Return, for each good row, the `key` field and the record as they go to the log."""
        records = [self._fields(bare(sent[place])) for place in decoded.places]
        for name in self._gone:
            for record in records:
                record.pop(name, None)
        columns = {name: self._column(name, decoded) for name in self._stands}
        for name, column in columns.items():
            for record, stand in zip(records, column, strict=True):
                if stand is not None:
                    record[name] = msgspec.Raw(msgspec.json.encode(stand))
        return columns.get(key) or decoded.column(key), list(map(msgspec.json.encode, records))

    def _column(self, name: str, decoded: Decoded) -> list[Any]:
        found = decoded.column(name)
        stands = iter(self._stands[name](name, [value for value in found if value is not None]))
        return [None if value is None else next(stands) for value in found]
