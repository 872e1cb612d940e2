"""A span as the hooks of a service see it, what it is described by, and the tracer that does nothing.

`telemetry.py` makes real ones. Attributes follow OpenTelemetry's conventions for messaging and HTTP, and this table is
all of them; those of our own begin with `thalweg.`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from services.runtime.contexts import Context

SYSTEM = "messaging.system"  # kafka
OPERATION = "messaging.operation.type"  # send, process
TOPIC = "messaging.destination.name"
PARTITION = "messaging.destination.partition.id"
OFFSET = "messaging.kafka.offset"
MESSAGES = "messaging.batch.message_count"
GROUP = "messaging.consumer.group.name"
METHOD = "http.request.method"
ROUTE = "http.route"
STATUS = "http.response.status_code"
ERROR = "error.type"  # a class of ours, a word of a dead letter's, or a status
EVENT_ID = "thalweg.event_id"
KEY = "thalweg.key"
ROWS = "thalweg.rows"  # sampled ones
OUTCOME = "thalweg.outcome"  # of an example
VERSION = "thalweg.version"  # of the online model, published
VERSION_FIRST, VERSION_LAST = "thalweg.version.first", "thalweg.version.last"  # that a batch has made of it
REFUSED = "thalweg.refused"  # lines of a request

Kind: TypeAlias = Literal["server", "producer", "consumer"]
Attributes: TypeAlias = Mapping[str, str | int | float | bool]
Link: TypeAlias = tuple[Context, Attributes]


class Span(Protocol):
    """What was begun and has to be ended."""

    @property
    def context(self) -> Context: ...

    def note(self, attributes: Attributes) -> None: ...

    def end(self, error: str | None = None) -> None:
        """End it now; `error` says that it failed, and with what."""


class Spans(Protocol):
    """Begins spans. Nothing here waits for anybody, or raises: what can't be sent is dropped, and counted."""

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: Context | None,
        attributes: Attributes,
        links: Sequence[Link] = (),
        began_ns: int | None = None,
    ) -> Span:
        """Begin a span under `parent`, or a trace if there is none; `began_ns` is since 1970, now if not given."""

    def close(self) -> None:
        """Send what is left, within two seconds."""
