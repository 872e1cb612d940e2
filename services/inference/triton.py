"""The client of Triton over gRPC: the one home of tritonclient. Several requests are in flight at once."""

from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from services.inference.mix import Scores
from services.runtime.errors import Retry

TIMEOUT_S = 10.0
DEADLINE = "StatusCode.DEADLINE_EXCEEDED"


class Triton:
    """Scores batches with the model `<stream>_online`."""

    def __init__(self, address: str, model: str, timeout_s: float = TIMEOUT_S) -> None:
        self._address, self._model, self._timeout_s = address, model, timeout_s
        self._client = grpc.InferenceServerClient(address)

    def score(self, batches: Sequence[NDArray[np.float32]], version: int) -> list[Scores]:
        """Score each (rows, columns) batch with one version of the model; raise Retry if any of them failed."""
        pending = [self._send(batch, version) for batch in batches]
        try:
            return [_scores(future.result(self._timeout_s)) for future in pending]
        except (InferenceServerException, FutureTimeout) as error:
            raise Retry(f"Triton at {self._address}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        silent = isinstance(error, FutureTimeout) or getattr(error, "status", str)() == DEADLINE
        return f"no answer within {self._timeout_s:g} s" if silent else str(error)

    def _send(self, vectors: NDArray[np.float32], version: int) -> Future[grpc.InferResult]:
        features = grpc.InferInput("FEATURES", list(vectors.shape), "FP32")
        features.set_data_from_numpy(vectors)
        wanted = grpc.InferInput("VERSION", [1], "INT64")
        wanted.set_data_from_numpy(np.array([version], np.int64))
        future: Future[grpc.InferResult] = Future()

        def done(result: grpc.InferResult, error: InferenceServerException | None) -> None:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self._client.async_infer(self._model, [features, wanted], done, client_timeout=self._timeout_s)
        return future

    def close(self) -> None:
        self._client.close()


def _scores(result: grpc.InferResult) -> Scores:
    return Scores(int(result.as_numpy("VERSION")[0]), result.as_numpy("SCORE"))
