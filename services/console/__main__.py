"""Entry point of the console."""

import os
import signal
from pathlib import Path

from services.console.access import Access
from services.console.app import Console
from services.console.core import ConsoleCore
from services.console.picture import Picture
from services.console.probing import Prober, addresses
from services.console.sampling import Sampler
from services.console.sessions import Sessions
from services.console.settings import SERVICE, ConsoleSettings
from services.console.spans import Receiver
from services.console.store import Store
from services.console.tailing import Tailing
from services.console.tokens import make_tokens, tokens_path
from services.runtime.bodies import Bodies
from services.runtime.process import run_service
from services.runtime.stream import TOPICS, load_stream
from services.runtime.web import run


def main() -> None:
    settings = ConsoleSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    tokens, _ = make_tokens(Path(settings.tokens) if settings.tokens else tokens_path(settings.data))
    picture = Picture(lambda: ConsoleCore(stream))
    tailed = {
        "summaries": stream.topic("summaries"),
        "models": stream.topic("models"),
        "alerts": stream.topic("alerts"),
        "commands": stream.topic("commands"),
        "dead-letter": stream.topic("dead-letter"),
    }
    Tailing(settings, tailed, picture).start()
    kinds = {kind: f"{stream.name}.{kind}" for kind in TOPICS}
    Sampler(settings, kinds, stream.topic("predictions"), picture).start()
    Prober(addresses(settings.services), picture, SERVICE).start()
    store = Store(settings.data / SERVICE / "spans.db", settings.store_mb << 20)
    bodies = Bodies(settings.max_body, settings.room, settings.patience_s)
    receiver = Receiver(bodies, store, picture, anywhere=settings.traces_from == "anywhere")
    console = Console(stream.name, picture, Sessions(Access(tokens), settings.port), store, receiver)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again when it is done: that must not kill us
        signal.signal(number, lambda *_: None)
    try:
        run(console.app(), settings.host, settings.port, settings.connections, settings.patience_s)
    finally:
        store.close()


if __name__ == "__main__":
    run_service(SERVICE, main)
