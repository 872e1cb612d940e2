"""What a core lets in: the JSON records of a topic become rows, and what is refused becomes dead letters.

The order is what a reason means: it is the first of schema, key, clock and repeated id that a record offends. All four
are judged from the log alone, so that a replay says the same.
"""

from collections.abc import Sequence
from typing import Literal

from services.runtime.clocks import ahead
from services.runtime.codec import Decoded, JsonCodec, ReadTimes
from services.runtime.dead_letters import dead_letter, wrong_keys
from services.runtime.errors import Reject
from services.runtime.records import Outgoing, Record
from services.runtime.repeats import Repeats
from services.runtime.stream import Stream
from services.runtime.treatments import Shield


class Admission:
    """Folds the events, or the labels, of one partition. Its state is the ids that it remembers."""

    def __init__(
        self, stream: Stream, service: str, kind: Literal["event", "label"], read_times: ReadTimes | None = None
    ) -> None:
        self._stream, self._service, self._kind = stream, service, kind
        self._time = stream.pipeline.stream.time if kind == "event" else stream.pipeline.label.time
        schema = stream.event if kind == "event" else stream.label
        self._codec = JsonCodec(kind, schema, read_times)
        self.shield = Shield(schema, stream.key)
        self._corrected = kind == "label" and stream.pipeline.label.corrections is not None
        self._once = "each label of an id once" if self._corrected else f"one {kind} an id"
        self._repeats = Repeats(stream.pipeline.stream.dedupe)

    def read(self, records: Sequence[Record]) -> tuple[Decoded, list[Outgoing]]:
        """Return the rows that are good, and a dead letter for each record that is not, in their order."""
        decoded = self._codec.decode([record.value for record in records])
        decoded.drop(wrong_keys(self._stream.key, decoded, records))
        decoded.drop(self._wrong_clocks(decoded, records))
        decoded.drop(self._repeated(decoded))
        topic, refused = self._stream.topic("dead-letter"), sorted(decoded.rejects.items())
        return decoded, [self._letter(topic, records[place], reject) for place, reject in refused]

    def _letter(self, topic: str, record: Record, reject: Reject) -> Outgoing:
        return dead_letter(topic, self._service, record, reject, self.shield)

    def _wrong_clocks(self, decoded: Decoded, records: Sequence[Record]) -> dict[int, Reject]:
        written = [records[place].timestamp for place in decoded.places]
        wrong = ahead(decoded.times[self._time], written, self._stream.pipeline.stream.ahead.us)
        return {decoded.places[row]: reject for row, reject in wrong.items()}

    def _repeated(self, decoded: Decoded) -> dict[int, Reject]:
        ids = decoded.column(self._stream.pipeline.stream.id)
        return {
            decoded.places[row]: Reject("duplicate", f"Expected {self._once}, got another of {ids[row]!r}")
            for row in self._repeats.find(self._names(decoded, ids))
        }

    def _names(self, decoded: Decoded, ids: Sequence[str]) -> Sequence[str]:
        """Return what must not come twice: an id, or where labels may be corrected, the same label of an id."""
        rule = self._stream.pipeline.label
        if not self._corrected:
            return ids
        values, times = decoded.column(rule.field), decoded.times[rule.time]
        return [f"{value} {time} {name}" for value, time, name in zip(values, times, ids, strict=True)]

    def state(self) -> list[list[str]]:
        return self._repeats.state()

    def load(self, state: Sequence[Sequence[str]]) -> None:
        self._repeats.load(state)
