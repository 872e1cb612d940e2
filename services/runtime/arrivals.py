"""The spans of what came in with a batch: one a topic and batch, and a short one for each further trace.

The batch's is `process T`, under the first sampled event that it holds and linked to all of them. Any other event has
its own in its own trace, linked to the batch's, so that every trace is whole by itself.
"""

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter

from services.runtime.contexts import Context
from services.runtime.dead_letters import place_name
from services.runtime.members import Member, Place
from services.runtime.records import Record
from services.runtime.spans import GROUP, MESSAGES, OPERATION, ROWS, SYSTEM, TOPIC, Attributes, Kind, Link, Span, Spans


class Arrivals:
    """The spans of one batch, all of which `end` ends, and which of them is whose."""

    def __init__(self, spans: Spans, group: str, records: Sequence[Record], began_ns: int) -> None:
        self._spans, self._group, self._records, self._began = spans, group, records, began_ns
        self._counts: Counter[str] = Counter()  # records of each topic, once somebody asks
        self._open: list[Span] = []
        self.by_trace: dict[tuple[str, str], Span] = {}  # topic, trace
        self.by_record: dict[str, Span] = {}  # as a dead letter calls its place
        self.events: dict[Place, tuple[Member, Span]] = {}
        self.labels: dict[str, list[tuple[Member, Span]]] = {}  # by the event's id
        self.contexts: dict[int, Context] = {}  # of each partition's first

    def __bool__(self) -> bool:
        """Whether anything was begun."""
        return bool(self._open)

    def take(self, found: Sequence[Member]) -> None:
        """Begin the spans of these."""
        for topic in dict.fromkeys(member.topic for member in found):
            self._take(topic, [member for member in found if member.topic == topic])

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: Context | None,
        attributes: Attributes,
        links: Sequence[Link] = (),
        began_ns: int | None = None,
    ) -> Span:
        """Begin one more, when the batch began if no other time is given."""
        span = self._spans.begin(name, kind, parent, attributes, links, began_ns or self._began)
        self._open.append(span)
        return span

    def process(self, topic: str, parent: Context | None, more: Attributes, links: Sequence[Link] = ()) -> Span:
        """Begin `process T`."""
        self._counts = self._counts or Counter(map(attrgetter("topic"), self._records))
        count = self._counts[topic]
        about: Attributes = {SYSTEM: "kafka", OPERATION: "process", TOPIC: topic, GROUP: self._group, MESSAGES: count}
        return self.begin(f"process {topic}", "consumer", parent, {**about, **more}, links)

    def end(self, error: str | None) -> None:
        for span in reversed(self._open):
            span.end(error)

    def _take(self, topic: str, found: Sequence[Member]) -> None:
        first, links = found[0], [(member.context, member.attributes) for member in found if member.context]
        whole = self.process(topic, first.context, {**first.attributes, ROWS: len(found)}, links)
        self.by_trace[topic, whole.context.trace_id] = whole
        for member in found:
            self._note(member, whole if member is first else self._own(member, whole))

    def _own(self, member: Member, whole: Span) -> Span:
        """Return the span in the member's own trace."""
        if member.context and (known := self.by_trace.get((member.topic, member.context.trace_id))):
            return known
        span = self.process(member.topic, member.context, member.attributes, [(whole.context, {})])
        self.by_trace[member.topic, span.context.trace_id] = span
        return span

    def _note(self, member: Member, span: Span) -> None:
        self.contexts.setdefault(member.partition, span.context)
        self.by_record[place_name(member.topic, member.partition, member.offset)] = span
        if member.place is not None:
            self.events[member.place] = member, span
        elif member.event_id is not None:
            self.labels.setdefault(member.event_id, []).append((member, span))
