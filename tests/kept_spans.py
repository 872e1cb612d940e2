"""Spans that are kept instead of sent, for tests of what is told rather than of how it gets there."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from services.runtime.contexts import Context
from services.runtime.spans import Attributes, Kind, Link


class KeptSpan:
    """One span; `ended` is None until it is, then whether it failed."""

    def __init__(
        self, service: str, name: str, kind: Kind, parent: Context | None, links: Sequence[Link], number: int
    ) -> None:
        self.service, self.name, self.kind, self.parent, self.links = service, name, kind, parent, list(links)
        trace_id, state = (parent.trace_id, parent.state) if parent else (f"{number:032x}", "")
        self.context = Context(trace_id, f"{number:016x}", state=state)
        self.attributes: dict[str, Any] = {}
        self.ended = False
        self.error: str | None = None

    def note(self, attributes: Attributes) -> None:
        assert not self.ended, f"{self.name} was ended"
        self.attributes |= attributes

    def end(self, error: str | None = None) -> None:
        assert not self.ended, f"{self.name} was ended twice"
        self.ended, self.error = True, error

    def __repr__(self) -> str:
        return f"{self.service}: {self.name}"


class Kept:
    """All spans of several services."""

    def __init__(self) -> None:
        self.spans: list[KeptSpan] = []
        self._numbers = count(1)

    def of(self, service: str) -> "KeptBy":
        return KeptBy(self, service)

    def add(self, service: str, name: str, kind: Kind, parent: Context | None, links: Sequence[Link]) -> KeptSpan:
        self.spans.append(KeptSpan(service, name, kind, parent, links, next(self._numbers)))
        return self.spans[-1]

    def named(self, name: str) -> list[KeptSpan]:
        return [span for span in self.spans if span.name == name]

    def edges(self, trace_id: str) -> set[tuple[str, str]]:
        """Return the edges of one trace, from parent to child, by service and name; the caller is ""."""
        known = {span.context.span_id: span for span in self.spans}
        mine = [span for span in self.spans if span.context.trace_id == trace_id]
        return {(str(known.get(span.parent.span_id, "")) if span.parent else "", str(span)) for span in mine}


class KeptBy:
    """The spans of one service."""

    def __init__(self, kept: Kept, service: str) -> None:
        self._kept, self._service = kept, service
        self.closed = False

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: Context | None,
        attributes: Attributes,
        links: Sequence[Link] = (),
        began_ns: int | None = None,
    ) -> KeptSpan:
        assert began_ns is None or began_ns > 0
        span = self._kept.add(self._service, name, kind, parent, links)
        span.note(attributes)
        return span

    def close(self) -> None:
        self.closed = True
