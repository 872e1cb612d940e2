"""The trial of a stack in containers: recorded events through its door, faults meanwhile, and an independent ledger.

`python -m infra.compose.trial PROJECT EVENTS` plays the stream's first events at a stack that is up, kills three
containers, pauses one for longer than its session lasts, and ends with 0 if nothing was lost, doubled or refused and
every container is healthy again. Where Kafka has three nodes, one of them is killed for good.
"""

import logging
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.compose.engine import Project
from infra.compose.up import say, wait_well
from infra.images.first_key import FIRST
from infra.local.ledger import Ledger
from infra.local.progress import Progress
from infra.local.replayer import Replayer, Sent, records
from services.runtime.settings import Settings
from services.runtime.stream import load_stream

SCHEMAS = Path(__file__).parents[2] / "schemas"
PAUSED_S = 12.0  # a consumer's session lasts six: its group goes on without it, and it must be refused when it wakes
STALL_S = 120.0  # without any progress for so long, what is missing is called missing
SLICE = 500  # records a request holds: there is an instant for each fault


@dataclass
class Fault:
    """Something done to a container, and to its service's name, once so many events were sent."""

    after: int
    what: str
    service: str
    act: Callable[[str], None]


class Faults:
    """Does what is due; called between the slices that are sent."""

    def __init__(self, project: Project, events: int, sent: Callable[[], int], nodes: int = 1) -> None:
        self._project, self._sent = project, sent
        self._wakes: tuple[float, str] | None = None
        self.gone = {"kafka-2"} if nodes > 1 else set[str]()
        self._due = [
            Fault(events // 5, "killed", "features", project.kill),
            Fault(2 * events // 5, "killed", "inference", project.kill),
            Fault(3 * events // 5, "killed for good", "kafka-2", project.end)
            if self.gone
            else Fault(3 * events // 5, "killed", "kafka", project.kill),
            Fault(4 * events // 5, "paused", "labels", self._pause),
        ]

    def __call__(self) -> None:
        while self._due and self._sent() >= self._due[0].after:
            fault = self._due.pop(0)
            fault.act(fault.service)
            say(f"{fault.service} {fault.what} after {self._sent()} events")
        if self._wakes is not None and time.monotonic() > self._wakes[0]:
            self._project.unpause(self._wakes[1])
            say(f"{self._wakes[1]} goes on after {PAUSED_S:.0f} s")
            self._wakes = None

    def _pause(self, service: str) -> None:
        self._project.pause(service)
        self._wakes = time.monotonic() + PAUSED_S, service

    @property
    def over(self) -> bool:
        return not self._due and self._wakes is None


def main(project: Project, events: int) -> bool:
    """Run it; return whether all is well."""
    name, door = os.environ["STREAM"], f"http://127.0.0.1:{os.environ['INGESTION_PORT']}"
    settings = Settings(stream=name, broker=f"127.0.0.1:{os.environ['KAFKA_PORT']}")
    stream = load_stream(SCHEMAS, name)
    wait_well(project, time.sleep)
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)  # that its broker was killed is no news to the ledger
    ledger = Ledger(settings, stream, everything=True)
    try:
        faults = Faults(project, events, lambda: len(replayer.sent.events), int(os.environ["KAFKA_REPLICAS"]))
        key = project.read("ingestion", f"/data/ingestion/{FIRST}").strip()
        replayer = Replayer(stream, door, records(SCHEMAS, name, events), math.inf, ledger.check, SLICE, key)
        progress = Progress(ledger, replayer.sent, events)

        def between() -> None:
            faults()
            progress()

        sent = replayer.run(between)
        await_rest(ledger, sent, faults, between)
        progress.close()
    finally:
        ledger.close()
    wait_well(project, time.sleep, faults.gone)
    return report(project, ledger, sent)


def await_rest(ledger: Ledger, sent: Sent, faults: Faults, between: Callable[[], None]) -> None:
    """Return when all that is to come has come, or nothing comes any more."""
    seen, since = (0, 0), time.monotonic()
    while not (ledger.complete(sent) and faults.over) and time.monotonic() - since < STALL_S:
        now = (len(ledger.arrived), len(ledger.examples))
        if now != seen:
            seen, since = now, time.monotonic()
        ledger.check()
        between()
        time.sleep(0.1)


def report(project: Project, ledger: Ledger, sent: Sent) -> bool:
    """Say what the ledger saw, and return whether it is clean."""
    counts = ledger.counts(sent)
    twice = counts["examples"] - len(ledger.examples)
    unlabelled = len(sent.labels.keys() - ledger.examples.keys())
    say(
        f"{counts['predictions']} predictions of {counts['events_sent']} events: {counts['missing']} missing,"
        f" {counts['duplicates']} twice, {counts['dead_letters']} dead letters;"
        f" {len(ledger.examples)} examples of {counts['labels_sent']} labels: {unlabelled} missing, {twice} twice"
    )
    for model, found in ledger.qualities(sent).items():
        if found.log_loss is not None:
            say(f"  {model:<10} log loss {found.log_loss:.4f}")
    containers = project.containers()
    restarted = ", ".join(f"{name} {one.restarts}" for name, one in containers.items() if one.restarts)
    exposed = [name for name, one in containers.items() if not one.read_only or one.user.split(":")[0] in ("", "0")]
    say(f"started again by the engine: {restarted}; root, or with a root file system to write: {exposed or 'none'}")
    wrong = counts["missing"] + counts["duplicates"] + counts["dead_letters"] + unlabelled + twice
    return not wrong and not exposed


if __name__ == "__main__":
    sys.exit(not main(Project(sys.argv[1]), int(sys.argv[2])))
