"""Entry point of the console."""

import os
import signal
import socket
from pathlib import Path

from services.console.access import Access
from services.console.acting import Acting
from services.console.acts import Acts
from services.console.app import make_app
from services.console.core import ConsoleCore
from services.console.finding import Finding
from services.console.letters import Letters
from services.console.looking import Looking
from services.console.meters import Meters
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
from services.runtime.clients import meet
from services.runtime.pii import open_masker
from services.runtime.process import run_service
from services.runtime.stream import TOPICS, load_stream
from services.runtime.tls import trust
from services.runtime.web import run


def main() -> None:
    settings = ConsoleSettings.load(SERVICE, os.environ)
    stream = load_stream(settings.schemas, settings.stream)
    tokens, _ = make_tokens(Path(settings.tokens) if settings.tokens else tokens_path(settings.data))
    meet(settings)
    masker = open_masker(stream, settings.data)
    picture = Picture(lambda: ConsoleCore(stream, masker.value))
    tailed = {
        "summaries": stream.topic("summaries"),
        "models": stream.topic("models"),
        "alerts": stream.topic("alerts"),
        "commands": stream.topic("commands"),
        "dead-letter": stream.topic("dead-letter"),
    }
    Tailing(settings, tailed, picture).start()
    kinds = {kind: f"{stream.name}.{kind}" for kind in TOPICS}
    Sampler(settings, kinds, kinds["predictions"], picture).start()
    trusting = trust("THALWEG_INGESTION_CA", settings.ingestion_ca)
    Prober(addresses(settings.services), picture, SERVICE, trusting).start()
    store = Store(settings.data / SERVICE / "spans.db", settings.store_mb << 20)
    bodies = Bodies(settings.max_body, settings.room, settings.patience_s)
    receiver = Receiver(bodies, store, picture, anywhere=settings.traces_from == "anywhere")
    sessions, letters = Sessions(Access(tokens), settings.port), Letters(stream, settings, masker)
    asked = {
        "predictions": stream.topic("predictions"),
        "scored": stream.topic("scored"),
        "labels": stream.topic("labels"),
    }
    finding = Finding(stream, settings, asked, picture, store, masker)
    acts = Acts(stream, settings, picture, letters, f"{SERVICE}@{socket.gethostname()}")
    looking = Looking(settings, sessions, picture, store, finding, letters)
    routes = [
        *receiver.routes(),
        *Meters(settings, store).routes(),
        *looking.routes(),
        *Acting(acts, sessions).routes(),
    ]
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again when it is done: that must not kill us
        signal.signal(number, lambda *_: None)
    try:
        run(make_app(routes, sessions), settings.host, settings.port, settings.connections, settings.patience_s)
    finally:
        store.close()


if __name__ == "__main__":
    run_service(SERVICE, main)
