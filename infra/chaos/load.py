"""A producer that never gives up: what was not acknowledged is sent again, the same bytes, until it is.

An answer that got lost makes the log hold some events twice, as it would for any producer that is careful.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import Any

import httpx
import msgspec

from infra.local.replayer import Timed, records
from services.runtime.stream import Stream

SLICE = 500  # records a request holds at most
TICK_S = 0.1
AGAIN_S = 0.2
ANSWER_S = 20.0
YEAR_S = 365 * 86_400


class Load(threading.Thread):
    """Sends `per_second` events a second, and their labels, until it is told to stop; `error` ends it early."""

    def __init__(self, stream: Stream, url: str, timed: Iterator[Timed], per_second: float) -> None:
        super().__init__(name="load", daemon=True)
        self._stream, self._timed, self._per_second = stream, timed, per_second
        self._client = httpx.Client(base_url=f"{url}/v1/streams/{stream.name}", timeout=ANSWER_S)
        self._stopping = threading.Event()
        self.accepted: dict[str, set[str]] = {"event": set(), "label": set()}
        self.sent_again = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._send_all()
        except Exception as error:  # noqa: BLE001 - carried to the thread that asks
            self.error = error
        self._client.close()

    def stop_soon(self) -> None:
        """Begin nothing new; it ends when everything that was begun is acknowledged."""
        self._stopping.set()

    def _send_all(self) -> None:
        began = time.monotonic()
        while not self._stopping.is_set():
            due = int((time.monotonic() - began) * self._per_second) - len(self.accepted["event"])
            if due <= 0:
                time.sleep(TICK_S)
            self._send(list(islice(self._timed, min(max(due, 0), SLICE))))

    def _send(self, due: list[Timed]) -> None:
        for kind in ("event", "label"):
            batch = [record for _, of, record in due if of == kind]
            if batch:
                self._post(f"{kind}s", b"\n".join(map(msgspec.json.encode, batch)))
                self.accepted[kind].update(record[self._stream.pipeline.stream.id] for record in batch)

    def _post(self, kind: str, body: bytes) -> None:
        while not self._acknowledged(kind, body):
            self.sent_again += 1
            time.sleep(AGAIN_S)

    def _acknowledged(self, kind: str, body: bytes) -> bool:
        try:
            answer = self._client.post(f"/{kind}", content=body, headers={"Content-Type": "application/x-ndjson"})
        except httpx.TransportError:
            return False
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return False
        if answer.status_code != httpx.codes.ACCEPTED or answer.json()["rejected"]:
            raise ValueError(f"good {kind} were refused: {answer.status_code} {answer.text[:500]}")
        return True


def endless(schemas: Path, stream: Stream) -> Iterator[Timed]:
    """Yield the stream's data year after year, each year's records under ids and at times of their own."""
    moved = {"event": _date_times(stream.sent("event")), "label": _date_times(stream.sent("label"))}
    for year in count():
        for when, kind, record in records(schemas, stream.name, None):
            yield when + year * YEAR_S, kind, _moved(record, stream.pipeline.stream.id, moved[kind], year)


def _date_times(schema: Mapping[str, Any]) -> list[str]:
    return [field for field, rule in schema["properties"].items() if rule.get("format") == "date-time"]


def _moved(record: Mapping[str, Any], name: str, fields: Iterable[str], years: int) -> dict[str, Any]:
    if not years:
        return dict(record)
    times = {field: f"{int(record[field][:4]) + years}{record[field][4:]}" for field in fields if record.get(field)}
    return {**record, **times, name: f"{record[name]}+{years}"}
