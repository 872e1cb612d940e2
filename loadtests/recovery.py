"""How long readers of `features` wait when the service is restarted, killed, paused or shared out anew.

    .venv/bin/python loadtests/recovery.py [--rounds N] [--rate EVENTS]

Real `python -m services.features` processes on one node of Apache Kafka, which this script starts and stops; events go
in at a steady rate, and a reader of committed records notes when rows come out. A gap is the longest silence of any
partition. A kill is `kill -9` at a moment when a transaction is seen to be open. At the end every offset is counted.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.local import brokers
from infra.local.brokers import Broker, TopicSpec
from infra.local.processes import Children
from infra.local.replayer import records
from infra.local.stack import REPOSITORY
from services.runtime.errors import Retry
from services.runtime.kafka import Tail
from services.runtime.schemas import features_frame
from services.runtime.settings import Settings
from services.runtime.signing import make_keys
from services.runtime.stream import Stream, load_stream

SCHEMAS = REPOSITORY / "schemas"
PARTITIONS = 2
SESSION_S = 6.0
PLANNED_S = 2.0  # the bar for what is planned; a death may take the session timeout more
TICK_S = 0.02


class Feeder:
    """Sends real flights at a steady rate, to the partitions in turn, on a thread of its own."""

    def __init__(self, settings: Settings, rate: float) -> None:
        self.sent = [0] * PARTITIONS
        self._topic, self._rate = f"{settings.stream}.events", rate
        self._producer = Producer({"bootstrap.servers": settings.broker, "log_level": 0, "enable.idempotence": True})
        flights = (event for _, kind, event in records(SCHEMAS, settings.stream, 20_000) if kind == "event")
        self._flights = list(flights)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        start, n = time.monotonic(), 0
        while not self._ending.wait(TICK_S):
            for _ in range(int((time.monotonic() - start) * self._rate) - n):
                event = self._flights[n % len(self._flights)] | {"event_id": str(n)}
                value = msgspec.json.encode(event)
                self._producer.produce(self._topic, value, key=event["origin"], partition=n % PARTITIONS)
                self.sent[n % PARTITIONS] += 1
                n += 1
            self._producer.poll(0)
        assert self._producer.flush(30) == 0

    def end(self) -> None:
        self._ending.set()
        self._thread.join()


class Watcher:
    """Reads committed rows of `features` and notes when they came, and whether each offset came once and in order."""

    def __init__(self, settings: Settings, stream: Stream) -> None:
        self.next = [0] * PARTITIONS
        self.wrong: list[str] = []
        self._arrived: list[list[float]] = [[time.monotonic()] for _ in range(PARTITIONS)]
        self._frame, self._tail = features_frame(stream), Tail(settings, stream.topic("features"), from_beginning=True)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                found = self._tail.poll(500, TICK_S)
            except Retry:
                continue
            for record in found:
                self._note(record.partition, self._frame.decode(record).column("offset").to_pylist())
        self._tail.close()

    def _note(self, partition: int, offsets: list[int]) -> None:
        self._arrived[partition].append(time.monotonic())
        expected = list(range(self.next[partition], self.next[partition] + len(offsets)))
        if offsets != expected:
            self.wrong.append(f"partition {partition}: {offsets[0]}…{offsets[-1]} instead of {expected[0]}…")
        self.next[partition] = offsets[-1] + 1

    def gap(self, since: float) -> float:
        """Return the longest silence of any partition that ended after `since`."""
        pairs = chain.from_iterable(map(pairwise, self._arrived))
        return max((later - sooner for sooner, later in pairs if later > since), default=0.0)

    def flowing(self, since: float, for_s: float = 1.0) -> bool:
        """Whether rows of every partition have come again and again in the last `for_s` seconds, all after `since`."""
        now = time.monotonic()
        recent = [[at for at in times[-200:] if at > since] for times in self._arrived]
        return all(times and times[-1] - times[0] > for_s and now - times[-1] < for_s / 2 for times in recent)

    def end(self) -> None:
        self._ending.set()
        self._thread.join()


class Rig:
    """The feeder, the watcher, and the instances of the service that run on a broker."""

    def __init__(
        self, broker: Broker, home: Path, children: Children, rate: float, session_s: float = SESSION_S
    ) -> None:
        self.session_s, self._children = session_s, children
        self.stream = load_stream(SCHEMAS, "flights")
        topics = {"events": PARTITIONS, "features": PARTITIONS, "late": 1, "dead-letter": 1}
        brokers.create_topics(broker, {self.stream.topic(kind): TopicSpec(n) for kind, n in topics.items()})
        self.settings = Settings(broker=broker.address, data=home / "data")
        make_keys(home / "data" / "keys")
        self.left_open: list[bool] = []  # for each kill, whether a transaction was
        self._observers = [self._observer(level) for level in ("read_committed", "read_uncommitted")]
        self.watcher = Watcher(self.settings, self.stream)
        self.feeder = Feeder(self.settings, rate)

    def _observer(self, level: str) -> Consumer:
        quiet = {"bootstrap.servers": self.settings.broker, "log_level": 0}
        return Consumer({**quiet, "group.id": "observer", "isolation.level": level})

    def start(self, instance: str) -> None:
        """Start an instance and return once it has its share of the partitions."""
        environment = os.environ | {
            "THALWEG_BROKER": self.settings.broker,
            "THALWEG_DATA": str(self.settings.data),
            "THALWEG_INSTANCE": instance,
            "THALWEG_SESSION_TIMEOUT_MS": str(round(self.session_s * 1000)),
            "THALWEG_SNAPSHOT_EVERY_S": "2",
        }
        command = [sys.executable, "-m", "services.features"]
        child = self._children.start(instance, command, env=environment, cwd=REPOSITORY)
        self._wait(lambda: "assigned" in child.tail())

    def stop(self, instance: str) -> None:
        self._children[instance].stop()

    def restart(self, instance: str) -> None:
        self.stop(instance)
        self.start(instance)

    def kill(self, instance: str, *, again: bool = True) -> None:
        """Kill it at a moment when a transaction is open, and start it again; note whether one was left open."""
        deadline = time.monotonic() + 5
        while not self.transaction_open() and time.monotonic() < deadline:
            pass
        self._children[instance].kill()
        self.left_open.append(self.transaction_open())
        if again:
            self.start(instance)

    def pause(self, instance: str, seconds: float) -> None:
        self._children[instance].pause()
        time.sleep(seconds)
        self._children[instance].resume()

    def settle(self) -> None:
        """Return when rows of every partition have come for a second."""
        since = time.monotonic()
        self._wait(lambda: self.watcher.flowing(since))

    def _wait(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            self._children.check()
            assert time.monotonic() < deadline, f"rows have come up to {self.watcher.next} only"
            time.sleep(TICK_S)

    def transaction_open(self) -> bool:
        """Whether readers of committed records have to wait for something that is written already."""
        where = [TopicPartition(self.stream.topic("features"), partition) for partition in range(PARTITIONS)]
        committed, written = ([seen.get_watermark_offsets(at)[1] for at in where] for seen in self._observers)
        return bool(committed != written)

    def complete(self, timeout: float = 60.0) -> None:
        """Stop feeding, wait for the last row, and raise unless every event has one row."""
        self.feeder.end()
        deadline = time.monotonic() + timeout
        while self.watcher.next != self.feeder.sent and time.monotonic() < deadline:
            time.sleep(TICK_S)
        time.sleep(1)  # for what should not come
        self.watcher.end()
        assert not self.watcher.wrong, self.watcher.wrong
        assert self.watcher.next == self.feeder.sent, f"{self.watcher.next} of {self.feeder.sent}"


Step = tuple[str, float, Callable[[], object]]  # what is done to the service, the bar for its gap in seconds, and how


def round_of(rig: Rig) -> Iterator[Step]:
    """Yield step after step; instance 1 runs before and after."""
    dead = rig.session_s + PLANNED_S
    yield "restarted", PLANNED_S, lambda: rig.restart("1")
    yield "killed, started again", dead, lambda: rig.kill("1")
    yield "another joins", PLANNED_S, lambda: rig.start("2")
    yield "one of two paused", dead, lambda: rig.pause("2", rig.session_s + 1)
    yield "one of two killed", dead, lambda: rig.kill("2", again=False)
    rig.start("2")
    rig.settle()
    yield "one of two leaves", PLANNED_S, lambda: rig.stop("2")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=400, help="events a second (400)")
    given = parser.parse_args()
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)  # the broker goes before our clients
    gaps: dict[str, list[float]] = {}
    bars: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as home, Children(Path(home) / "logs") as children:
        broker = brokers.start("kafka", children, Path(home))
        brokers.wait_ready(broker, children)
        rig = Rig(broker, Path(home), children, given.rate)
        rig.start("1")
        rig.settle()
        for _ in range(given.rounds):
            for name, bar, act in round_of(rig):
                began = time.monotonic()
                act()
                rig.settle()
                gaps.setdefault(name, []).append(rig.watcher.gap(began))
                bars[name] = bar
        rig.complete()
        print(f"{sum(rig.feeder.sent)} events, each one row, in order; {sum(rig.left_open)} of {len(rig.left_open)}")
        print(f"kills left a transaction open. Gaps in seconds, session timeout {rig.session_s:g} s,")
        print(f"load average {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores (a start is a second of computing):")
    return report(gaps, bars)


def report(gaps: dict[str, list[float]], bars: dict[str, float]) -> int:
    """Print each kind's median and worst beside its bar; return 1 if a median is above its bar."""
    for name, found in gaps.items():
        print(f"  {name:<22} median {statistics.median(found):5.2f}  worst {max(found):5.2f}  bar {bars[name]:4.1f}")
    return int(any(statistics.median(found) > bars[name] for name, found in gaps.items()))


if __name__ == "__main__":
    sys.exit(main())
