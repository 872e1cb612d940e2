"""`thalweg status` as a person reads it, and what it makes of a run that is not there."""

from pathlib import Path

import pytest

from infra import cli
from infra.local.advice import BY_ITSELF, EMPTY, SILENT, WAITED_FOR, advice
from infra.local.status import State, show
from services.runtime.health import Report
from services.runtime.labelled import Hour, Labelled


def test_a_line_a_process() -> None:
    """Ready, waiting, restoring and silent ones, with what each waits for and how far its group is behind."""
    triton = "Triton at 127.0.0.1:8001: no answer within 10 s"
    states = {
        "ingestion": State(ready=True, report=Report("ingestion", "ready"), behind={}),
        "features": State(
            ready=True, report=Report("features", "ready", None, None, (0, 1), {}, 20), behind={"events": 0}
        ),
        "features-2": State(
            ready=True, report=Report("features", "ready", None, None, (), {}, 0), behind={"events": 0}
        ),
        "inference": State(
            ready=False, report=Report("inference", "waiting", triton, 12.3, (0, 1, 2), {}, 5), behind={"features": 30}
        ),
        "labels": State(
            ready=False, report=Report("labels", "joining", "its share", 1.0), behind={"scored": None, "labels": 2}
        ),
        "learner": State(ready=False, report=None, behind={"examples": 7}),
    }
    assert show(states).splitlines() == [
        "service     status   partitions  folded  behind",
        "ingestion   ready    -           -       -",
        "features    ready    0,1         20      events 0",
        "features-2  ready    none        0       events 0",
        f"inference   waiting  0,1,2       5       features 30         waits for {triton}, 12 s already",
        "labels      joining  -           -       scored ?, labels 2  waits for its share, 1 s already",
        "learner     silent   ?           ?       examples 7          no answer to its probe within 3 s",
        f"next: {WAITED_FOR['Triton']}{BY_ITSELF}",
        f"next: {SILENT.format('learner')}",
    ]


REPORTS = {"ingestion": Report("ingestion", "ready"), "features": Report("features", "ready", folded=7)}
AWAY = Report("features", "waiting", "no connection to the broker at 127.0.0.1:9092", 3.0)


@pytest.mark.parametrize(
    ("reports", "next_"),
    [
        (REPORTS, []),
        (REPORTS | {"features": Report("features", "ready")}, [EMPTY]),
        (REPORTS | {"features": AWAY}, [WAITED_FOR["broker"] + BY_ITSELF]),
        (REPORTS | {"ingestion": None}, [SILENT.format("ingestion")]),
        (REPORTS | {"features": AWAY, "labels": None}, [WAITED_FOR["broker"] + BY_ITSELF, SILENT.format("labels")]),
    ],
)
def test_what_to_do_next_is_said(reports: dict[str, Report | None], next_: list[str]) -> None:
    """Of a broker and a Triton that are away, of who is silent, of a run without events; else nothing."""
    assert list(advice(reports)) == [f"next: {words}" for words in next_]


def test_how_mature_the_labels_are() -> None:
    """Below the table, of the newest hours of events, whichever instance counted them."""
    hours = Hour(1357387200, 30, 12, 7321.0), Hour(1357383600, 4, 0, None)
    one = Labelled({"label": 12, "late": 0, "timeout": 3}, 12, 0.29876, 0.91666, hours)
    two = Labelled({"label": 0}, 0, None, None, (Hour(1357387200, 10, 13, 65.0),))
    states = {
        name: State(ready=True, report=Report("labels", "ready", labelled=labelled), behind={})
        for name, labelled in [("labels", one), ("labels-2", two)]
    }
    assert show(states).splitlines()[3:] == [
        "labels: 12 in time, 3 never came; what was served, by the 12 that hold: log loss 0.2988, accuracy 0.9167",
        "labels: none yet",
        "of the 40 predictions of 2013-01-05 12:00, 62% have their label, median wait 1 min 05 s",
        "of the 4 predictions of 2013-01-05 11:00, 0% have their label",
    ]
    many = Labelled({}, 0, None, None, tuple(Hour(3600 * n, 1, 1, 7321.0) for n in range(9, -1, -1)))
    shown = show({"labels": State(ready=True, report=Report("labels", "ready", labelled=many), behind={})})
    [first, *_, last] = shown.splitlines()[3:]
    assert first == "of the 1 predictions of 1970-01-01 09:00, 100% have their label, median wait 2 h 02"
    assert "1970-01-01 06:00" in last


def test_without_a_run_it_says_what_to_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, and a line."""
    assert cli.main(["status", "--run-dir", str(tmp_path)]) == 1
    assert "no run of flights is up here; start one (thalweg up)" in capsys.readouterr().err
