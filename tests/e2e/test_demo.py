"""The installed command, run as a person runs it: what it reports, what it survives, and what it leaves behind."""

import base64
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from infra.local.stack import SERVICES, Running, read_running
from services.runtime.history import read_all
from services.runtime.records import Record
from services.runtime.settings import Settings
from services.runtime.stream import TOPICS
from tests.kept import HEARS_SIGINT, THALWEG

ROOT = Path(__file__).parents[2]
PARTS = {"tansu", "triton", *SERVICES}
QUALITY = {"n", "roc_auc", "log_loss", "accuracy"}
EVENT = {
    "event_id": "2014-01-01-AA-1-JFK",
    "origin": "JFK",
    "dest": "MIA",
    "carrier": "AA",
    "flight": 1,
    "tailnum": None,
    "scheduled_at": "2014-01-01T10:40:00Z",
    "departed_at": "2014-01-01T10:42:00Z",
    "departure_delay_min": 2.0,
    "distance_mi": 1089.0,
}


class Launcher:
    """A command in a folder of its own. The folder's name is in its environment, and so in that of all it starts."""

    def __init__(self, folder: Path) -> None:
        self.run_dir, self.output = folder / "run", folder / "output.txt"
        self.environment = {**os.environ, "RUN_UNDER_TEST": str(folder)}
        self._mark = f"RUN_UNDER_TEST={folder}".encode()
        self.process: subprocess.Popen[bytes] | None = None

    def argv(self, command: str, *arguments: str | Path) -> list[str]:
        return [str(THALWEG), command, *map(str, arguments), "--run-dir", str(self.run_dir)]

    def start(self, command: str, *arguments: str | Path) -> None:
        argv = [sys.executable, "-c", HEARS_SIGINT, *self.argv(command, *arguments)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                argv, stdout=output, stderr=subprocess.STDOUT, env=self.environment, start_new_session=True
            )

    def run(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run another command to its end, beside the one that was started."""
        argv = self.argv(command, *arguments)
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_said(self, pattern: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.said):
            assert self.process is not None
            assert self.process.poll() is None, f"it ended with {self.process.poll()}:\n{self.said}"
            assert time.monotonic() < end, f"no {pattern!r} within {seconds:g} s:\n{self.said}"
            time.sleep(0.05)

    def ended(self, seconds: float) -> int:
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {seconds:g} s:\n{self.said}")

    def processes(self) -> dict[int, str]:
        """Return what runs in this folder's name, wherever it was started from: process id and command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def assert_nothing_left(self) -> None:
        """Nothing runs, and nothing says that it does; Triton's stub may take a moment to see that its server ended."""
        end = time.monotonic() + 2
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.05)
        assert left == {}
        assert read_running(self.run_dir, "flights") is None
        assert not (self.run_dir / "flights" / "running.json").exists()


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    for pid in launcher.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if launcher.process is not None:
        launcher.process.wait(10)


def test_a_demo_predicts_every_event_once_learns_every_label_and_leaves_nothing(launcher: Launcher) -> None:
    """`thalweg demo`: exit 0, a whole report, no event missing or twice, each label an example, nothing left."""
    report_file = launcher.output.with_name("report.json")
    launcher.start("demo", "--events", "3000", "--speed", "max", "--report", report_file)
    launcher.wait_said(r"up in [\d.]+ s: broker embedded", 60)
    running = " ".join(launcher.processes().values())
    assert {part for part in PARTS if re.search(rf"services\.{part}\b|/{part}\b|{part}server", running)} == PARTS
    assert launcher.ended(60) == 0, launcher.said
    launcher.assert_nothing_left()
    report = json.loads(report_file.read_text())
    check_shape(report)
    assert report["events_sent"] == report["predictions"] == 3000
    assert (report["missing"], report["duplicates"], report["dead_letters"], report["late"]) == (0, 0, 0, 0)
    assert report["labels_sent"] == report["examples"] > 2900
    assert report["waiting_for_label"] + report["timed_out"] == 3000 - report["examples"]
    qualities = report["quality"]
    assert {found["n"] for found in qualities.values()} == {report["labels_sent"]}
    assert qualities["served"] == qualities["online"]
    for found in qualities.values():
        assert math.isfinite(found["log_loss"])
        assert 0 <= found["accuracy"] <= 1
        assert 0 <= found["roc_auc"] <= 1
    assert "3000 predictions of 3000 events: 0 missing, 0 twice, 0 dead letters" in launcher.said
    assert "Traceback" not in launcher.said


def check_shape(report: dict[str, Any]) -> None:
    """Every field that a reader of the report may count on."""
    counts = {"events_sent", "predictions", "missing", "duplicates", "labels_sent", "examples", "waiting_for_label"}
    counts |= {"timed_out", "late", "dead_letters"}
    parts = {
        "stream",
        "feature_set",
        "broker",
        "triton",
        "wall_s",
        "training_s",
        "throughput_eps",
        "latency_ms",
        "quality",
        "mixes",
        "versions",
        "alerts",
        "flip_after",
    }
    assert set(report) == counts | parts
    assert all(type(report[name]) is int and report[name] >= 0 for name in counts)
    assert report["flip_after"] is None
    assert isinstance(report["alerts"], list)
    assert report["stream"] == "flights"
    assert report["feature_set"].startswith("flights:")
    assert report["broker"].keys() == {"kind", "version"}
    assert report["broker"]["kind"] == "embedded"
    assert report["triton"].keys() == {"version", "models"}
    assert report["triton"]["models"] == ["flights_batch", "flights_online"]
    for version in (report["broker"]["version"], report["triton"]["version"]):
        assert re.match(r"\d+\.\d+", version)
    assert report["throughput_eps"] == pytest.approx(
        report["predictions"] / (report["wall_s"] - report["training_s"]), rel=0.01
    )
    latency = report["latency_ms"]
    assert list(latency) == ["p50", "p95", "p99", "max"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert set(report["quality"]) == {"served", "online", "prior", "no_change"}
    assert all(found.keys() == QUALITY for found in report["quality"].values())


class Run:
    """What a client of a run sees: its log, its door."""

    def __init__(self, running: Running) -> None:
        self.broker, self.ingestion = running.broker, running.ingestion
        self.settings = Settings(broker=running.broker)

    def log(self, kind: str) -> list[Record]:
        return [record for batch in read_all(self.settings, f"flights.{kind}") for record in batch]

    def wait(self, kind: str, wanted: Callable[[Record], bool], seconds: float = 15) -> Record:
        end = time.monotonic() + seconds
        while not (found := [record for record in self.log(kind) if wanted(record)]):
            assert time.monotonic() < end, f"it did not come to {kind}"
            time.sleep(0.1)
        assert len(found) == 1, found
        return found[0]

    def produce(self, kind: str, value: bytes, key: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.broker, "log_level": 0, "partitioner": "murmur2_random"})
        producer.produce(f"flights.{kind}", value, key)
        assert producer.flush(10) == 0

    def post(self, kind: str, body: dict[str, Any]) -> int:
        return httpx.post(f"{self.ingestion}/v1/streams/flights/{kind}", json=body, timeout=10).status_code


def test_a_run_that_stays_up_verifies_outlives_bad_records_and_names_a_death(launcher: Launcher) -> None:
    """`--keep`: verify agrees before and after a bad record, which is kept whole; a killed part ends it by name."""
    launcher.start("demo", "--events", "500", "--speed", "max", "--keep")
    launcher.wait_said(r"still up: POST to", 60)
    running = read_running(launcher.run_dir, "flights")
    assert running is not None
    assert launcher.process is not None
    assert running.pid == launcher.process.pid
    run = Run(running)
    topics_are_there(run)
    verify_says_the_same(launcher, 500, refused=0)
    refuses_a_second_run(launcher)
    a_bad_record_is_kept_and_the_stream_goes_on(run)
    verify_says_the_same(launcher, 501, refused=1)
    a_killed_part_ends_the_run(launcher)


def topics_are_there(run: Run) -> None:
    """Expect every topic that the services name."""
    with AdminClient({"bootstrap.servers": run.broker, "log_level": 0}) as client:
        assert {f"flights.{topic}" for topic in TOPICS} <= set(client.list_topics(timeout=10).topics)


def verify_says_the_same(launcher: Launcher, rows: int, refused: int) -> None:
    """`thalweg verify` compares every partition, all rows and predictions of it, and exits with 0."""
    done = launcher.run("verify", "--stream", "flights")
    assert done.returncode == 0, done.stdout + done.stderr
    line = r"(\d+) rows of features and (\d+) predictions compared, 0 late, (\d+) refused: the same"
    found = [tuple(map(int, counts)) for counts in re.findall(line, done.stdout)]
    assert len(found) == 3
    assert [sum(column) for column in zip(*found, strict=True)] == [rows, rows, refused]


def refuses_a_second_run(launcher: Launcher) -> None:
    """Expect a second run in the same folder to be refused by name, and to cost the first nothing."""
    done = launcher.run("up", "--stream", "flights")
    assert done.returncode == 1
    assert "flights is up already" in done.stderr
    assert read_running(launcher.run_dir, "flights") is not None


def a_bad_record_is_kept_and_the_stream_goes_on(run: Run) -> None:
    """Expect what is no event to become a dead letter with its bytes and place, and the next event to be served."""
    bad = b'\xff{"event_id": "broken", \n'
    run.produce("events", bad, b"JFK")
    place = run.wait("events", lambda record: record.value == bad)
    letter = json.loads(run.wait("dead-letter", lambda _: True).value)
    assert (letter["service"], letter["reason"]) == ("features", "json")
    assert (letter["topic"], letter["partition"], letter["offset"]) == (place.topic, place.partition, place.offset)
    assert (base64.b64decode(letter["key"]), base64.b64decode(letter["value"])) == (b"JFK", bad)
    assert run.post("events", EVENT) == 202
    name = EVENT["event_id"]
    served = run.wait("predictions", lambda record: json.loads(record.value)["event_id"] == name)
    prediction = json.loads(served.value)
    assert served.key == b"JFK"
    assert prediction["source"] == {"partition": place.partition, "offset": place.offset + 1}
    assert 0 <= prediction["prediction"]["late"] <= 1
    label = {"event_id": name, "origin": "JFK", "landed_at": "2014-01-01T14:00:00Z", "arrival_delay_min": 0.0}
    assert run.post("labels", {**label, "late": False}) == 202


def a_killed_part_ends_the_run(launcher: Launcher) -> None:
    """Kill -9 a part: the launcher ends with 1, names it, its exit code and last log lines, and leaves nothing."""
    [labels] = [pid for pid, command in launcher.processes().items() if "services.labels" in command]
    os.kill(labels, signal.SIGKILL)
    assert launcher.ended(20) == 1, launcher.said
    assert re.search(r"labels exited with code -9; \S+/logs/labels\.log ends:\n.*labels INFO ", launcher.said)
    assert "Traceback" not in launcher.said
    launcher.assert_nothing_left()


def test_up_names_what_died_and_starts_it_again(launcher: Launcher) -> None:
    """`thalweg up`: a service that is killed with -9 is named, comes back, and predicts what waited for it.

    `thalweg doctor` finds nothing wrong with such a run, and names a service that is frozen.
    """
    launcher.start("up", "--stream", "flights")
    launcher.wait_said(r"flights is up", 60)
    running = read_running(launcher.run_dir, "flights")
    assert running is not None
    [features] = [pid for pid, command in launcher.processes().items() if "services.features" in command]
    os.kill(features, signal.SIGKILL)
    run = Run(running)
    assert run.post("events", EVENT) == 202
    launcher.wait_said(r"features exited with code -9; (.|\n)*features starts again in 0\.5 s, death 1 of 5", 20)
    served = run.wait("predictions", lambda _: True)
    assert json.loads(served.value)["event_id"] == EVENT["event_id"]
    found = launcher.run("doctor")
    assert (found.returncode, "flights is up" in found.stdout, "triton ready" in found.stdout) == (0, True, True), found
    [labels] = [pid for pid, command in launcher.processes().items() if "services.labels" in command]
    os.kill(labels, signal.SIGSTOP)
    found = launcher.run("doctor")
    os.kill(labels, signal.SIGCONT)
    assert (found.returncode, "WRONG    labels does not answer" in found.stdout) == (1, True), found
    assert launcher.process is not None
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.ended(15) == 130, launcher.said
    launcher.assert_nothing_left()


@pytest.mark.parametrize("moment", ["while it starts", "while it runs"])
def test_ctrl_c_ends_it_at_any_moment(launcher: Launcher, moment: str) -> None:
    """SIGINT: exit 130 within 15 seconds, whatever it was doing, and nothing is left."""
    launcher.start("demo", "--events", "20000")
    if moment == "while it starts":
        launcher.wait_said(r"starting embedded broker", 20)
        end = time.monotonic() + 20
        while not any("services.learner" in command for command in launcher.processes().values()):
            assert time.monotonic() < end
            time.sleep(0.05)
    else:
        launcher.wait_said(r"events [1-9]\d*/20000", 60)
    assert launcher.process is not None
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.ended(15) == 130, launcher.said
    assert launcher.said.endswith("stopped\n")
    assert "Traceback" not in launcher.said
    launcher.assert_nothing_left()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["demo", "--stream", "tides"], 1, r"no stream 'tides': .*Streams here: .*'flights'"),
        (["demo", "--broker", "rabbit"], 1, r"a broker is 'embedded', 'kafka' or HOST:PORT"),
        (["demo", "--brokers", "3"], 1, r"--brokers 3 needs --broker kafka; embedded is"),
        (["up", "--broker", "kafka", "--brokers", "2"], 2, r"--brokers: invalid choice: 2 \(choose from 1, 3\)"),
        (["up", "--instances", "features=2,tides=2"], 1, r"no service 'tides' .*; there are ingestion, features"),
        (["up", "--instances", "features"], 1, r"takes SERVICE=N, .* not 'features'"),
        (["up", "--instances", "ingestion=2"], 1, r"ingestion owns the HTTP port"),
        (["demo", "--events", "none"], 2, r"expected a number from 1, got 'none'"),
        (["demo", "--speed", "-1"], 2, r"expected a number above 0 or 'max', got '-1'"),
        (["verify"], 1, r"no run of flights is up here"),
        (["verify", "--from", "tuesday"], 2, r"expected a time such as 2013-01-05T14:00:00Z, got 'tuesday'"),
        (["verify", "--to", "2013-01-05T14:00:00"], 2, r"expected a zone, as in 2013-01-05T14:00:00Z"),
        ([], 2, r"COMMAND"),
    ],
)
def test_what_it_cannot_do_it_says(launcher: Launcher, arguments: list[str], status: int, message: str) -> None:
    """A mistake on the command line is a message and a status, and nothing is left running."""
    argv = launcher.argv(*arguments) if arguments else [str(THALWEG)]
    done = subprocess.run(argv, env=launcher.environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == status, done.stderr
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
    launcher.assert_nothing_left()
