"""Drift killed again and again under load: in the end its alerts are those of one that was never killed, each once.

What it must have made is folded here from the log by the pure cores alone: of what is committed in `scored` and
`examples` the summaries, which must be there bit for bit, and of `summaries` the alerts. The load has transactions that
are aborted: on Apache Kafka nobody may see what they hold. On the embedded broker, which shows it, there are none.
"""

import os
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
from confluent_kafka import Producer

from infra.local import brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Child, Children
from infra.local.replayer import Timed, records
from infra.local.stack import REPOSITORY
from services.drift.core import DriftCore
from services.drift.hours import HOUR_S, KEPT
from services.drift.tables import REDUCERS
from services.features.core import FeaturesCore
from services.inference.core import InferenceCore
from services.inference.mix import Mix, Scores
from services.labels.core import LabelsCore
from services.runtime.alerts import Alert, decode_alert
from services.runtime.clients import client
from services.runtime.frames import micros
from services.runtime.history import read_all
from services.runtime.records import Outgoing, Record
from services.runtime.schemas import examples_frame, scored_frame
from services.runtime.settings import Settings
from services.runtime.stream import Stream, load_stream
from services.runtime.summaries import Source, decode_summary

SCHEMAS = REPOSITORY / "schemas"
PARTITIONS = 3
SLICE = 60  # events of a message
LONGEST_S = 12.0  # from a start to a kill: it may hit the start, the recovery, a fold, a write or a save
PATIENCE_S = 120.0
QUIET, CHANGED = 24_000, 5000  # events until the world changes first, and then again and again
ABORTED = 0.3  # of the transactions
READ = ("scored", "examples")


class Outcome(msgspec.Struct, frozen=True):
    """What was done and found; `violations` says in words what must not be."""

    kills: int
    rows: dict[str, int]
    summaries: int
    again: int  # summaries that are in the log more than once
    went_on: int  # starts that went on from a state, not from the beginning
    alerts: int
    done_s: float  # after the last kill, until all was made
    violations: list[str]


def run(folder: Path, events: int, kills: int, seed: int, broker: str, tell: Callable[[str], None]) -> Outcome:
    """Start a broker and drift; feed, kill, and look. Everything is stopped again."""
    stream = load_stream(SCHEMAS, "flights")
    sent = list(load(stream, events))
    with Children(folder / "logs") as children:
        started = brokers.start(broker, children, folder)
        brokers.wait_ready(started, children)
        topics = {stream.topic(kind): TopicSpec() for kind in ("examples", "summaries", "alerts", "commands")}
        brokers.create_topics(started, topics | {stream.topic("scored"): TopicSpec(PARTITIONS)})
        settings = Settings(broker=started.address, data=folder / "data")
        port, health = brokers.free_ports(2)
        environment = _environment(settings, port, health)
        child = children.start("drift", [sys.executable, "-m", "services.drift"], env=environment, cwd=REPOSITORY)
        feed = _Feed(started, sent, random.Random(seed), aborts=broker != "embedded")  # noqa: S311 - chaos, not secrets
        kill(child, feed, kills, random.Random(seed), tell)  # noqa: S311
        return _Found(stream, settings, child, f"http://127.0.0.1:{port}").outcome(kills)


def _environment(settings: Settings, port: int, health: int) -> dict[str, str]:
    ours = {"BROKER": settings.broker, "DATA": str(settings.data), "SESSION_TIMEOUT_MS": "2000"}
    ours |= {"DRIFT_PORT": str(port), "HEALTH_PORT": str(health), "DRIFT_SAVE_EVERY_S": "0.5"}
    return os.environ | {f"THALWEG_{name}": value for name, value in ours.items()}


# The load


def load(stream: Stream, events: int) -> Iterator[Outgoing]:
    """Yield the `scored` and `examples` of real flights, of which some thousands have lost their distance."""
    cores = [(FeaturesCore(stream, p), LabelsCore(stream, p)) for p in range(PARTITIONS)]
    inference, offsets = InferenceCore(stream), count()
    timed = records(SCHEMAS, stream.name, events)
    for part, due in enumerate(iter(lambda: list(islice(timed, SLICE)), [])):
        changed = part * SLICE >= QUIET and (part * SLICE - QUIET) // CHANGED % 2 == 0
        for p, (features, labels) in enumerate(cores):
            mine = [one for one in due if hash_of(one[2][stream.key]) == p]
            events_, told = (_read(stream, kind, mine, p, offsets, changed) for kind in ("event", "label"))
            batches = [out for out in features.fold(events_) if out.topic == stream.topic("features")]
            scored = [_scored(inference, p, out) for out in batches]
            yield from (Outgoing(r.topic, r.value, r.key, p, r.headers) for r in scored)
            made = labels.fold([*scored, *told])
            yield from (out for out in made if out.topic == stream.topic("examples"))


def hash_of(key: str) -> int:
    return sum(key.encode()) % PARTITIONS


def _read(
    stream: Stream,
    kind: str,
    due: Sequence[Timed],
    partition: int,
    offsets: Iterator[int],
    changed: bool,  # noqa: FBT001
) -> list[Record]:
    topic, found = stream.topic(f"{kind}s"), [record for _, of, record in due if of == kind]
    if changed and kind == "event":
        found = [one | {"distance_mi": 0} for one in found]
    return [
        Record(topic, partition, next(offsets), one[stream.key].encode(), msgspec.json.encode(one)) for one in found
    ]


def _scored(inference: InferenceCore, partition: int, out: Outgoing) -> Record:
    batch = inference.read([Record(out.topic, partition, 0, out.key, out.value, 0, out.headers)])
    *_, scored = inference.write(partition, batch, Mix(Scores(0, np.full(batch.num_rows, 0.2))))
    return Record(scored.topic, partition, 0, scored.key, scored.value, 0, scored.headers)


class _Feed:
    """Puts the load on the log in transactions, some of which are aborted and sent once more."""

    def __init__(self, broker: Broker, sent: Sequence[Outgoing], chosen: random.Random, *, aborts: bool) -> None:
        named = {"transactional.id": "feed", "transaction.timeout.ms": 20_000}
        self._producer = Producer(client(broker.settings, log_level=0, **named))
        self._producer.init_transactions(PATIENCE_S)
        self._left, self._chosen, self._aborts = list(sent), chosen, aborts

    @property
    def left(self) -> int:
        return len(self._left)

    def send(self, number: int) -> None:
        due, self._left = self._left[:number], self._left[number:]
        if self._aborts and self._chosen.random() < ABORTED:
            self._produce(due)
            self._producer.abort_transaction(PATIENCE_S)
        self._produce(due)
        self._producer.commit_transaction(PATIENCE_S)

    def _produce(self, due: Sequence[Outgoing]) -> None:
        self._producer.begin_transaction()
        for out in due:
            self._producer.produce(out.topic, out.value, out.key, partition=out.partition or 0, headers=out.headers)
        self._producer.flush(PATIENCE_S)


def kill(child: Child, feed: _Feed, kills: int, chosen: random.Random, tell: Callable[[str], None]) -> None:
    """Send without a break, and meanwhile kill and start again."""
    share = -(-feed.left // (10 * kills or 1))
    for number in range(kills):
        wait = chosen.uniform(0.3, LONGEST_S)
        end = time.monotonic() + wait
        parts = 0
        while time.monotonic() < end or parts < 10:  # noqa: PLR2004 - the parts of a share
            if parts < 10:  # noqa: PLR2004
                feed.send(share)
                parts += 1
            time.sleep(max(0.0, min(wait / 10, end - time.monotonic())))
        child.kill()
        tell(f"kill {number + 1} of {kills}, {wait:.1f} s after a start; {feed.left} messages to be sent")
        child.restart()
    feed.send(feed.left)


# What is found


class _Found:
    """What is in the log and in the tables, and what has to be."""

    def __init__(self, stream: Stream, settings: Settings, child: Child, views: str) -> None:
        self._stream, self._settings, self._child, self._views = stream, settings, child, views
        self._violations: list[str] = []
        self._rows: Counter[str] = Counter()
        self._hours: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def outcome(self, kills: int) -> Outcome:
        began = time.monotonic()
        expected = self._expected()
        self._wait(lambda: self._view("core")[0]["summaries"] == len(expected))
        done_s = time.monotonic() - began
        time.sleep(2)  # what is too many would come now
        log = [record.value for batch in read_all(self._settings, self._topic("summaries")) for record in batch]
        again = self._judge_summaries(log, expected)
        alerts = self._judge_alerts(log)
        self._judge_hours()
        told = self._child.log.read_text()
        went_on = len(re.findall(r"goes on from \w+\[", told))
        rows = dict(self._rows)
        return Outcome(kills, rows, len(expected), again, went_on, alerts, round(done_s, 1), self._violations)

    def _topic(self, kind: str) -> str:
        return self._stream.topic(kind)

    def _expected(self) -> dict[tuple[str, int, int], bytes]:
        """Fold what is committed, undisturbed; count its rows, and its hours."""
        frames = {"scored": scored_frame(self._stream), "examples": examples_frame(self._stream)}
        found: dict[tuple[str, int, int], bytes] = {}
        for kind in READ:
            reducers = {p: REDUCERS[kind](self._stream, p) for p in range(PARTITIONS)}
            for batch in read_all(self._settings, self._topic(kind)):
                for record in batch:
                    times = micros(frames[kind].decode(record).column("event_time"))
                    self._rows[kind] += len(times)
                    self._hours[kind].update(str(hour * HOUR_S) for hour in (times // (HOUR_S * 1_000_000)).tolist())
                    made = reducers[record.partition].fold(record)
                    found |= {place(summary): summary for summary in made}
        return found

    def _judge_summaries(self, log: Sequence[bytes], expected: dict[tuple[str, int, int], bytes]) -> int:
        found: dict[tuple[str, int, int], bytes] = {}
        for summary in log:
            if found.setdefault(place(summary), summary) != summary:
                self._violations.append(f"two different summaries of {place(summary)}")
        if found != expected:
            wrong = sorted({*found} ^ {*expected}) or [
                where for where, made in found.items() if made != expected[where]
            ]
            self._violations.append(f"{len(found)} summaries for {len(expected)}; differ: {wrong[:5]}")
        return len(log) - len(found)

    def _judge_alerts(self, log: Sequence[bytes]) -> int:
        core = DriftCore(self._stream)
        expected = [alert for summary in log for alert in core.fold(summary)]
        values = [record.value for batch in read_all(self._settings, self._topic("alerts")) for record in batch]
        found = [decode_alert(value) for value in values]
        if found != expected:
            self._violations.append(differ(found, expected))
        return len(found)

    def _judge_hours(self) -> None:
        for kind, told in self._view("hours").items():
            oldest = max(map(int, self._hours[kind])) - (KEPT - 1) * HOUR_S
            expected = {hour: n for hour, n in self._hours[kind].items() if int(hour) >= oldest}
            wrong = {hour: (n, told.get(hour, 0)) for hour, n in expected.items() if told.get(hour, 0) != n}
            if wrong or not told.keys() <= expected.keys():
                self._violations.append(f"hours of {kind} have other rows than were sent: {wrong}")

    def _view(self, part: str) -> Any:  # noqa: ANN401 - JSON
        return httpx.get(f"{self._views}/drift/{part}", timeout=10).json()

    def _wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not _holds(condition):
            if time.monotonic() > end:
                self._violations.append(f"not done {PATIENCE_S:.0f} s after the last kill: {self._child.tail()}")
                return
            time.sleep(0.3)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (httpx.HTTPError, IndexError):  # it starts
        return False


def place(summary: bytes) -> tuple[str, int, int]:
    source: Source = decode_summary(summary).source
    return source.topic, source.partition, source.number


def _named(alerts: Sequence[Alert]) -> list[str]:
    return [f"{alert.id}/{alert.number}" for alert in alerts]


def differ(found: Sequence[Alert], expected: Sequence[Alert]) -> str:
    """Say in what alerts are not what they have to be: those that are too many, missing, or told otherwise."""
    many, lacking = (
        Counter(_named(found)) - Counter(_named(expected)),
        Counter(_named(expected)) - Counter(_named(found)),
    )
    other = [f"{one} for {two}" for one, two in zip(found, expected, strict=False) if one != two]
    return f"alerts: too many {dict(many)}, missing {dict(lacking)}, first that differs: {other[:1]}"
