"""The model `<stream>_batch` inside Triton: scores with the version of the trained network that it is asked for."""

from typing import Any

import numpy as np

from services.inference.versioned_model import VersionedModel
from services.runtime import graphs
from services.runtime.models import BATCH
from services.runtime.onnx_session import InferenceSession, open_session


class TritonPythonModel(VersionedModel):
    """A version is an ONNX graph, `FEATURES` (rows, columns) to `SCORE` (rows), which ONNX Runtime computes."""

    name = BATCH

    def load(self, payload: bytes) -> InferenceSession:
        graphs.check(payload)
        return open_session(payload)

    def score(self, model: InferenceSession, vectors: Any) -> Any:  # noqa: ANN401 - arrays of another numpy
        (scores,) = model.run(["SCORE"], {"FEATURES": vectors})
        return np.asarray(scores, np.float64)
