"""Versions in MLflow: one run and one registered version for each card, for people who compare and look things up.

Nothing here decides anything: `models` on the log says what is live, and a version counts whether or not MLflow has it.
One that could not be logged is logged with the next. MLflow is loaded, in seconds, when there is something to log.
"""

import json
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from services.runtime.artifacts import Artifacts
from services.runtime.models import BATCH, alert_of
from services.runtime.stream import Stream
from services.trainer.cards import Card
from services.trainer.charts import reliability_chart

if TYPE_CHECKING:
    from mlflow import MlflowClient

VERSION = "thalweg.version"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

log = logging.getLogger(__name__)


class Tracking:
    """The runs of a stream, on the server at `uri`; empty: in SQLite and a folder below `data`.

    Beside a card, a file of its number ending in `.run` says that the version is in MLflow, and as which run.
    """

    def __init__(self, stream: Stream, data: Path, uri: str = "") -> None:
        self._stream, self._data, self._uri = stream, data, uri
        self._artifacts = Artifacts(data, stream.name)

    @property
    def uri(self) -> str:
        return self._uri or f"sqlite:///{self._data.resolve()}/mlflow.db"

    @property
    def _place(self) -> str:
        """Return the server's address as the log may have it: without a password."""
        return re.sub(r"//[^/]*@", "//", self.uri)

    def catch_up(self, cards: Iterable[Card]) -> None:
        """Log every version that is not in MLflow yet; where one can't be, say so and leave it to the next call."""
        missing = [card for card in cards if not self._mark(card).exists()]
        try:
            for card in missing:
                self._log(card)
        except Exception as error:  # noqa: BLE001 - of MLflow, its server, its database or its disk: it is no reason to fail
            why = str(error).strip().partition("\n")[0]
            names = ", ".join(f"{BATCH}@{card.version}" for card in missing if not self._mark(card).exists())
            log.warning("%s not in MLflow at %s, tried again with the next training: %s", names, self._place, why)

    def _mark(self, card: Card) -> Path:
        return self._artifacts.card(BATCH, card.version).with_suffix(".run")

    def _log(self, card: Card) -> None:
        client = self._client()
        experiment = self._experiment(client)
        found = client.search_runs([experiment], f"tags.`{VERSION}` = '{card.version}'")
        done = [run for run in found if run.info.status == "FINISHED"]
        for run in found:
            if run not in done:
                self._undo(client, run.info.run_id)
        run_id = done[0].info.run_id if done else self._write(client, experiment, card)
        self._mark(card).write_text(run_id)

    def _undo(self, client: "MlflowClient", run_id: str) -> None:
        """Remove what a call that was interrupted has left."""
        for version in client.search_model_versions(f"run_id = '{run_id}'"):
            client.delete_model_version(version.name, version.version)
        client.delete_run(run_id)

    def _client(self) -> "MlflowClient":
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # noqa: PLC0415 - two seconds

        return MlflowClient(self.uri, self.uri)

    def _experiment(self, client: "MlflowClient") -> str:
        known = client.get_experiment_by_name(self._stream.name)
        if known is not None:
            return str(known.experiment_id)
        place = None if self._uri else (self._data.resolve() / "mlruns").as_uri()
        return str(client.create_experiment(self._stream.name, artifact_location=place))

    def _write(self, client: "MlflowClient", experiment: str, card: Card) -> str:
        run = client.create_run(experiment, run_name=f"{BATCH}@{card.version}", tags=_tags(card))
        run_id = str(run.info.run_id)
        for name, value in _params(card).items():
            client.log_param(run_id, name, value)
        client.log_batch(run_id, metrics=_metrics(card))
        self._files(client, run_id, card)
        self._register(client, run_id, card)
        client.set_terminated(run_id)
        log.info("%s@%d is in MLflow at %s, run %s", BATCH, card.version, self._place, run_id)
        return run_id

    def _files(self, client: "MlflowClient", run_id: str, card: Card) -> None:
        client.log_text(run_id, self._artifacts.card(BATCH, card.version).read_text(), "card.json")
        client.log_text(run_id, reliability_chart(card.reliability), "reliability.svg")
        client.log_text(run_id, _description(card), "model/MLmodel")
        graph = self._data / "training" / self._stream.name / "model.onnx"
        graph.write_bytes(self._artifacts.read(BATCH, card.version))
        client.log_artifact(run_id, str(graph), "model")
        graph.unlink()

    def _register(self, client: "MlflowClient", run_id: str, card: Card) -> None:
        name = f"{self._stream.name}_{BATCH}"
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description=f"The batch model of {self._stream.name}")
        about = f"{BATCH}@{card.version}, by {card.by}: log loss {card.loss:.4f}, the prior's {card.prior_loss:.4f}"
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        client.create_model_version(name, source, run_id, tags=_tags(card), description=about)


def _tags(card: Card) -> dict[str, str]:
    state = "registered" if card.servable else "not servable"
    tags = {"version": str(card.version), "state": state, "by": card.by, "code": card.code}
    if (alert := alert_of(card.by)) is not None:
        tags["alert"] = alert
    if card.since is not None:
        tags |= {"since": str(card.since), "window": card.window}
    tags |= {"feature_set": card.feature_set, "table_version": str(card.table_version)}
    return {f"thalweg.{name}": value for name, value in tags.items()}


def _params(card: Card) -> dict[str, Any]:
    about = {"feature_set": card.feature_set, "table_version": card.table_version, "rows": card.rows}
    return dict(card.recipe) | about | {"device": card.device, "torch": card.torch, "code": card.code}


def _metrics(card: Card) -> list[Any]:
    from mlflow.entities import Metric  # noqa: PLC0415

    names = ("loss", "prior_loss", "temperature", "positives", "best_epoch")
    found = [Metric(name, float(getattr(card, name)), 0, 0) for name in names]
    for epoch, (train, validation) in enumerate(card.losses, 1):
        found += [Metric("train_loss", train, 0, epoch), Metric("validation_loss", validation, 0, epoch)]
    found += [Metric(f"loss/{name.replace('=', ' ')}", part.loss, 0, 0) for name, part in card.slices.items()]
    return found + [Metric(f"window_loss/{name}", loss, 0, 0) for name, loss in card.windows.items()]


def _description(card: Card) -> str:
    """Return the MLmodel file, as MLflow reads it: which tensors go in and come out. JSON is YAML."""

    def tensor(name: str, shape: list[int]) -> str:
        spec = {"dtype": "float32", "shape": shape}
        return json.dumps([{"name": name, "type": "tensor", "tensor-spec": spec}])

    signature = {"inputs": tensor("FEATURES", [-1, card.columns]), "outputs": tensor("SCORE", [-1]), "params": None}
    flavors = {"onnx": {"data": "model.onnx"}}
    return msgspec.json.encode({"flavors": flavors, "signature": signature, "model_id": None}).decode()
