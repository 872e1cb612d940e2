"""Follows requests: which of their records a trace has, the caller's or one that begins here, and how they ended.

The caller's `traceparent` decides, if there is one. Else so many a second are followed, and all events of some keys. A
request that fails, is refused or slow is told of in any case, `ALWAYS` a second.
"""

import time
from collections.abc import Sequence
from typing import Self

from services.runtime.clock import Clock
from services.runtime.contexts import Context, with_context
from services.runtime.records import Outgoing
from services.runtime.sampling import Budget, Rule, first_of
from services.runtime.spans import (
    ERROR,
    KEY,
    MESSAGES,
    METHOD,
    OPERATION,
    REFUSED,
    ROUTE,
    ROWS,
    STATUS,
    SYSTEM,
    TOPIC,
    Attributes,
    Kind,
    Span,
    Spans,
)

MOST = 16  # records of a request that the caller's trace has
ALWAYS = 10.0
BAD, BROKEN = 400, 500


class Unfollowed:
    """Follows nothing."""

    def request(self, route: str, traceparent: str | None, tracestate: str) -> Self:
        del route, traceparent, tracestate
        return self

    def stamped(self, records: list[Outgoing], *, begins: bool) -> list[Outgoing]:
        del begins
        return records

    def end(self, status: int, refused: int = 0, error: str | None = None) -> None:
        """Nothing was begun."""

    def close(self) -> None:
        """Nothing is open."""


class Following:
    """Follows the requests of one process; several at once."""

    def __init__(self, spans: Spans, rule: Rule, clock: Clock) -> None:
        self.spans, self.rule, self.clock = spans, rule, clock
        self.rate, self.always = Budget(rule.rate), Budget(ALWAYS)

    def request(self, route: str, traceparent: str | None, tracestate: str) -> "Followed":
        return Followed(self, route, Context.parse(traceparent, tracestate))

    def close(self) -> None:
        self.spans.close()


class Followed:
    """A POST to `route`, from its first line to its answer; `parent` is the caller's context."""

    def __init__(self, of: Following, route: str, parent: Context | None) -> None:
        self._of, self._route, self._parent = of, route, parent
        self._began = time.time_ns()
        self._open: list[Span] = []

    def stamped(self, records: list[Outgoing], *, begins: bool) -> list[Outgoing]:
        """Return them, those that are followed with their contexts; `begins`: a trace may be begun for them."""
        chosen = self._chosen(records, begins=begins)
        if not chosen:
            return records
        topic, key = records[0].topic, records[chosen[0]].key or b""
        about: Attributes = {SYSTEM: "kafka", OPERATION: "send", TOPIC: topic, MESSAGES: len(records)}
        followed: Attributes = {ROWS: len(chosen), KEY: key.decode(errors="replace")}
        send = self._begin(f"send {topic}", "producer", self._serve().context, {**about, **followed}, time.time_ns())
        marked = records.copy()
        for place in chosen:
            marked[place] = with_context(records[place], send.context)
        return marked

    def end(self, status: int, refused: int = 0, error: str | None = None) -> None:
        """Say how it was answered."""
        if not self._followed(status, refused):
            return
        wrong = {ERROR: str(status)} if status >= BAD else {}
        self._open[0].note({STATUS: status, **wrong, **({REFUSED: refused} if refused else {})})
        for span in reversed(self._open):
            span.end(f"{status}: {error or 'failed'}" if status >= BROKEN else None)

    def _chosen(self, records: Sequence[Outgoing], *, begins: bool) -> list[int]:
        """Return the places of the records to follow."""
        if self._parent is not None:
            return list(range(min(MOST, len(records)))) if self._parent.sampled else []
        now, keys = self._of.clock.now(), self._of.rule.keys
        left = min(1, self._of.rate.whole(now)) if begins else 0
        if not (left or keys):
            return []
        chosen = first_of(keys, [record.key for record in records], left)
        self._of.rate.spend(int(bool(chosen)), now)
        return chosen[:MOST]

    def _followed(self, status: int, refused: int) -> bool:
        """Tell whether it is told of, and see to it that there is a span to tell it with."""
        if not self._open:
            slow = time.time_ns() - self._began > self._of.rule.slow_s * 1e9
            wanted = self._parent is not None and self._parent.sampled
            if not wanted and not ((status >= BAD or refused or slow) and self._of.always.take(self._of.clock.now())):
                return False
            self._serve()
        return True

    def _serve(self) -> Span:
        about: Attributes = {METHOD: "POST", ROUTE: self._route}
        return self._begin(f"POST {self._route}", "server", self._parent, about, self._began)

    def _begin(self, name: str, kind: Kind, parent: Context | None, about: Attributes, began_ns: int) -> Span:
        span = self._of.spans.begin(name, kind, parent, about, (), began_ns)
        self._open.append(span)
        return span
