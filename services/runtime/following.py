"""Follows sampled events through a service's loop. What fails, is slow or is refused is told of, sampled or not.

What was folded in silence is not followed again.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import Token
from itertools import islice
from operator import attrgetter
from types import TracebackType
from typing import Self

import msgspec

from services.runtime.arrivals import Arrivals
from services.runtime.clock import Clock
from services.runtime.contexts import Context, carried
from services.runtime.logs import TRACE
from services.runtime.members import Member, Place, begun, members
from services.runtime.records import Outgoing, Record
from services.runtime.sampling import Budget, Rule, first_of
from services.runtime.spans import VERSION_FIRST, VERSION_LAST, Spans
from services.runtime.stamping import Stamping
from services.runtime.stream import Stream

MOST = 100  # events of a batch that are followed
WAITING = 100_000  # rows that wait for a label, whose traces are remembered; some 40 MB
PENDING = 1000  # events learned from since the last version
ALWAYS = 10.0  # batches, and letters, a second that are told of though nobody follows them


class Following:
    """Follows what one service of a stream does. `learned` says how many examples its model has learned, if it has one.

    Of a row that waits for its label the trace is remembered here, beside the core's state: a restart forgets it, and
    only the newest `WAITING` are kept.
    """

    def __init__(
        self,
        stream: Stream,
        service: str,
        spans: Spans,
        rule: Rule,
        clock: Clock,
        learned: Callable[[], int] | None = None,
    ) -> None:
        self.stream, self.service, self.spans, self.rule = stream, service, spans, rule
        self.learned = learned
        self._clock, self._rate, self._always = clock, Budget(rule.rate), Budget(ALWAYS)
        self._events, self._id = stream.topic("events"), stream.pipeline.stream.id
        self.group, self.letters = f"{stream.name}.{service}", stream.topic("dead-letter")
        self.corrected = stream.pipeline.label.corrections is not None
        self.waiting: OrderedDict[Place, Member] = OrderedDict()
        self.pending: list[Context] = []
        self._at_hand: FollowedBatch | None = None

    def batch(self, records: Sequence[Record]) -> "FollowedBatch":
        self._at_hand = FollowedBatch(self, records)
        return self._at_hand

    def context(self, partition: int) -> str | None:
        found = self._at_hand.arrivals.contexts.get(partition) if self._at_hand else None
        return None if found is None else str(found)

    def close(self) -> None:
        self.spans.close()

    def find(self, records: Sequence[Record]) -> list[Member]:
        """Return the events to follow: those that a trace follows, and those that one is begun for here."""
        found = members(records, self._events, self._id)
        if self.service == "features" and records:
            found += self._begun(records, len(found))
        return found[:MOST]

    def may_tell(self) -> bool:
        """Tell whether one more may be told of that nobody follows."""
        return self._always.take(self._clock.now())

    def remember(self, place: Place, member: Member) -> None:
        self.waiting[place] = member
        while len(self.waiting) > WAITING:
            self.waiting.popitem(last=False)

    def _begun(self, records: Sequence[Record], followed: int) -> list[Member]:
        """Return those of the events that came with no trace for which one is begun: they came straight to Kafka."""
        now = self._clock.now()
        self._rate.spend(followed, now)
        chosen = self._chosen(records, self._rate.whole(now))
        self._rate.spend(len(chosen), now)
        return [begun(record, self._id) for record in chosen]

    def _chosen(self, records: Sequence[Record], left: int) -> list[Record]:
        if self.rule.keys:
            strange = [record for record in records if carried(record) is None]
            return [strange[place] for place in first_of(self.rule.keys, [record.key for record in strange], left)]
        return list(islice((record for record in records if carried(record) is None), left))


class FollowedBatch:
    """One batch, from when it was read until it is committed."""

    def __init__(self, following: Following, records: Sequence[Record]) -> None:
        self._of, self._records = following, records
        self._began = time.time_ns()
        self.arrivals = Arrivals(following.spans, following.group, records, self._began)
        self._stamping: Stamping | None = None  # where something is to be stamped
        self._before = following.learned() if following.learned else 0
        self._pending: list[Context] | None = None
        self._logged: Token[tuple[str, str] | None]

    def __enter__(self) -> Self:
        self.arrivals.take(self._of.find(self._records))
        first = next(iter(self.arrivals.contexts.values()), None)
        self._logged = TRACE.set((first.trace_id, first.span_id) if first else None)
        return self

    def stamped(self, outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
        of = self._of
        nobody = not self.arrivals and not of.waiting and not of.pending
        if nobody and of.letters not in map(attrgetter("topic"), outgoing):
            return outgoing
        self._stamping = Stamping(of.stream, self._records, self.arrivals, of.waiting, of.may_tell)
        self._pending = [*of.pending, *self._learned()][-PENDING:]
        if self._pending and self._stamping.publish(self._pending, outgoing):
            self._pending = []
        return self._stamping.stamped(outgoing)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        TRACE.reset(self._logged)
        said = None if kind is None else f"{kind.__name__}: {error}"
        if not self.arrivals and self._records and (said or self._slow()) and self._of.may_tell():
            self.arrivals.process(self._records[0].topic, None, {})
        if said is None:
            self._remember()
        self.arrivals.end(said)

    def _slow(self) -> bool:
        """Tell whether it took long, or the newest of it came long after it was written."""
        now, written = time.time_ns(), self._records[-1].timestamp
        late_s = now / 1e9 - written / 1e3 if written > 0 else 0.0
        return max(late_s, (now - self._began) / 1e9) > self._of.rule.slow_s

    def _learned(self) -> list[Context]:
        """Note which versions of the model the batch has made; the next that is published has all that it learned."""
        last = self._of.learned() if self._of.learned else self._before
        spans = list(self.arrivals.by_trace.values()) if last > self._before else []
        for span in spans:
            span.note({VERSION_FIRST: self._before + 1, VERSION_LAST: last})
        return [span.context for span in spans]

    def _remember(self) -> None:
        """Know the traces of rows that wait on, and of what waits for a version; let go those that wait no more."""
        if self._pending is not None:
            self._of.pending = self._pending
        if self._of.service != "labels":
            return
        said = self._stamping.said if self._stamping and not self._of.corrected else frozenset()
        for place in said:
            self._of.waiting.pop(place, None)
        for place, (member, span) in self.arrivals.events.items():
            if place not in said:
                self._of.remember(place, msgspec.structs.replace(member, context=span.context))
