"""Entry point of ingestion."""

import os
import signal

from services.ingestion.app import Door
from services.ingestion.broadcast import Broadcast
from services.ingestion.followed import Following, Unfollowed
from services.ingestion.producer import DurableProducer
from services.runtime.bodies import Bodies
from services.runtime.clock import SystemClock
from services.runtime.kafka import Tail
from services.runtime.metrics import Metrics
from services.runtime.process import run_service
from services.runtime.settings import Count, Seconds, Settings
from services.runtime.stream import load_stream
from services.runtime.tracing import open_spans, rule
from services.runtime.vitals import tell_who
from services.runtime.web import run

SERVICE = "ingestion"


class IngestionSettings(Settings, frozen=True):
    """`queue` bounds the records on their way to the broker, `max_body` a request's bytes and `room` all requests'."""

    host: str = "127.0.0.1"
    port: int = 8080
    queue: Count = 50_000
    max_body: Count = 8 << 20
    room: Count = 64 << 20
    patience_s: Seconds = 30.0  # how long a head, and a body, may take to arrive
    connections: Count = 500  # at once; one more is answered with 503


def main() -> None:
    settings = IngestionSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    producer = DurableProducer(settings, settings.queue)
    broadcast = Broadcast(lambda: Tail(settings, stream.topic("predictions"), from_beginning=False))
    bodies, metrics = Bodies(settings.max_body, settings.room, settings.patience_s), Metrics()
    metrics.of_process()
    tell_who(metrics, SERVICE, settings)
    spans = open_spans(SERVICE, settings, stream)
    following = Unfollowed() if spans is None else Following(spans, rule(settings), SystemClock())
    door = Door(stream, producer, broadcast, bodies, metrics, following)
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # uvicorn raises it again when it is done: that must not kill us
        signal.signal(number, lambda *_: None)
    try:
        run(door.app(), settings.host, settings.port, settings.connections, settings.patience_s)
    finally:
        producer.close()
        following.close()


if __name__ == "__main__":
    run_service(SERVICE, main)
