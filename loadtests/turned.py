"""Whether a model that turns bad after its promotion is rolled back, with nobody at the desk.

    .venv/bin/python loadtests/turned.py [--rate N] [--flips N] [--broker embedded|kafka]

A whole Thalweg plays flights, trains a version of the batch model by its own schedule, and promotes it. From the moment
at which a consumer has seen its predictions the labels of the next `flips` events are turned round: what was late is on
time. Counted are the labelled examples with such a label until the record that retires the champion. Then flights go on
for as long again. Exit status 1 if there is no promotion, the rollback comes after more examples than the bar, or any
accepted event has not exactly one prediction.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from infra.chaos.load import Load, endless
from infra.local.replayer import Timed
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.history import read_all
from services.runtime.models import BATCH, Moved, decode_event
from services.runtime.records import Record
from services.runtime.schemas import examples_frame
from services.runtime.stream import Stream, load_stream

Answer = TypeVar("Answer")
SCHEMAS = REPOSITORY / "schemas"
BAR = 1000
PATIENCE_S = 180.0


class Turning:
    """Flights whose labels are turned round, of so many events from when `turn` is called on."""

    def __init__(self, stream: Stream, flips: int) -> None:
        self._name, self._label = stream.pipeline.stream.id, stream.pipeline.label.field
        self._flights, self._left, self._flips = endless(SCHEMAS, stream), 0, flips
        self.turned: set[str] = set()

    def __iter__(self) -> Iterator[Timed]:
        for when, kind, record in self._flights:
            if kind == "event" and self._left:
                self._left -= 1
                self.turned.add(record[self._name])
            turned = kind == "label" and record[self._name] in self.turned
            yield when, kind, record | {self._label: not record[self._label]} if turned else record

    def turn(self) -> None:
        self._left = self._flips


class Watching:
    """Reads the log of a run: what was decided, what was predicted, what was labelled."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._stream = stack, stack.stream
        self._frame = examples_frame(stack.stream)

    def _records(self, kind: str) -> Iterator[Record]:
        return (record for batch in read_all(self._stack.settings, self._stream.topic(kind)) for record in batch)

    def moves(self) -> list[tuple[int, Moved]]:
        """Return each decision, and when it was written, in milliseconds since 1970."""
        events = ((record.timestamp, decode_event(record.value)) for record in self._records("models"))
        return [(at, event) for at, event in events if isinstance(event, Moved)]

    def champion(self) -> int | None:
        return next((moved.version for _, moved in self.moves() if moved.state == "champion"), None)

    def retired(self, version: int) -> tuple[int, Moved] | None:
        return next(((at, m) for at, m in self.moves() if (m.version, m.state) == (version, "retired")), None)

    def served(self, version: int) -> bool:
        name = f'"{BATCH}@{version}":'.encode()
        return any(name in record.value.partition(b'"weights"')[2] for record in self._records("predictions"))

    def labelled(self, names: set[str], until: int) -> int:
        """Return how many examples of these events were written until then."""
        found = (self._frame.decode(record) for record in self._records("examples") if record.timestamp <= until)
        return sum(name in names for batch in found for name in batch.column("event_id").to_pylist())

    def predicted(self) -> Counter[str]:
        return Counter(msgspec.json.decode(record.value)["event_id"] for record in self._records("predictions"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0, help="events a second")
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--broker", default="embedded")
    given = parser.parse_args()
    folder, stream = Path(tempfile.mkdtemp(prefix="thalweg-turned-")), load_stream(SCHEMAS, "flights")
    settings = {"THALWEG_TRAINER_COMMIT_EVERY_S": "1"}  # weeks of events pass in seconds
    options = Options(stream.name, broker=given.broker, run_dir=folder, settings=settings)
    try:
        with Stack(options, stream, SCHEMAS) as stack:
            met = _turn(stack, given.rate, given.flips)
    finally:
        shutil.rmtree(folder)
    sys.exit(not met)


def _turn(stack: Stack, rate: float, flips: int) -> bool:
    watching, flights = Watching(stack), Turning(stack.stream, flips)
    load = Load(stack.stream, stack.ingestion, iter(flights), rate)
    load.start()
    version = _wait(stack, load, watching.champion, "a promotion")
    _wait(stack, load, lambda: watching.served(version) or None, f"a prediction with {BATCH}@{version}")
    began = len(load.accepted["event"])
    print(f"{BATCH}@{version} serves after {began} events; the labels of the next {flips} are turned round", flush=True)
    flights.turn()
    at, moved = _wait(stack, load, lambda: watching.retired(version), "the rollback")
    bad = watching.labelled(flights.turned, at)
    print(f"rolled back by {moved.actor} after {bad} examples with such a label: {moved.reason}", flush=True)
    goal = began + 2 * flips
    _wait(stack, load, lambda: len(load.accepted["event"]) > goal or None, f"{goal} events")
    load.stop_soon()
    load.join()
    return _judge(stack, watching, load.accepted["event"], bad)


def _wait(stack: Stack, load: Load, ask: Callable[[], Answer | None], what: str) -> Answer:
    end = time.monotonic() + PATIENCE_S
    while (found := ask()) is None:
        stack.check()
        if load.error is not None:
            raise load.error
        if time.monotonic() > end:
            sys.exit(f"{what} did not come within {PATIENCE_S:.0f} s")
        time.sleep(0.3)
    return found


def _judge(stack: Stack, watching: Watching, accepted: set[str], bad: int) -> bool:
    end = time.monotonic() + PATIENCE_S
    while (found := watching.predicted()).keys() != accepted and time.monotonic() < end:
        stack.check()
        time.sleep(1)
    missing, twice = len(accepted - found.keys()), sum(times > 1 for times in found.values())
    print(f"{len(accepted)} events accepted: {missing} without a prediction, {twice} with two")
    met = bad <= BAR and not missing and not twice
    print(f"every bar is met ({BAR} examples, 0, 0)" if met else "a bar is missed")
    return met


if __name__ == "__main__":
    main()
