"""The trial of the containers: when it does what to whom, and which container counts as well."""

from dataclasses import replace

import pytest

from infra.compose import trial
from infra.compose.engine import Container
from infra.compose.trial import Faults

RUNNING = Container("1", "running", "healthy", 0, 0, 1, "1:1", read_only=True)


class Notes:
    """What a project is told to do, instead of an engine."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def kill(self, service: str) -> None:
        self.told.append(f"kill {service}")

    def end(self, service: str) -> None:
        self.told.append(f"end {service}")

    def pause(self, service: str) -> None:
        self.told.append(f"pause {service}")

    def unpause(self, service: str) -> None:
        self.told.append(f"unpause {service}")


def test_each_fault_comes_once_and_the_paused_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three are killed and one is paused, in order, each once its number of events was sent; the pause has an end."""
    monkeypatch.setattr(trial, "PAUSED_S", 0.0)
    project, sent = Notes(), 0
    faults = Faults(project, 1000, lambda: sent)  # type: ignore[arg-type]
    for sent in range(0, 800, 100):
        faults()
        assert len(project.told) == sent // 200
    assert not faults.over
    sent = 800
    for _ in range(2):
        faults()
        assert [said.split()[0] for said in project.told] == ["kill", "kill", "kill", "pause", "unpause"]
        assert project.told[-1] == f"un{project.told[-2]}"
        assert faults.over


def test_of_three_nodes_one_is_killed_for_good() -> None:
    """Where Kafka has three nodes, one other than the one that clients are told first ends, and is not waited for."""
    project = Notes()
    faults = Faults(project, 1000, lambda: 600, nodes=3)  # type: ignore[arg-type]
    for _ in range(3):
        faults()
    assert project.told == ["kill features", "kill inference", "end kafka-2"]
    assert faults.gone == {"kafka-2"}
    assert Faults(project, 1000, lambda: 0).gone == set()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"health": ""}, True),
        ({"health": "starting"}, False),
        ({"health": "unhealthy"}, False),
        ({"status": "paused"}, False),
        ({"status": "restarting"}, False),
        ({"status": "created"}, False),
        ({"status": "exited", "health": ""}, True),
        ({"status": "exited", "health": "", "exit_code": 1}, False),
    ],
)
def test_who_is_well(change: dict[str, object], good: bool) -> None:  # noqa: FBT001
    """A container is well that runs and does not say otherwise, or that had an end and came to it."""
    assert replace(RUNNING, **change).well is good  # type: ignore[arg-type]
