"""What ingestion counts: requests, how long they took, what was refused, and how long the log took to take the rest."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingestion.core import Rejected
from services.runtime.logs import trace_id
from services.runtime.metrics import SECONDS, Metrics
from services.runtime.records import Outgoing
from services.runtime.vitals import TOPIC
from services.runtime.work import SYSTEM

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
OTHER = "_OTHER"  # as the conventions call a method that is none of these; and a path that is no route of ours


class Meters:
    """The counts of one door. `queued` says how many records are on their way, `ready` whether the log takes more."""

    def __init__(self, metrics: Metrics, queued: Callable[[], int], ready: Callable[[], bool]) -> None:
        self.page = metrics.page
        name, said = "http_server_request_duration_seconds", "From a request's head to the end of its answer."
        labels = ("http_request_method", "http_route", "http_response_status_code")
        self._requests = metrics.histograms(name, said, SECONDS, labels)
        name, said = "messaging_client_sent_messages_total", "Records that are durable."
        self._sent = metrics.counter(name, said, (*SYSTEM, "messaging_operation_name", *TOPIC))
        name, said = "messaging_client_operation_duration_seconds", "How long the log took to take a request's records."
        self._took = metrics.histogram(name, said, SECONDS, {**SYSTEM, "messaging_operation_name": "send"})
        name, said = "thalweg_refused_lines_total", "Lines of requests that were refused."
        self._refused = metrics.counter(name, said, (*TOPIC, "reason"))
        name, said = "thalweg_refused_requests_total", "Requests that were refused as a whole."
        self._denied = metrics.counter(name, said, ("http_route", "reason"))
        told = metrics.told
        said = "Records that are on their way to the log."
        told("thalweg_queued_records", said, lambda: {(): float(queued())})
        said = "1 if the log takes records, as far as is known."
        told("thalweg_ready", said, lambda: {(): float(ready())})

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests(method, route, str(status)).observe(seconds, trace=trace_id())

    def sent(self, records: Sequence[Outgoing], seconds: float) -> None:
        """Count records that are durable now."""
        for topic, count in Counter(record.topic for record in records).items():
            self._sent.labels(*SYSTEM.values(), "send", topic).inc(count)
        self._took.observe(seconds, trace=trace_id())

    def refused(self, topic: str, lines: Iterable[Rejected]) -> None:
        for reason, count in Counter(line.reason for line in lines).items():
            self._refused.labels(topic, reason).inc(count)

    def denied(self, reason: str, route: str) -> None:
        """Count a request that was refused."""
        self._denied.labels(route, reason).inc()


def method_of(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in METHODS else OTHER


def route_of(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", OTHER)


class Measured:
    """An application whose requests are counted by their route; what it streams counts when that ends."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app, self._meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            if scope["type"] == "http":
                self._meters.answered(method_of(scope), route_of(scope), status, perf_counter() - began)
