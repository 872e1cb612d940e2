"""What a service's health says, as metrics: read when somebody asks."""

from collections.abc import Callable, Mapping, Sequence
from time import time as clock

from services.runtime.health import Health
from services.runtime.metrics import Found, Metrics
from services.runtime.settings import Settings

TOPIC = ("messaging_destination_name",)


def tell(health: Health, service: str, settings: Settings) -> None:
    """Have the process's metrics tell of its health."""
    told = health.metrics.told
    tell_who(health.metrics, service, settings)
    said = "1 if its partitions are restored and it waits for nothing."
    told("thalweg_ready", said, lambda: {(): float(health.report().ready)})
    said = "For how long it has waited for somebody, or has been stuck; 0 if it gets on."
    told("thalweg_waiting_seconds", said, lambda: {(): waited(health)})
    said = "Partitions that are this instance's."
    told("thalweg_assigned_partitions", said, lambda: {(): float(len(health.partitions or ()))})
    said = "Committed records that are still to be folded in silence."
    told("thalweg_restoring_records", said, lambda: {(): float(sum(health.report().restoring.values()))})
    said = "Records that are not read yet."
    told("thalweg_consumer_lag_records", said, lambda: by_topic(health.unread.records()), TOPIC)
    said = "Age of the oldest record that is not read yet; 0 if all are read."
    told("thalweg_consumer_lag_seconds", said, lambda: by_topic(health.unread.seconds()), TOPIC)


def tell_who(metrics: Metrics, service: str, settings: Settings) -> None:
    """Have them say whose they are."""
    who = (service, settings.instance, settings.stream)
    name, said = "thalweg_service_info", "What answers here; always 1."
    metrics.told(name, said, lambda: {who: 1.0}, ("service", "instance", "stream"))


def watermark(metrics: Metrics, newest: Callable[[], Sequence[int | None]]) -> None:
    """Have the delay of event time told; `newest` are the partitions' newest event times, in µs since 1970."""

    def read() -> Found:
        known = [time for time in newest() if time is not None]
        return {(): clock() - min(known) / 1e6} if known else {}

    name, said = "thalweg_watermark_delay_seconds", "How far behind now the newest event of the slowest partition lies."
    metrics.told(name, said, read)


def waited(health: Health) -> float:
    report = health.report()
    return report.since_s or 0.0 if report.status in ("waiting", "stuck") else 0.0


def by_topic(numbers: Mapping[str, float]) -> Found:
    return {(topic,): float(number) for topic, number in numbers.items()}
