"""What the models inside Triton's Python backend share: scoring with the version that a request asks for.

Inputs `FEATURES` (rows, columns) and `VERSION` (1); outputs `SCORE` (rows) and `VERSION` (1), the one that answered. A
version is picked up in place, from the artifact store, when it is first asked for, be it with no rows: no reload, no
gap. Only artifacts that this installation signed are opened.

This runs in Triton's own environment: it may import the runtime's light modules and nothing that Triton lacks.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import triton_python_backend_utils as pb  # the backend brings it

from services.runtime.artifacts import Artifacts
from services.runtime.errors import ThalwegError

KEPT = 8  # versions in memory: the live ones, and those that requests in flight may still ask for


class VersionedModel:
    """The class that the backend looks for; `initialize`, `execute` and `finalize` are the backend's protocol."""

    name: str  # of the model, in the artifact store

    def load(self, payload: bytes) -> Any:  # noqa: ANN401 - whatever `score` takes
        """Return the model that these bytes are."""
        raise NotImplementedError

    def score(self, model: Any, vectors: Any) -> Any:  # noqa: ANN401 - arrays of another numpy
        """Return a score of each row, float64."""
        raise NotImplementedError

    def initialize(self, args: dict[str, str]) -> None:
        parameters = msgspec.json.decode(args["model_config"])["parameters"]
        read = {name: value["string_value"] for name, value in parameters.items()}
        self._artifacts = Artifacts(Path(read["data"]), read["stream"])
        self.columns = read["columns"].split("\n")
        self._versions: OrderedDict[int, Any] = OrderedDict()

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        self._versions.clear()

    def _answer(self, request: Any) -> Any:  # noqa: ANN401 - Triton's types
        version = int(pb.get_input_tensor_by_name(request, "VERSION").as_numpy()[0])
        vectors = pb.get_input_tensor_by_name(request, "FEATURES").as_numpy()
        try:
            scores = self.score(self._version(version), vectors)
        except ThalwegError as error:
            pb.Logger.log_error(f"{self.name}@{version} is refused: {error}")
            return pb.InferenceResponse([], pb.TritonError(str(error)))
        except Exception as error:  # noqa: BLE001 - of a version's own making, whatever it is; the others are asked on
            return pb.InferenceResponse([], pb.TritonError(f"{self.name}@{version} can't score: {error}"))
        answer = [pb.Tensor("SCORE", scores), pb.Tensor("VERSION", np.array([version], np.int64))]
        return pb.InferenceResponse(answer)

    def _version(self, version: int) -> Any:  # noqa: ANN401 - what `load` returned
        if version not in self._versions:
            self._versions[version] = self.load(self._artifacts.read(self.name, version))
            while len(self._versions) > KEPT:
                self._versions.popitem(last=False)
        return self._versions[version]
