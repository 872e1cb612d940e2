"""The demo: a whole run on recorded data, watched from outside, with a report of what an independent reader saw."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec

from infra.local.ledger import Ledger
from infra.local.lending import lent
from infra.local.progress import Progress
from infra.local.quality import Quality
from infra.local.repairs import Repairs, Told, line
from infra.local.replayer import Replayer, Sent, records, turned
from infra.local.stack import Options, Stack
from services.runtime.health import Report
from services.runtime.stream import Stream, load_stream

PROMPT = {"THALWEG_TRAINER_COMMIT_EVERY_S": "0.3", "THALWEG_TRAINER_NICENESS": "0"}  # weeks of events pass in seconds
TRAINING_S = 60.0  # a training is waited for no longer
LOOK_S = 0.2
STALL_S = 20.0  # without any progress for so long, what is missing is called missing


@dataclass(frozen=True)
class Demo:
    """What to play: `speed` is seconds of event time a second; None is the stream's own.

    After `flip_after` events labels are turned round, if it is given.
    """

    options: Options
    schemas: Path
    events: int | None
    speed: float | None
    report: Path | None
    keep: bool
    flip_after: int | None = None


def run(demo: Demo) -> bool:
    """Play it; return whether every event was predicted exactly once and nothing was refused."""
    stream = load_stream(demo.schemas, demo.options.stream)
    timed = records(demo.schemas, stream.name, demo.events)
    if demo.flip_after is not None:
        timed = turned(timed, stream, demo.flip_after)
    print(f"starting {demo.options.broker} broker, Triton and the services of {stream.name} …", flush=True)
    began = time.monotonic()
    options = replace(demo.options, settings=PROMPT)
    with Stack(options, stream, demo.schemas) as stack, lent(stack.keys, stream.name) as key:
        print(
            f"up in {time.monotonic() - began:.1f} s: broker {stack.broker.kind} {stack.broker.version}"
            f" at {stack.broker.address}, Triton {stack.triton.version}, ingestion at {stack.ingestion}\n"
            f"console: {stack.console_page}{stack.was_cleared}",
            flush=True,
        )
        ledger, repairs = Ledger(stack.settings, stream), Repairs(stack.settings, stream)
        try:
            speed = demo.speed or stream.pipeline.replay.speed
            replayer = Replayer(stream, stack.ingestion, timed, speed, stack.check, key=key, trusting=stack.trusting)
            trainings = Trainings(stack) if speed == math.inf else None
            progress = Progress(ledger, replayer.sent, demo.events, Told(repairs))
            sent = play(replayer, ledger, stack.check, progress, trainings)
            report = _report(stack, stream, ledger, sent, trainings.waited_s if trainings else 0.0)
            repairs.read()
            report |= {"flip_after": demo.flip_after, "alerts": list(repairs.found.values())}
        finally:
            ledger.close()
            repairs.close()
        _say(report, demo, stack)
        if demo.keep:
            _wait(stack)
    return _clean(report)


class Trainings:
    """Waits, as fast as events may be played, while a version is trained: in life hardly any come in those seconds.

    Played without a pause, a month of events would pass meanwhile. `waited_s` is for how long in all.
    """

    def __init__(self, stack: Stack) -> None:
        self._probe = next(url for name, url in stack.instances.probes.items() if name.startswith("trainer"))
        self._due = time.monotonic()
        self.waited_s = 0.0

    def wait(self, progress: Progress) -> None:
        if (began := time.monotonic()) < self._due:
            return
        self._due = began + LOOK_S
        if self._busy():
            progress.pause = "waits: a version is trained"
            while self._busy() and time.monotonic() - began < TRAINING_S:
                progress()
                time.sleep(LOOK_S / 4)
            progress.pause = "nothing new"
            lasted = time.monotonic() - began
            self.waited_s += lasted
            if lasted >= TRAINING_S:  # it may never end
                self._due = math.inf

    def _busy(self) -> bool:
        try:
            report = msgspec.json.decode(httpx.get(f"{self._probe}/healthz", timeout=1).content, type=Report)
        except (httpx.HTTPError, msgspec.DecodeError):
            return False
        return report.busy is not None


def play(
    replayer: Replayer, ledger: Ledger, check: Callable[[], None], progress: Progress, trainings: Trainings | None
) -> Sent:
    """Send everything, and wait until all that is to come of it has come, or nothing comes any more."""

    def between() -> None:
        progress()
        if trainings is not None:
            trainings.wait(progress)

    sent = replayer.run(between)
    seen, since = (0, 0), time.monotonic()
    while not ledger.complete(sent) and time.monotonic() - since < STALL_S:
        now = (len(ledger.arrived), len(ledger.examples))
        if now != seen:
            seen, since = now, time.monotonic()
        check()
        ledger.check()
        progress()
        time.sleep(0.05)
    progress.close()
    return sent


def _report(stack: Stack, stream: Stream, ledger: Ledger, sent: Sent, waited_s: float) -> dict[str, Any]:
    """Say what was seen; events a second are those of the time less `training_s`, when none were sent."""
    wall = max(ledger.arrived.values(), default=0.0) - min(sent.events.values(), default=0.0)
    return {
        "stream": stream.name,
        "feature_set": stream.feature_set,
        "broker": {"kind": stack.broker.kind, "version": stack.broker.version},
        "triton": {"version": stack.triton.version, "models": stack.triton.models},
        **ledger.counts(sent),
        "wall_s": round(wall, 3),
        "training_s": round(waited_s, 3),
        "throughput_eps": round(len(ledger.arrived) / (wall - waited_s), 1) if wall > waited_s else 0.0,
        "latency_ms": ledger.latencies_ms(sent),
        "quality": ledger.qualities(sent),
        "versions": ledger.versions(sent),
        "mixes": ledger.mixes(sent),
    }


def _clean(report: dict[str, Any]) -> bool:
    return not (report["missing"] or report["duplicates"] or report["dead_letters"])


def _say(report: dict[str, Any], demo: Demo, stack: Stack) -> None:
    if demo.report is not None:
        demo.report.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    print(
        f"\n{report['predictions']} predictions of {report['events_sent']} events: {report['missing']} missing,"
        f" {report['duplicates']} twice, {report['dead_letters']} dead letters, {report['late']} late;"
        f" {report['examples']} examples of {report['labels_sent']} labels"
    )
    latency = report["latency_ms"]
    print(
        f"{report['throughput_eps']:.0f} events/s; from sent to read by a consumer"
        f" p50 {latency.get('p50')} ms, p99 {latency.get('p99')} ms"
    )
    for model, found in report["quality"].items():
        print(f"  {model:<10}{_line(found)}")
    for version, found in report["versions"].items():
        print(f"  {version:<10}{_line(found)}  of the {found.n} that it scored")
    for version, parts in report["mixes"].items():
        losses = ", ".join(
            f"{model} {found.log_loss:.4f}" for model, found in parts.items() if found.log_loss is not None
        )
        print(f"  {parts['served'].n} labelled events served by {version} beside online, log loss: {losses}")
    for repair in report["alerts"]:
        print(f"  {line(repair)}")
    print(f"logs: {stack.folder / 'logs'}" + (f"; report: {demo.report}" if demo.report else ""))


def _line(found: Quality) -> str:
    if found.log_loss is None or found.accuracy is None:
        return "no labels"
    auc = "   -  " if found.roc_auc is None else f"{found.roc_auc:.4f}"
    return f"ROC AUC {auc}  log loss {found.log_loss:.4f}  accuracy {found.accuracy:.4f}"


def _wait(stack: Stack) -> None:
    print(f"still up: POST to {stack.ingestion}/v1/streams/{stack.stream.name}/events; Ctrl-C stops it", flush=True)
    while True:
        stack.check()
        time.sleep(0.5)
