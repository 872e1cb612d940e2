"""A demo that stays up, for the tests that look at a real run afterwards, and what a client sees of it."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from infra.cli import main
from infra.local.stack import Running, read_running
from services.runtime.history import KafkaHistory
from services.runtime.records import Record
from services.runtime.settings import Settings

THALWEG = Path(sys.executable).with_name("thalweg")
# Whoever runs pytest in the background may have it ignore SIGINT, and children inherit that; a terminal does not.
HEARS_SIGINT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Run:
    """A demo that stays up, and what a client sees of it."""

    def __init__(self, folder: Path, running: Running) -> None:
        self.folder, self.broker = folder, running.broker
        self.history = KafkaHistory(Settings(broker=running.broker))
        more: dict[str, str | int | float | bool] = {"log_level": 0, "partitioner": "murmur2_random"}
        self._producer = Producer({"bootstrap.servers": running.broker, **more})

    def thalweg(self, *arguments: str | Path, run_dir: Path | None = None) -> Done:
        """Call the command line; return its exit status and what it said."""
        argv = [*map(str, arguments), "--run-dir", str(run_dir or self.folder)]
        out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(argv)
        signal.signal(signal.SIGTERM, handler)
        return Done(status, out.getvalue(), err.getvalue())

    def records(self, topic: str) -> list[Record]:
        return [record for batch in self.history.read_topic(topic) for record in batch]

    def write(self, topic: str, value: bytes, key: bytes, partition: int | None = None, **more: Any) -> None:
        where = {} if partition is None else {"partition": partition}
        self._producer.produce(topic, value, key, **where, **more)
        assert self._producer.flush(10) == 0

    def wait(self, topic: str, event_id: str, seconds: float = 30) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            for record in self.records(topic):
                said: dict[str, Any] = json.loads(record.value)
                if said.get("event_id") == event_id:
                    return said
            assert time.monotonic() < end, f"{event_id} did not come to {topic}"
            time.sleep(0.2)

    def wait_letters(self, count: int, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while len(self.records("flights.dead-letter")) < count:
            assert time.monotonic() < end
            time.sleep(0.2)


@contextlib.contextmanager
def kept(folder: Path, *options: str) -> Iterator[Run]:
    """Play a demo with these options; yield it once all was played, and end it afterwards."""
    output = folder / "output.txt"
    argv = [THALWEG, "demo", *options, "--keep", "--run-dir", folder]
    with output.open("wb") as file:
        process = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while "still up" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < end, output.read_text()
            time.sleep(0.1)
        running = read_running(folder, "flights")
        assert running is not None
        yield Run(folder, running)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
