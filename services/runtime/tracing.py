"""What a service tells of its batches to whoever follows sampled events, and who does where nothing is to be traced.

Only a service with an OTLP endpoint loads OpenTelemetry; any other follows nothing, which costs next to nothing.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from services.runtime.clock import SystemClock
from services.runtime.errors import ConfigError
from services.runtime.pii import Masker, open_masker
from services.runtime.records import Outgoing, Record
from services.runtime.sampling import Rule, keys
from services.runtime.settings import Settings
from services.runtime.spans import EVENT_ID, KEY, Attributes, Spans
from services.runtime.stream import Stream


class Batch(Protocol):
    """A batch on its way through the loop, from when it was read until it is committed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def stamped(self, outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Return what goes out, with the contexts of what is followed in its headers."""


class Tracing(Protocol):
    """Follows batches, one at a time."""

    def batch(self, records: Sequence[Record]) -> Batch:
        """Follow the sampled events of these records, for the time of a `with`."""

    def context(self, partition: int) -> str | None:
        """Return the `traceparent` for what is asked of others, for this partition of the batch at hand."""

    def close(self) -> None: ...


class Untraced:
    """Follows nothing."""

    def batch(self, records: Sequence[Record]) -> Self:
        del records
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was begun."""

    def stamped(self, outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
        return outgoing

    def context(self, partition: int) -> None:
        del partition

    def close(self) -> None:
        """Nothing is open."""


def open_tracing(service: str, settings: Settings, stream: Stream, learned: Callable[[], int] | None = None) -> Tracing:
    """Return who follows this service's batches; `learned` says how many examples its model has learned."""
    spans = open_spans(service, settings, stream)
    if spans is None:
        return Untraced()
    from services.runtime.following import Following  # noqa: PLC0415 - nobody else needs it

    return Following(stream, service, spans, rule(settings), SystemClock(), learned)


def open_spans(service: str, settings: Settings, stream: Stream) -> Spans | None:
    """Return who makes this process's spans; None if nothing is traced. Of fields marked `pii` none has a raw value."""
    if not settings.otlp:
        return None
    if not settings.otlp.startswith(("http://", "https://")):
        raise ConfigError(f"THALWEG_OTLP: found {settings.otlp!r}, expected a base URL such as http://127.0.0.1:4318")
    from services.runtime.telemetry import Telemetry  # noqa: PLC0415 - 0.3 s, and only if something is traced

    named = {"service.instance.id": settings.instance, "thalweg.stream": settings.stream}
    return Telemetry(settings.otlp, service, masking(open_masker(stream, settings.data), stream), **named)


def masking(masker: Masker, stream: Stream) -> Callable[[Attributes], Attributes]:
    """Return what puts hashes in the place of an event's id and key in a span, if these are marked."""
    marked = {EVENT_ID: stream.pipeline.stream.id, KEY: stream.key}
    of_people = masker.fields & set(marked.values())

    def mask(attributes: Attributes) -> Attributes:
        return {name: masker.value(marked.get(name, ""), value) for name, value in attributes.items()}

    return mask if of_people else dict


def rule(settings: Settings) -> Rule:
    return Rule(settings.trace_rate, keys(settings.trace_keys), settings.trace_slow_s)
