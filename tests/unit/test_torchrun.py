"""How many processes train together, and what the others are told; what they do is in tests/integration."""

from pathlib import Path

import pytest

from infra import cli
from infra.commands import train_workers
from infra.commands.train_workers import wanted
from infra.local.processes import ChildDied


@pytest.mark.parametrize(
    ("processes", "device", "gpus", "used"),
    [
        (None, "cpu", 0, 1),
        (None, "cpu", 8, 1),
        (None, "cuda", 1, 1),
        (None, "cuda", 8, 8),
        (None, "cuda:1", 8, 1),
        (3, "cpu", 0, 3),
        (3, "cuda", 8, 3),
        (1, "cuda", 8, 1),
        (1, "cuda:1", 8, 1),
    ],
)
def test_one_process_a_gpu(processes: int | None, device: str, gpus: int, used: int) -> None:
    """Nobody need say how many: one a GPU, and one where there is none, or where one GPU is named."""
    assert wanted(processes, device, gpus) == used


@pytest.mark.parametrize(("processes", "device", "gpus"), [(3, "cuda", 2), (2, "cuda:1", 8), (1, "cuda", 0)])
def test_no_more_processes_than_gpus(processes: int, device: str, gpus: int) -> None:
    """More processes than GPUs are refused, and how many there are is said."""
    with pytest.raises(ValueError, match=f"--processes {processes}: each needs a GPU of its own, and {gpus} can be"):
        wanted(processes, device, gpus)


def test_no_process_is_too_few(capsys: pytest.CaptureFixture[str]) -> None:
    """The command says so, exit status 1."""
    assert cli.main(["train", "--device=cpu", "--processes=0"]) == 1
    assert "--processes 0: it takes one at least" in capsys.readouterr().err


def test_the_others_are_told_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every process is given what was asked of the command, all but the number of processes, with the device."""
    told: list[object] = []
    monkeypatch.setattr(train_workers, "launch", lambda *given: told.append(given) or 0)
    asked = ["--device=cpu", "--version=3", "--store=s3://a/b", f"--run-dir={tmp_path}", "--processes=2"]
    assert cli.main(["train", *asked]) == 0
    ((processes, (command, *arguments)),) = told  # type: ignore[misc]
    assert (processes, command) == (2, "train")
    ours, theirs = (cli._parser().parse_args(["train", *given]) for given in (asked, arguments))
    assert vars(theirs) | {"processes": 2, "run": None} == vars(ours) | {"run": None}


def test_a_process_that_was_killed_is_named() -> None:
    """Not the one that ended because of it; where none was killed, all have said themselves what is wrong."""
    with pytest.raises(ChildDied, match=r"worker 1 was killed \(SIGKILL\)"):
        train_workers.failed({0: 1, 1: -9})
    assert train_workers.failed({0: 1}) == 1
