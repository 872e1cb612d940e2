"""The model `<stream>_online` inside Triton's Python backend: scores with the River version that it is asked for.

Inputs `FEATURES` (rows, columns) and `VERSION` (1); outputs `SCORE` (rows) and `VERSION` (1), the one that answered. A
newer version is picked up in place, from the artifact store, when it is first asked for: no reload, no gap. Only
artifacts that this installation signed are unpickled.

This runs in Triton's own environment: it may import the runtime's light modules and nothing that Triton lacks.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import triton_python_backend_utils as pb  # the backend brings it

from services.runtime.artifacts import Artifacts
from services.runtime.errors import ThalwegError
from services.runtime.models import ONLINE
from services.runtime.river_score import Classifier, score

KEPT = 8  # versions in memory: the live one, and those that requests in flight may still ask for


class TritonPythonModel:
    """The class that the backend looks for; its three methods are the backend's protocol."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = msgspec.json.decode(args["model_config"])["parameters"]
        read = {name: value["string_value"] for name, value in parameters.items()}
        self._artifacts = Artifacts(Path(read["data"]), read["stream"])
        self._columns = read["columns"].split("\n")
        self._versions: OrderedDict[int, Classifier] = OrderedDict()

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        self._versions.clear()

    def _answer(self, request: Any) -> Any:  # noqa: ANN401 - Triton's types
        version = int(pb.get_input_tensor_by_name(request, "VERSION").as_numpy()[0])
        vectors = pb.get_input_tensor_by_name(request, "FEATURES").as_numpy()
        try:
            scores = self._score(version, vectors.tolist())
        except ThalwegError as error:
            return pb.InferenceResponse([], pb.TritonError(str(error)))
        answer = [pb.Tensor("SCORE", scores), pb.Tensor("VERSION", np.array([version], np.int64))]
        return pb.InferenceResponse(answer)

    def _score(self, version: int, vectors: list[list[float]]) -> Any:  # noqa: ANN401 - an array of another numpy
        model = self._version(version)
        columns = self._columns
        return np.array([score(model, dict(zip(columns, row, strict=True))) for row in vectors], np.float64)

    def _version(self, version: int) -> Classifier:
        if version not in self._versions:
            payload = self._artifacts.read(ONLINE, version)
            self._versions[version] = pickle.loads(payload)  # noqa: S301 - its signature was checked
            while len(self._versions) > KEPT:
                self._versions.popitem(last=False)
        return self._versions[version]
