"""Kills, pauses, restarts and resizes a running stack under load, and proves that nothing was lost or doubled.

    .venv/bin/python loadtests/chaos.py --minutes 10 --seed 1 --broker kafka [--brokers 3] [--report FILE]

Every accepted event must have exactly one prediction and every accepted label exactly one example; features, scores
and the learner's model must be those of an undisturbed fold of the log. Prints what was injected, what was checked and
the violations; exits with 1 if there is one. It aims at this machine only and stops by itself.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from infra.chaos.faults import Fault, Faults
from infra.chaos.load import Load, endless
from infra.chaos.proof import Proof
from infra.chaos.watch import Watch
from infra.local.stack import REPOSITORY, Options, Stack
from infra.local.supervision import Supervisor
from services.runtime.stream import Stream, load_stream

SCHEMAS = REPOSITORY / "schemas"
DRAIN_S = 120.0  # without any progress for so long, what is missing is missing
SHOW_S = 10.0


def main() -> int:
    given = _arguments()
    stream = load_stream(SCHEMAS, given.stream)
    nodes = given.brokers or (3 if given.broker == "kafka" else 1)
    options = Options(stream.name, 3, given.broker, given.run_dir, fresh=True, brokers=nodes)
    print(f"starting {given.broker} x {nodes}, Triton and the services of {stream.name} …", flush=True)
    with Stack(options, stream, SCHEMAS) as stack:
        report = Chaos(stack, stream, given).run()
    _say(report)
    if given.report is not None:
        given.report.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return 1 if report["violations"] else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="chooses the faults")
    parser.add_argument("--broker", default="kafka", choices=["kafka"], help="guarantees hold on Apache Kafka")
    parser.add_argument("--brokers", type=int, choices=(1, 3), help="its nodes (3)")
    parser.add_argument("--stream", default="flights")
    parser.add_argument("--events", type=float, default=1000.0, help="events a second (1000)")
    parser.add_argument("--every", type=float, nargs=2, default=(4.0, 10.0), help="seconds from fault to fault (4 10)")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--run-dir", type=Path, default=REPOSITORY / ".run" / "chaos", help="data and logs")
    return parser.parse_args()


class Chaos:
    """One run: load and faults until the time is over, then peace, then the proof."""

    def __init__(self, stack: Stack, stream: Stream, given: argparse.Namespace) -> None:
        self._stack, self._stream, self._given = stack, stream, given
        self._supervisor = Supervisor(stack.children)
        self._load = Load(stream, stack.ingestion, endless(SCHEMAS, stream), given.events)
        self._watch = Watch(stack.settings, stream, lambda: len(self._load.accepted["event"]))
        self._faults = Faults(stack, given.seed, given.every)
        self._shown = time.monotonic()

    def run(self) -> dict[str, Any]:
        self._watch.start()
        self._load.start()
        while self._faults.elapsed < 60 * self._given.minutes:
            self._turn(self._faults.step())
        print("peace: everything heals, and what waits is worked off", flush=True)
        self._faults.heal()
        self._load.stop_soon()
        self._drain()
        self._watch.stop()
        return self._report()

    def _turn(self, fault: Fault | None = None) -> None:
        if fault is not None:
            print(f"{fault.at:6.1f} s  {fault.kind}: {fault.target}, for {fault.lasts} s", flush=True)
        self._supervisor.check()
        if self._load.error is not None:
            raise self._load.error
        if time.monotonic() - self._shown > SHOW_S:
            self._shown = time.monotonic()
            print(f"{self._faults.elapsed:6.1f} s  {self._progress()}", flush=True)
        time.sleep(0.05)

    def _progress(self) -> str:
        accepted = self._load.accepted
        return (
            f"{len(accepted['event'])} events accepted, {self._watch.predictions} predictions;"
            f" {len(accepted['label'])} labels accepted, {self._watch.examples} examples"
        )

    def _drain(self) -> None:
        """Wait until everything that was accepted is through, or nothing moves any more."""
        seen, since = (0, 0), time.monotonic()
        while not self._is_through() and time.monotonic() - since < DRAIN_S:
            now = (self._watch.predictions, self._watch.examples)
            if now != seen:
                seen, since = now, time.monotonic()
            self._turn()

    def _is_through(self) -> bool:
        accepted = self._load.accepted
        done = self._watch.predictions >= len(accepted["event"]) and self._watch.examples >= len(accepted["label"])
        return done and not self._load.is_alive()

    def _report(self) -> dict[str, Any]:
        print(f"proof over {self._progress()} …", flush=True)
        time.sleep(2 * self._stream.pipeline.online.snapshot_every.seconds)  # the last version is published
        proof = Proof(self._stack.settings, self._stream)
        proof.run(self._load.accepted["event"], self._load.accepted["label"])
        return {
            "seed": self._given.seed,
            "broker": {"kind": self._stack.broker.kind, "version": self._stack.broker.version},
            "faults": len(self._faults.injected),
            "faults_by_kind": self._faults.counts(),
            "events": len(self._load.accepted["event"]),
            "labels": len(self._load.accepted["label"]),
            "requests_sent_again": self._load.sent_again,
            "duplicates_refused": proof.duplicates_refused,
            "checked": dict(proof.checked),
            "model": proof.model,
            "longest_gap_s": round(self._watch.longest_s, 1),
            "longest_gap_at_s": round(self._faults.elapsed_at(self._watch.longest_until), 1),
            "violations": proof.violations,
            "what": proof.said,
            "injected": self._faults.injected,
        }


def _say(report: dict[str, Any]) -> None:
    print(f"\n{report['faults']} faults: {_listed(report['faults_by_kind'])}")
    print(
        f"{report['events']} events and {report['labels']} labels accepted;"
        f" {report['requests_sent_again']} requests sent again, {report['duplicates_refused']} duplicates refused;"
        f" longest gap {report['longest_gap_s']} s (up to {report['longest_gap_at_s']} s)"
    )
    print(f"checked: {_listed(report['checked'])}; model {report['model']}")
    for violation in report["what"]:
        print(f"  {violation}")
    print(f"violations: {report['violations']}")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())
