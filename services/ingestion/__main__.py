"""Entry point of ingestion."""

import logging
import os
import signal
from pathlib import Path

from services.ingestion.app import Door
from services.ingestion.broadcast import Broadcast
from services.ingestion.doorkeeper import expect_guarded, is_loopback
from services.ingestion.followed import Following, Unfollowed
from services.ingestion.key_file import KeyFile, keys_path
from services.ingestion.producer import DurableProducer
from services.ingestion.stands import open_core
from services.runtime.bodies import Bodies
from services.runtime.clock import SystemClock
from services.runtime.kafka import Tail
from services.runtime.metrics import Metrics
from services.runtime.process import run_service
from services.runtime.settings import Count, Seconds, Settings
from services.runtime.stream import load_stream
from services.runtime.tls import Tls, tls_of
from services.runtime.tracing import open_spans, rule
from services.runtime.vitals import tell_who
from services.runtime.web import run

log = logging.getLogger(__name__)
SERVICE = "ingestion"


class IngestionSettings(Settings, frozen=True):
    """`queue` bounds the records on their way to the broker, `max_body` a request's bytes and `room` all requests'.

    `keys` is the file of the API keys, `<data>/ingestion/keys.json` if empty. With a certificate, and its key, HTTPS
    is spoken.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    queue: Count = 50_000
    max_body: Count = 8 << 20
    room: Count = 64 << 20
    patience_s: Seconds = 30.0  # how long a head, and a body, may take to arrive
    connections: Count = 500  # at once; one more is answered with 503
    listeners: Count = 50  # of one producer at once; one more is answered with 429
    keys: str = ""
    tls_certificate: str = ""  # PEM, a chain with the server's own first
    tls_key: str = ""
    vault: Count = 10_000_000  # values that may have tokens


def main() -> None:
    settings = IngestionSettings.load(SERVICE, os.environ)
    keys, tls = _guarded(settings)
    stream = load_stream(settings.schemas, settings.stream)
    producer = DurableProducer(settings, settings.queue)
    broadcast = Broadcast(lambda: Tail(settings, stream.topic("predictions"), from_beginning=False))
    bodies, metrics = Bodies(settings.max_body, settings.room, settings.patience_s), Metrics()
    metrics.of_process()
    tell_who(metrics, SERVICE, settings)
    spans = open_spans(SERVICE, settings, stream)
    following = Unfollowed() if spans is None else Following(spans, rule(settings), SystemClock())
    core = open_core(stream, settings.data, settings.vault)
    door = Door(stream, producer, broadcast, bodies, metrics, keys, settings.listeners, following, core)
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # uvicorn raises it again when it is done: that must not kill us
        signal.signal(number, lambda *_: None)
    try:
        run(door.app(), settings.host, settings.port, settings.connections, settings.patience_s, tls)
    finally:
        producer.close()
        following.close()
        door.close()


def _guarded(settings: IngestionSettings) -> tuple[KeyFile, Tls | None]:
    """Return what guards the door; raise ConfigError if it would stand open to strangers."""
    keys = KeyFile(Path(settings.keys) if settings.keys else keys_path(settings.data))
    expect_guarded(settings.host, keys)
    tls = tls_of(settings.tls_certificate, settings.tls_key)
    if tls is None and not is_loopback(settings.host):
        log.warning("keys come in the clear: set THALWEG_INGESTION_TLS_CERTIFICATE and _KEY, or end TLS before this")
    return keys, tls


if __name__ == "__main__":
    run_service(SERVICE, main)
