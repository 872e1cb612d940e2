"""Processes that train one network together, started by `torchrun` on this machine's CPU: they learn as one would."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.chaos.learner import examples as recorded
from services.runtime.artifacts import Artifacts
from services.runtime.records import Record
from services.runtime.signing import make_keys
from services.runtime.stream import load_stream
from services.trainer.cards import Card
from services.trainer.store import ExampleStore

ROOT = Path(__file__).parents[2]
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCH_CPP_LOG_LEVEL": "ERROR"}
ENVIRONMENT = os.environ | LOOPBACK
AT_LOOPBACK = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
LONG = 20_000  # epochs, of which a test sees the first

TOGETHER = """
import json, sys
from dataclasses import replace
from pathlib import Path
from services.trainer.core import train
from services.trainer.workers import end, follow, joined
from tests.unit.test_trainer_core import GRU, LAYOUT, QUICK, made, noisy

whole = replace(QUICK, dropout=0.0)
recipes = {
    "mlp": whole,
    "gru": replace(GRU, dropout=0.0, class_weights="balanced"),
    "shares are not alike": replace(whole, batch_size=7),
    "a worker has no row": replace(whole, batch_size=1, epochs=1),
    "stopped early": replace(whole, epochs=12, patience=2, batch_size=16),
}
examples, kept, found = made(300, noisy), Path(sys.argv[1]), {}
with joined("cpu") as placement:
    if placement.worker:
        follow(placement)
    else:
        for name, recipe in recipes.items():
            trained = train(examples, LAYOUT, recipe, placement)
            found[name] = trained.losses, trained.best, trained.calibration_loss
        try:
            train(examples, LAYOUT, replace(whole, learning_rate=1e38), placement)
        except ValueError as error:
            found["diverged"] = str(error)[:17]
        if placement.workers == 1:
            train(examples, LAYOUT, whole, on_epoch=lambda e: e.number == 2 and kept.write_bytes(e.checkpoint()))
        resumed = train(examples, LAYOUT, whole, placement, checkpoint=kept.read_bytes())
        found["resumed"] = resumed.losses, resumed.best, resumed.calibration_loss
        print(json.dumps([placement.workers, found]))
end(0)
"""


def test_two_workers_learn_what_one_does(tmp_path: Path) -> None:
    """Losses, train and validation, of every epoch, the best of them and the calibration's are one worker's.

    So they are where a batch can't be halved, where a worker gets none of it, and where they go on after an epoch that
    one alone has trained. What is refused is refused by all, and the next training is not in its way.
    """
    program = tmp_path / "together.py"
    program.write_text(TOGETHER)
    (one, alone), (two, both) = (together(program, n, tmp_path / "checkpoint") for n in (1, 2))
    assert (one, two) == (1, 2)
    assert alone.pop("diverged") == both.pop("diverged") == "training diverged"
    for name, (losses, best, calibrated) in alone.items():
        theirs, their_best, their_calibrated = both[name]
        assert (len(theirs), their_best) == (len(losses), best), name
        flat = [loss for pair in losses for loss in pair] + calibrated
        assert [loss for pair in theirs for loss in pair] + their_calibrated == pytest.approx(flat, abs=1e-5), name
    assert len(alone["stopped early"][0]) < 12, "nothing stopped early"


def together(program: Path, processes: int, *arguments: Path) -> Any:
    torchrun = [sys.executable, "-m", "torch.distributed.run", *AT_LOOPBACK, f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*torchrun, program, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The command


class Place:
    """Where a run of flights has left some 900 examples, and what trains on them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said, self.schemas = folder, folder / "said", folder / "schemas"
        shutil.copytree(ROOT / "schemas", self.schemas)
        self.data = folder / "flights" / "data"
        flights = load_stream(self.schemas, "flights")
        make_keys(self.data / "keys")
        outgoing = enumerate(recorded(flights, 900))
        records = [Record(out.topic, 0, offset, None, out.value, headers=out.headers) for offset, out in outgoing]
        ExampleStore(str(self.data / "store"), flights).append(0, records)

    def epochs(self, most: int) -> None:
        """Let a training have as many epochs, whatever they are worth."""
        recipe = self.schemas / "flights" / "pipeline.toml"
        lines = recipe.read_text().replace("epochs = 20", f"epochs = {most}").replace("patience = 4", "patience = 999")
        recipe.write_text(lines)

    def train(self, processes: int) -> subprocess.Popen[bytes]:
        places = [f"--run-dir={self.folder}", f"--schemas={self.schemas}", f"--processes={processes}"]
        command = [sys.executable, "-m", "infra.cli", "train", "--device=cpu", *places]
        with self.said.open("wb") as said:
            return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=said, stderr=subprocess.STDOUT)

    def heard(self, words: str) -> Callable[[], bool]:
        return lambda: words in self.said.read_text()

    @property
    def signed(self) -> list[Path]:
        return [path for path in (self.data / "artifacts").rglob("*") if path.is_file()]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Have what is started hear SIGINT, though a shell ignores it for what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Place(tmp_path)
    signal.signal(signal.SIGINT, before)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def workers(launcher: int) -> dict[int, int]:
    """Return the process of each worker that this process has started."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{launcher}\n" in status.read_text():
                rank = status.with_name("environ").read_bytes().partition(b"\0RANK=")[2].partition(b"\0")[0]
                found |= {int(rank): int(status.parent.name)} if rank else {}
    return found


def gone(pids: dict[int, int]) -> Callable[[], bool]:
    return lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


def test_the_command_trains_in_two_processes(place: Place) -> None:
    """`thalweg train --processes 2`: one of them tells of each epoch, and signs one graph with one card."""
    place.epochs(3)
    assert place.train(2).wait(120) == 0, place.said.read_text()
    said = place.said.read_text()
    assert [said.count(f"epoch {number} of 3") for number in (1, 2, 3)] == [1, 1, 1]
    assert said.count("flights batch@1: log loss ") == 1
    assert len(Artifacts(place.data, "flights").read("batch", 1)) > 10_000
    card = msgspec.json.decode((place.data / "artifacts/flights/batch/1.json").read_bytes(), type=Card)
    assert (card.workers, card.epochs) == (2, 3)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_is_killed_ends_the_training(place: Place, victim: int) -> None:
    """It is named, the other ends, nothing is signed, and a training in one process goes on where they were."""
    place.epochs(LONG)
    launcher = place.train(2)
    until(place.heard("epoch 2 of"))
    pids = workers(launcher.pid)
    assert sorted(pids) == [0, 1]
    os.kill(pids[victim], signal.SIGKILL)
    assert launcher.wait(60) == 1, place.said.read_text()
    until(gone(pids))
    said = place.said.read_text()
    assert (f"worker {victim} was killed (SIGKILL)" in said, "Traceback" in said) == (True, False), said
    assert not place.signed
    alone = place.train(1)
    until(place.heard("epoch "))
    alone.send_signal(signal.SIGINT)
    assert (alone.wait(60), place.heard("epoch 1 of")()) == (130, False)


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_launcher(place: Place, way: signal.Signals) -> None:
    """Ctrl-C ends all of them, and is said once; so does the launcher's own death, however it comes."""
    place.epochs(LONG)
    launcher = place.train(2)
    until(place.heard("epoch 1 of"))
    pids = workers(launcher.pid)
    assert sorted(pids) == [0, 1]
    launcher.send_signal(way)
    assert launcher.wait(60) == (-9 if way == signal.SIGKILL else 130)
    until(gone(pids))
    said = place.said.read_text()
    assert said.count("stopped") == 1 or (way == signal.SIGKILL and said.count("stopped") <= 1)  # a worker's own word
    assert "Traceback" not in said
    assert not place.signed
