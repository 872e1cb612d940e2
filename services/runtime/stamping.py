"""The spans of what goes out of a batch, `send T` until the commit, and the contexts that it carries on."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from services.runtime.arrivals import Arrivals
from services.runtime.contexts import Context, carried, with_context, with_rows
from services.runtime.members import Member, Place, Rows, is_batch
from services.runtime.models import Published, decode_event
from services.runtime.records import Outgoing, Record
from services.runtime.spans import (
    ERROR,
    OFFSET,
    OPERATION,
    PARTITION,
    SYSTEM,
    TOPIC,
    VERSION,
    Attributes,
    Span,
)
from services.runtime.stream import Stream

_NO_TRACE = b'"trace_id":null}'  # how a prediction ends that is of no trace
_TRACE_ID = slice(-34, -2)  # and where one that is of a trace says so


class Stamping:
    """Stamps what goes out of one batch of records. `waiting` has the rows whose label was waited for before it.

    `may_tell` says whether one more thing may be told of that nobody follows; `said` are the rows that became examples.
    """

    def __init__(
        self,
        stream: Stream,
        records: Sequence[Record],
        arrivals: Arrivals,
        waiting: Mapping[Place, Member],
        may_tell: Callable[[], bool],
    ) -> None:
        self._records, self._arrivals, self._waiting, self._may_tell = records, arrivals, waiting, may_tell
        self._topic = stream.topic
        self._stamps = {
            stream.topic("predictions"): self._prediction,
            stream.topic("dead-letter"): self._letter,
            stream.topic("examples"): self._examples,
            stream.topic("features"): self._rows,
            stream.topic("scored"): self._rows,
        }
        self._predictions = stream.topic("predictions")
        self._sent: dict[tuple[str, str], Span] = {}  # by span and topic
        self._told: dict[Place, Span] = {}

    @property
    def said(self) -> Collection[Place]:
        return self._told.keys()

    def stamped(self, outgoing: Sequence[Outgoing]) -> list[Outgoing]:
        """Return what goes out."""
        said = self._predictions
        return [out if out.topic == said and out.value.endswith(_NO_TRACE) else self._stamp(out) for out in outgoing]

    def _stamp(self, out: Outgoing) -> Outgoing:
        return self._stamps[out.topic](out) if out.topic in self._stamps else out

    def publish(self, pending: Sequence[Context], outgoing: Sequence[Outgoing]) -> bool:
        """Tell the events that were learned from since the last version which one has them; False if it is to come."""
        models = [decode_event(out.value) for out in outgoing if out.topic == self._topic("models")]
        version = next((event.version for event in models if isinstance(event, Published)), None)
        if version is None:
            return False
        for context in pending:
            self._begin_send(context, self._topic("models"), {VERSION: version})
        return True

    def _rows(self, out: Outgoing) -> Outgoing:
        known = self._arrivals.events
        if not known or not is_batch(out.headers):
            return out
        rows = Rows(out.value, out.partition or 0)
        spans = {row: known[int(rows.places[row])][1] for row in rows.found(known)}
        return with_rows(out, {row: self._send(span, out.topic).context for row, span in spans.items()})

    def _examples(self, out: Outgoing) -> Outgoing:
        rows = Rows(out.value, out.partition or 0)
        spans = {row: self._decided(int(rows.places[row])) for row in rows.found(self._waiting, self._arrivals.events)}
        for row, span in spans.items():
            span.note(rows.said(row))
        return with_rows(out, {row: self._send(span, out.topic).context for row, span in spans.items()})

    def _decided(self, place: Place) -> Span:
        """Return the span of what made an example of a row, its label's coming or not coming, under the row's."""
        if place not in self._told:
            self._told[place] = self._label(self._row(place))
        return self._told[place]

    def _row(self, place: Place) -> Member:
        if place in self._waiting:
            return self._waiting[place]
        member, span = self._arrivals.events[place]
        return msgspec.structs.replace(member, context=span.context)

    def _label(self, row: Member) -> Span:
        links = [(span.context, label.attributes) for label, span in self._arrivals.labels.get(row.event_id or "", [])]
        return self._arrivals.process(self._topic("labels"), row.context, row.named, links)

    def _prediction(self, out: Outgoing) -> Outgoing:
        trace_id = out.value[_TRACE_ID].decode(errors="replace")
        span = self._arrivals.by_trace.get((self._topic("features"), trace_id))
        return out if span is None else with_context(out, self._send(span, out.topic).context)

    def _letter(self, out: Outgoing) -> Outgoing:
        """Follow what was refused, sampled or not."""
        place = (out.key or b"").decode(errors="replace")
        span = self._arrivals.by_record.get(place)
        if span is None:
            if not self._may_tell():
                return out
            span = self._refused(place)
        span.note({ERROR: msgspec.json.decode(out.value, type=_Reason).reason})
        return with_context(out, self._send(span, out.topic).context)

    def _refused(self, place: str) -> Span:
        topic, partition, offset = place.rsplit("/", 2)
        at = topic, int(partition), int(offset)
        record = next((r for r in self._records if (r.topic, r.partition, r.offset) == at), None)
        parent = None if record is None else carried(record)
        return self._arrivals.process(topic, parent, {PARTITION: partition, OFFSET: int(offset)})

    def _send(self, span: Span, topic: str) -> Span:
        """Return the span of what is sent to a topic under this one."""
        key = span.context.span_id, topic
        if key not in self._sent:
            self._sent[key] = self._begin_send(span.context, topic)
        return self._sent[key]

    def _begin_send(self, parent: Context, topic: str, more: Attributes | None = None) -> Span:
        about: Attributes = {SYSTEM: "kafka", OPERATION: "send", TOPIC: topic} | dict(more or {})
        return self._arrivals.begin(f"send {topic}", "producer", parent, about, (), time.time_ns())


class _Reason(msgspec.Struct, frozen=True):
    """What a dead letter is looked at for."""

    reason: str
