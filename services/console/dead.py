"""The newest records that were refused, and how many there are. Pure."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from services.runtime.dead_letters import DeadLetter, Replayed, decode_dead_letter
from services.runtime.errors import Stop
from services.runtime.records import Record

KEPT = 200


class Dead:
    """Folds `dead-letter`, from wherever it was read on."""

    def __init__(self) -> None:
        self.count = 0
        self._newest: OrderedDict[tuple[int, int], tuple[DeadLetter, int]] = OrderedDict()
        self._replayed: OrderedDict[str, None] = OrderedDict()

    def fold(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                said = decode_dead_letter(record)
            except Stop:  # of another version of the service
                continue
            if isinstance(said, Replayed):
                self._replayed[said.place] = None
            else:
                self.count += 1
                self._newest[record.partition, record.offset] = said, record.timestamp
        for held in (self._newest, self._replayed):
            while len(held) > KEPT:
                held.popitem(last=False)

    def view(self) -> dict[str, Any]:
        newest = [self._row(*place, *found) for place, found in reversed(self._newest.items())]
        return {"count": self.count, "newest": newest}

    def _row(self, partition: int, offset: int, letter: DeadLetter, at: int) -> dict[str, Any]:
        return {
            "partition": partition,
            "offset": offset,
            "topic": letter.topic,
            "service": letter.service,
            "reason": letter.reason,
            "at": at,
            "replayed": letter.place in self._replayed,
        }
