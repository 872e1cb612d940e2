"""How far drift is behind while a whole Thalweg plays flights as fast as it can.

    .venv/bin/python loadtests/drift_lag.py [--events N] [--speed X]

Twice a second drift is asked how old the newest record was when it was folded, and how many are not folded yet. Exit
status 1 if either would be more than the bar's 2 s of it, or if drift could not be asked for that long.
"""

import argparse
import math
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import httpx

from infra.local.demo import PROMPT, Trainings, play
from infra.local.ledger import Ledger
from infra.local.progress import Progress
from infra.local.repairs import Repairs, Told
from infra.local.replayer import Replayer, records
from infra.local.stack import REPOSITORY, Options, Stack
from services.runtime.stream import load_stream

SCHEMAS = REPOSITORY / "schemas"
STREAM = "flights"
EVERY_S, BAR_S = 0.5, 2.0


class Watch(threading.Thread):
    """Asks until it is ended. `ages` holds seconds by kind of record; `silent_s` is the longest time without answer."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address, self._ended = address, threading.Event()
        self.ages: dict[str, list[float]] = {}
        self.records: list[int] = []
        self.silent_s = 0.0

    def run(self) -> None:
        heard = time.monotonic()
        while not self._ended.wait(EVERY_S):
            try:
                lag = httpx.get(f"{self._address}/drift/lag", timeout=BAR_S).json()
            except httpx.HTTPError:
                self.silent_s = max(self.silent_s, time.monotonic() - heard)
                continue
            self.silent_s, heard = max(self.silent_s, time.monotonic() - heard), time.monotonic()
            for kind, age in lag["seconds"].items():
                self.ages.setdefault(kind, []).append(age)
            self.records.append(sum((lag["records"] or {}).values()))

    def end(self) -> None:
        self._ended.set()
        self.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000, help="how many flights to play (60000)")
    parser.add_argument(
        "--speed", type=float, default=math.inf, help="seconds of event time a second (as fast as may be)"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thalweg-lag-") as folder:
        watch, rate = watched(Path(folder), given.events, given.speed)
    print(f"{given.events:,} flights, {rate:,.0f} events/s; drift asked {len(watch.records)} times")
    for kind, ages in sorted(watch.ages.items()):
        print(f"  {kind}: {statistics.median(ages):.2f} s old when folded (median), {max(ages):.2f} s at most")
    print(f"  at most {max(watch.records)} messages not folded; longest without an answer {watch.silent_s:.2f} s")
    met = max(max(ages) for ages in watch.ages.values()) < BAR_S and watch.silent_s < BAR_S
    print("the bar is met" if met else "the bar is missed")
    sys.exit(not met)


def watched(folder: Path, events: int, speed: float) -> tuple[Watch, float]:
    """Play it, and return what was seen, and events a second."""
    stream = load_stream(SCHEMAS, STREAM)
    options = replace(Options(stream=STREAM), run_dir=folder, settings=PROMPT)
    with Stack(options, stream, SCHEMAS) as stack:
        ledger, repairs = Ledger(stack.settings, stream), Repairs(stack.settings, stream)
        watch = Watch(stack.drift)
        watch.start()
        replayer = Replayer(stream, stack.ingestion, records(SCHEMAS, STREAM, events), speed, stack.check)
        began, trainings = time.monotonic(), Trainings(stack)
        progress = Progress(ledger, replayer.sent, events, Told(repairs))
        play(replayer, ledger, stack.check, progress, trainings)
        took = time.monotonic() - began - trainings.waited_s
        watch.end()
        ledger.close()
        repairs.close()
    return watch, events / took


if __name__ == "__main__":
    main()
