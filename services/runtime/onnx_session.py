"""A network's graph, ready to score: the one home of ONNX Runtime, which is loaded so that it tells nobody of us.

Its builds send Microsoft what machine they are on and what they run, unless this variable says otherwise before they
are loaded; switched off later, the first message is out.
"""

import os
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from onnxruntime import InferenceSession, SessionOptions

__all__ = ["InferenceSession", "open_session"]


def open_session(graph: Any) -> InferenceSession:  # noqa: ANN401 - bytes of any kind
    """Return what computes the graph, on one thread: a batch is soon done, and the cores are others' too."""
    options = SessionOptions()
    options.intra_op_num_threads = 1
    return InferenceSession(graph, options, providers=["CPUExecutionProvider"])
