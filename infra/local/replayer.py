"""Plays a stream's recorded data through the HTTP door, as its producers would: events and labels in order of time."""

import importlib.util
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import msgspec

from services.runtime.stream import Stream

SLICE = 1000  # records a request holds at most
TICK_S = 0.02
LATER = (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS)  # what is worth another try
PATIENCE_S = 60.0
Timed: TypeAlias = tuple[float, str, dict[str, Any]]  # seconds since 1970, "event" or "label", the record


class NoSource(RuntimeError):  # noqa: N818 - a state that the operator can change, as the message says
    """The stream has no data to replay."""


def records(schemas: Path, stream: str, events: int | None) -> Iterator[Timed]:
    """Return the stream's recorded data: its first `events` events and their labels, merged by time."""
    path = schemas / stream / "source.py"
    if not path.is_file():
        raise NoSource(
            f"{stream} ships no data to replay: {path} does not exist. Send events to it yourself (thalweg up)"
        )
    spec = importlib.util.spec_from_file_location(f"schemas.{stream}.source", path)
    if spec is None or spec.loader is None:
        raise NoSource(f"{path} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Iterator[Timed] = module.records(events)
    return found


def turned(timed: Iterator[Timed], stream: Stream, after: int) -> Iterator[Timed]:
    """Yield the same, but with the labels turned round of all events but the first `after`."""
    name, field, events, later = stream.pipeline.stream.id, stream.pipeline.label.field, 0, set[str]()
    for when, kind, record in timed:
        if kind == "event":
            events += 1
            if events > after:
                later.add(record[name])
        turn = kind == "label" and record[name] in later
        yield when, kind, record | {field: not record[field]} if turn else record


@dataclass
class Sent:
    """The ledger's half that the sender writes: what was sent, when, and what could be known at that moment."""

    events: dict[str, float] = field(default_factory=dict)  # id: when it was sent, monotonic seconds
    labels: dict[str, bool] = field(default_factory=dict)
    prior: dict[str, float] = field(default_factory=dict)  # id: the share of true labels known when it was sent
    no_change: dict[str, float] = field(default_factory=dict)  # id: the newest label known for its key, or 0.5
    times: dict[str, float] = field(default_factory=dict)  # id: event time
    newest_label: float = 0.0  # event time


class Replayer:
    """Sends slices of what is due, of `most` records each at most.

    `speed` is seconds of event time a second; infinite sends as fast as it is taken. `key` is for a door that asks for
    one, `trusting` for one that speaks TLS.
    """

    def __init__(
        self,
        stream: Stream,
        url: str,
        timed: Iterator[Timed],
        speed: float,
        check: Callable[[], None],
        most: int = SLICE,
        key: str | None = None,
        trusting: ssl.SSLContext | None = None,
    ) -> None:
        self._most = most
        self._stream, self._timed, self._speed, self._check = stream, timed, speed, check
        shown = {} if key is None else {"Authorization": f"Bearer {key}"}
        base, verify = f"{url}/v1/streams/{stream.name}", True if trusting is None else trusting
        self._client = httpx.Client(base_url=base, timeout=PATIENCE_S, headers=shown, verify=verify)
        self._key, self._id, self._label = stream.key, stream.pipeline.stream.id, stream.pipeline.label.field
        self._positives = 0
        self._newest_of_key: dict[str, float] = {}
        self.sent = Sent()

    def run(self, progress: Callable[[], None]) -> Sent:
        """Send everything; call `progress` between slices."""
        with self._client:
            for due in self._slices():
                self._send(due)
                self._check()
                progress()
        return self.sent

    def _slices(self) -> Iterator[list[Timed]]:
        if self._speed == float("inf"):
            while due := list(islice(self._timed, self._most)):
                yield due
            return
        first = next(self._timed)
        start, due = time.monotonic(), [first]
        for timed in self._timed:
            wait = start + (timed[0] - first[0]) / self._speed - time.monotonic()
            if len(due) >= self._most or (wait > 0 and due):
                yield due
                due = []
            while wait > 0:
                time.sleep(min(wait, TICK_S))
                wait = start + (timed[0] - first[0]) / self._speed - time.monotonic()
                if wait > TICK_S:
                    yield []
            due.append(timed)
        yield due

    def _send(self, due: list[Timed]) -> None:
        events = [record for _, kind, record in due if kind == "event"]
        labels = [record for _, kind, record in due if kind == "label"]
        for when, kind, record in due:
            if kind == "event":
                self._note_event(when, record)
            else:
                self._note_label(when, record)
        now = time.monotonic()
        self.sent.events.update((record[self._id], now) for record in events)
        self._post("events", events)
        self._post("labels", labels)

    def _note_event(self, when: float, event: dict[str, Any]) -> None:
        name, sent = event[self._id], self.sent
        sent.times[name] = when
        sent.prior[name] = (self._positives + 1) / (len(sent.labels) + 2)
        sent.no_change[name] = self._newest_of_key.get(event[self._key], 0.5)

    def _note_label(self, when: float, label: dict[str, Any]) -> None:
        value = bool(label[self._label])
        self.sent.labels[label[self._id]] = value
        self.sent.newest_label = max(self.sent.newest_label, when)
        self._positives += value
        self._newest_of_key[label[self._key]] = float(value)

    def _post(self, kind: str, batch: list[dict[str, Any]]) -> None:
        if not batch:
            return
        body = b"\n".join(map(msgspec.json.encode, batch))
        end = time.monotonic() + PATIENCE_S
        while True:
            answer = self._client.post(f"/{kind}", content=body, headers={"Content-Type": "application/x-ndjson"})
            if answer.status_code not in LATER or time.monotonic() > end:
                break
            self._check()
            time.sleep(float(answer.headers.get("Retry-After", 1)))
        answer.raise_for_status()
