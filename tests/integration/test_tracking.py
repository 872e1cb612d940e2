"""Versions in a real MLflow: what a run and a registered version say, and what a server that is away costs."""

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from mlflow import MlflowClient

from infra.local.brokers import free_ports
from services.runtime.artifacts import Artifacts
from services.runtime.grammar import RolloutRule
from services.runtime.signing import make_keys
from services.trainer import training
from services.trainer.cards import Card, Cards
from services.trainer.checkpoints import Checkpoints
from services.trainer.tracking import Tracking
from tests.unit.test_training import lesson, stream

STREAM = stream()
STREAM = msgspec.structs.replace(
    STREAM, pipeline=msgspec.structs.replace(STREAM.pipeline, rollout=RolloutRule(slices=["hot"]))
)


class Place:
    """A folder with versions of the model, and what MLflow has of them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        make_keys(data / "keys")
        self.cards = Cards(Artifacts(data, "made"), "made:0")
        self.graph, self._card = training.run(STREAM, lesson(), Checkpoints(data, "made"), "cpu", lambda _, __: None)

    def add(self, by: str = "somebody@somewhere", **more: Any) -> Card:
        card = msgspec.structs.replace(self._card, version=self.cards.free(), by=by, **more)
        self.cards.add(card, self.graph)
        return card

    def catch_up(self, uri: str = "") -> None:
        Tracking(STREAM, self.data, uri).catch_up(self.cards.all())

    @property
    def client(self) -> MlflowClient:
        uri = Tracking(STREAM, self.data).uri
        return MlflowClient(uri, uri)

    def runs(self) -> list[Any]:
        experiment = self.client.get_experiment_by_name("made")
        return [] if experiment is None else list(self.client.search_runs([experiment.experiment_id]))

    def versions(self) -> list[Any]:
        return list(self.client.search_model_versions("name = 'made_batch'"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_version_for_an_alert_names_it(place: Place) -> None:
    """And the window that was chosen, with what each lost; another version has no such tag."""
    place.add("alert:loss-1", since=5, window="after", windows={"after": 0.25, "all": 0.5})
    place.add()
    place.catch_up()
    other, run = sorted(place.runs(), key=lambda one: "thalweg.alert" in one.data.tags)
    found = {name.removeprefix("thalweg."): value for name, value in run.data.tags.items()}
    assert (found["alert"], found["since"], found["window"]) == ("loss-1", "5", "after")
    assert (run.data.metrics["window_loss/after"], run.data.metrics["window_loss/all"]) == (0.25, 0.5)
    assert not {"thalweg.alert", "thalweg.since", "thalweg.window"} & other.data.tags.keys()
    [version] = [one for one in place.versions() if one.run_id == run.info.run_id]
    assert version.tags["thalweg.alert"] == "loss-1"


def test_a_version_can_be_looked_up(place: Place) -> None:
    """Its parameters, curves, data, code, slices and plot; the registered version has the graph and its signature."""
    card = place.add()
    place.catch_up()
    place.catch_up()
    [run] = place.runs()
    assert (run.info.run_name, run.info.status) == ("batch@1", "FINISHED")
    assert run.data.params["width"] == "8"
    assert (run.data.params["table_version"], run.data.params["feature_set"]) == ("7", "made:0")
    assert run.data.tags["thalweg.by"] == "somebody@somewhere"
    assert run.data.metrics["loss"] == pytest.approx(card.loss)
    history = place.client.get_metric_history(run.info.run_id, "validation_loss")
    assert [(point.step, point.value) for point in history] == [(n, v) for n, (_, v) in enumerate(card.losses, 1)]
    parts = [card.slices["hot=a"], card.slices["hot=b"]]
    assert sum(part.rows * part.loss for part in parts) / sum(part.rows for part in parts) == pytest.approx(card.loss)
    assert run.data.metrics["loss/hot a"] == pytest.approx(parts[0].loss)
    [version] = place.versions()
    assert (version.version, version.tags["thalweg.state"]) in {("1", "registered"), (1, "registered")}
    source = Path(version.source.removeprefix("file://"))
    assert (source / "model.onnx").read_bytes() == place.graph
    signature = yaml.safe_load((source / "MLmodel").read_text())["signature"]
    assert '"name": "FEATURES"' in signature["inputs"]
    assert "[-1, 5]" in signature["inputs"]
    files = {file.path for file in place.client.list_artifacts(run.info.run_id)}
    assert files == {"card.json", "reliability.svg", "model"}
    svg = (source.parent / "reliability.svg").read_text()
    assert svg.count("<circle") == len(card.reliability) > 1


def test_a_server_that_is_away_loses_no_version(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, the card stands, and the next training that reaches a server logs both."""
    place.add()
    place.catch_up(f"http://me:secret@127.0.0.1:{free_ports(1)[0]}")
    assert "secret" not in caplog.text.partition("next training: ")[0]
    assert "batch@1 not in MLflow at http://127.0.0.1:" in caplog.text
    assert "tried again with the next training" in caplog.text
    place.add()
    with caplog.at_level(logging.INFO):
        place.catch_up()
    assert "batch@2 is in MLflow at sqlite:///" in caplog.text
    assert sorted(run.info.run_name for run in place.runs()) == ["batch@1", "batch@2"]
    assert sorted(version.tags["thalweg.version"] for version in place.versions()) == ["1", "2"]


def test_a_run_that_was_cut_short_is_made_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed on the way, or before the mark: one run and one registered version in the end."""
    card = place.add()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for owner, step in ((Tracking, "_files"), (Tracking, "_register"), (MlflowClient, "set_terminated")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, killed)
            with pytest.raises(KeyboardInterrupt):
                place.catch_up()
    place.catch_up()
    (place.data / "artifacts" / "made" / "batch" / f"{card.version}.run").unlink()
    place.catch_up()
    assert [run.info.status for run in place.runs()] == ["FINISHED"]
    assert len(place.versions()) == 1
