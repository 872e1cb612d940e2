"""A whole run for browsers to look at: flights were played, records were refused, an alert stands, more come."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
from confluent_kafka import Producer

from infra.local.ledger import Ledger
from infra.local.replayer import Replayer, records
from infra.local.stack import REPOSITORY, Options, Stack
from services.console.access import Tokens
from services.console.tokens import make_tokens, tokens_path
from services.runtime.alerts import Alert, Place
from services.runtime.history import read_all
from services.runtime.records import Record
from services.runtime.stream import Stream, load_stream

SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", REPOSITORY / ".run" / "screenshots"))
RECORDS = 26_000  # events and labels: drift wants 10,000 events before it compares
TRICKLE, TRICKLE_S = 5, 0.25
OFTEN = {'train_every = "7d"': 'train_every = "12h"'}  # a second version comes while one looks
BAD = {"event_id": "2013-12-31-XX-1-JFK", "origin": "JFK", "departure_delay_min": "late"}
WORSE = BAD | {"event_id": "2013-12-31-XX-2-JFK"}
PLACE = Place(1_357_600_000_000_000, "flights.scored", 0, 7)
ALERT = Alert("volume:JFK:0-7-0", 0, "raised", "volume", "JFK", "warning", PLACE, PLACE, "rate", 4.0, "there are few")


@dataclass
class Run:
    """The run. `newest` is the id of the event that was sent last before the trickle."""

    stack: Stack
    stream: Stream
    tokens: Tokens
    newest: str

    @property
    def address(self) -> str:
        return self.stack.console

    def read(self, kind: str) -> list[Record]:
        """Return all that a topic holds."""
        return [record for batch in read_all(self.stack.settings, self.stream.topic(kind)) for record in batch]

    def predicted(self) -> dict[str, dict[str, object]]:
        """Every prediction on the log, by its event's id."""
        found = [json.loads(one.value) for one in self.read("predictions")]
        return {one["event_id"]: one for one in found}


@contextmanager
def played(folder: Path) -> Iterator[Run]:
    schemas = _schemas(folder / "schemas")
    stream = load_stream(schemas, "flights")
    with Stack(Options("flights", run_dir=folder / "run"), stream, schemas) as stack:
        ledger = Ledger(stack.settings, stream)
        flights = records(schemas, "flights", None)
        sent = Replayer(stream, stack.ingestion, islice(flights, RECORDS), float("inf"), stack.check).run(ledger.check)
        wait(lambda: ledger.complete(sent), stack, 150)
        ledger.close()
        _say(stack, stream)
        tokens, _ = make_tokens(tokens_path(stack.data))
        with _trickling(Replayer(stream, stack.ingestion, flights, float("inf"), stack.check, most=TRICKLE)):
            yield Run(stack, stream, tokens, list(sent.events)[-1])


def _schemas(folder: Path) -> Path:
    """Return a copy of the streams, where versions are trained often."""
    shutil.copytree(REPOSITORY / "schemas", folder)
    file = folder / "flights" / "pipeline.toml"
    text = file.read_text()
    for usual, often in OFTEN.items():
        assert usual in text
        text = text.replace(usual, often)
    file.write_text(text)
    return folder


def _say(stack: Stack, stream: Stream) -> None:
    """Put on the log what the flights do not bring: records to be refused, and an alert."""
    producer = Producer({"bootstrap.servers": stack.broker.address})
    for bad in (BAD, WORSE):
        producer.produce(stream.topic("events"), json.dumps(bad).encode(), key=b"JFK")
    producer.produce(stream.topic("alerts"), msgspec.json.encode(ALERT), key=ALERT.key)
    assert producer.flush(10) == 0


@contextmanager
def _trickling(replayer: Replayer) -> Iterator[None]:
    """Have some more come all the while, so that there is life to look at."""
    over = threading.Event()

    def trickle() -> None:
        with suppress(Over):
            replayer.run(pause)

    def pause() -> None:
        if over.wait(TRICKLE_S):
            raise Over

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Over(Exception):  # noqa: N818 - an event
    """Enough was sent."""


def wait(condition: Callable[[], bool], stack: Stack, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        stack.check()
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.1)


def note(**figures: float) -> None:
    """Put what was measured beside the screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    file = SCREENSHOTS / "figures.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(before | figures, indent=2))
