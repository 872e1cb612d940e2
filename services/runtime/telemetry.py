"""OpenTelemetry's one home: spans become OTLP over HTTP, sent by a thread of their own.

Whatever becomes of them holds nobody up: the queue is bounded, a span that finds it full is dropped, and one that the
receiver does not take is lost. Both are counted, and said once a minute. What is loaded here costs 0.3 s and is only
loaded by a service that traces (`tracing.py`).

Spans are made as the SDK hands them to its exporters, not by its tracer: that samples, checks and copies each
attribute, which costs ten times as much, and what is followed was decided long before.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from services.runtime.contexts import Context
from services.runtime.spans import ERROR, Attributes, Kind, Link

log = logging.getLogger(__name__)
Mask: TypeAlias = Callable[[Attributes], Attributes]
QUEUE = 4096  # spans that wait to be sent, some 3 kB each
DELAY_MS = 2000  # how long they gather: each post costs milliseconds
ANSWER_S = 5.0  # how long the receiver may take, tries together
END_S = 2.0
SAY_EVERY_S = 60.0
_KINDS = {"server": trace.SpanKind.SERVER, "producer": trace.SpanKind.PRODUCER, "consumer": trace.SpanKind.CONSUMER}


class Telemetry:
    """Makes the spans of one process and sends them to the OTLP endpoint `url`, such as http://127.0.0.1:4318.

    `mask` is given all attributes, and returns what may be sent of them.
    """

    def __init__(self, url: str, service: str, mask: Mask = dict, **resource: str) -> None:
        self._mask = mask
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # the count below says it once
        self._counted = _Counted(OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=ANSWER_S), url)
        named = {"service.name": service, "service.namespace": "thalweg"} | resource
        self._processor, self._ids = _Bounded(self._counted), RandomIdGenerator()
        self._of = {"resource": Resource.create(named), "instrumentation_scope": InstrumentationScope("thalweg")}

    @property
    def dropped(self) -> int:
        """How many spans were ended and not sent: the queue was full, or the receiver did not take them."""
        return self._processor.dropped + self._counted.failed

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: Context | None,
        attributes: Attributes,
        links: Sequence[Link] = (),
        began_ns: int | None = None,
    ) -> "Made":
        trace_id = parent.trace_id if parent else f"{self._ids.generate_trace_id():032x}"
        state = parent.state if parent else ""
        context = Context(trace_id, f"{self._ids.generate_span_id():016x}", state=state)
        about = {**self._of, "name": name, "kind": _KINDS[kind], "start_time": began_ns or time.time_ns()}
        about["links"] = [trace.Link(_sdk(other), self._mask(more)) for other, more in links]
        return Made(context, parent, about, dict(self._mask(attributes)), self)

    def note(self, made: "Made", attributes: Attributes) -> None:
        made.attributes.update(self._mask(attributes))

    def ended(self, span: ReadableSpan) -> None:
        self._processor.on_end(span)

    def close(self) -> None:
        ending = threading.Thread(target=self._processor.shutdown, name="telemetry", daemon=True)
        ending.start()
        ending.join(END_S)
        if self.dropped:
            log.warning("%d spans were dropped", self.dropped)


class Made:
    """A span that was begun. `about` is what is said of it besides its attributes, which may grow until it ends."""

    def __init__(
        self, context: Context, parent: Context | None, about: dict[str, Any], attributes: dict[str, Any], of: Telemetry
    ) -> None:
        self.context, self.attributes = context, attributes
        self._parent, self._about, self._of = parent, about, of

    def note(self, attributes: Attributes) -> None:
        self._of.note(self, attributes)

    def end(self, error: str | None = None) -> None:
        status = trace.Status(trace.StatusCode.UNSET)
        if error is not None:
            status = trace.Status(trace.StatusCode.ERROR, error)
            self.attributes[ERROR] = error.partition(":")[0]
        self._of.ended(
            ReadableSpan(
                context=_sdk(self.context),
                parent=None if self._parent is None else _sdk(self._parent),
                attributes=self.attributes,
                status=status,
                end_time=time.time_ns(),
                **self._about,
            )
        )


def _sdk(context: Context) -> trace.SpanContext:
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    state = trace.TraceState.from_header([context.state]) if context.state else None
    return trace.SpanContext(int(context.trace_id, 16), int(context.span_id, 16), True, flags, state)  # noqa: FBT003


class _Counted(SpanExporter):
    """An exporter that counts what it was given, and what it could not deliver."""

    def __init__(self, exporter: OTLPSpanExporter, url: str) -> None:
        self._exporter, self._url, self._said = exporter, url, float("-inf")
        self.taken = self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.failed += len(spans)
            self._say()
        return result

    def _say(self) -> None:
        if time.monotonic() > self._said + SAY_EVERY_S:
            self._said = time.monotonic()
            log.warning("%s does not take spans; %d are lost so far, and nothing else", self._url, self.failed)

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK's


class _Bounded(BatchSpanProcessor):
    """Keeps out what would not fit into the queue: the SDK's own would let go of what came first, and not count it."""

    def __init__(self, counted: _Counted) -> None:
        self._counted = counted
        self._given, self.dropped = 0, 0
        super().__init__(counted, max_queue_size=QUEUE, schedule_delay_millis=DELAY_MS)

    def on_end(self, span: ReadableSpan) -> None:
        if self._given - self._counted.taken >= QUEUE:
            self.dropped += 1
            return
        self._given += 1
        super().on_end(span)
