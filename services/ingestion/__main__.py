"""Entry point of ingestion."""

import os
import signal

import uvicorn

from services.ingestion.app import Door
from services.ingestion.broadcast import Broadcast
from services.ingestion.producer import DurableProducer
from services.runtime.kafka import Tail
from services.runtime.process import run_service
from services.runtime.settings import Settings
from services.runtime.stream import load_stream

SERVICE = "ingestion"


class IngestionSettings(Settings, frozen=True):
    """`queue` bounds the records on their way to the broker, `max_body` a request's bytes."""

    host: str = "127.0.0.1"
    port: int = 8080
    queue: int = 50_000
    max_body: int = 8 << 20


def main() -> None:
    settings = IngestionSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    producer = DurableProducer(settings, settings.queue)
    broadcast = Broadcast(lambda: Tail(settings, stream.topic("predictions"), from_beginning=False))
    door = Door(stream, producer, broadcast, settings.max_body)
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # uvicorn raises it again when it is done: that must not kill us
        signal.signal(number, lambda *_: None)
    try:
        uvicorn.run(
            door.app(),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
        )
    finally:
        producer.close()


if __name__ == "__main__":
    run_service(SERVICE, main)
