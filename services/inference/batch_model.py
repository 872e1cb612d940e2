"""The model `<stream>_batch` inside Triton: scores with the version of the trained network that it is asked for."""

from typing import Any

import numpy as np
import onnxruntime

from services.inference.versioned_model import VersionedModel
from services.runtime import graphs
from services.runtime.models import BATCH


class TritonPythonModel(VersionedModel):
    """A version is an ONNX graph, `FEATURES` (rows, columns) to `SCORE` (rows), which ONNX Runtime computes."""

    name = BATCH

    def load(self, payload: bytes) -> onnxruntime.InferenceSession:
        graphs.check(payload)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the rows of a batch are soon done, and the cores are others' too
        return onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])

    def score(self, model: onnxruntime.InferenceSession, vectors: Any) -> Any:  # noqa: ANN401 - arrays of another numpy
        (scores,) = model.run(["SCORE"], {"FEATURES": vectors})
        return np.asarray(scores, np.float64)
