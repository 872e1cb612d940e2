"""The client of Triton over gRPC: the one home of tritonclient. Several requests are in flight at once."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from services.inference.mix import Scores
from services.runtime.contexts import TRACEPARENT
from services.runtime.errors import Refusal, Retry

TIMEOUT_S = 10.0
DEADLINE = "StatusCode.DEADLINE_EXCEEDED"
AWAY = (DEADLINE, "StatusCode.UNAVAILABLE", "StatusCode.CANCELLED")  # said by the client, not by the server


class Triton:
    """Scores batches with any version of one model, such as `<stream>_online`."""

    def __init__(self, address: str, model: str, timeout_s: float = TIMEOUT_S) -> None:
        self._address, self._model, self._timeout_s = address, model, timeout_s
        self._client = grpc.InferenceServerClient(address)

    def score(self, batches: Sequence[NDArray[np.float32]], version: int) -> list[Scores]:
        """Score each (rows, columns) batch with one version of the model; raise Retry if any of them failed."""
        return self.ask(batches, version).answers()

    def ask(self, batches: Sequence[NDArray[np.float32]], version: int, contexts: Sequence[str | None] = ()) -> "Asked":
        """Send the batches and return at once; Triton traces those that have a context, a `traceparent`."""
        sent = zip_longest(batches, contexts[: len(batches)])
        return Asked([self._send(batch, version, context) for batch, context in sent], self._address, self._timeout_s)

    def _send(self, vectors: NDArray[np.float32], version: int, context: str | None) -> Future[grpc.InferResult]:
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

        headers = None if context is None else {TRACEPARENT: context}
        inputs = [features, wanted]
        self._client.async_infer(self._model, inputs, done, client_timeout=self._timeout_s, headers=headers)
        return future

    def close(self) -> None:
        self._client.close()


class Asked:
    """What was sent to Triton and is not answered yet, or is."""

    def __init__(self, futures: Sequence[Future[grpc.InferResult]], address: str, timeout_s: float) -> None:
        self._futures, self._address, self._timeout_s = futures, address, timeout_s
        self._sent = time.monotonic()

    @property
    def answered(self) -> bool:
        return all(future.done() for future in self._futures)

    def wait(self, seconds: float) -> bool:
        """Wait until so many seconds after it was sent, no longer; return whether all is answered."""
        for future in self._futures:
            try:
                future.exception(max(self._sent + seconds - time.monotonic(), 0))
            except FutureTimeout:
                return False
        return True

    def answers(self) -> list[Scores]:
        """Wait for the scores of each batch; Refusal where Triton would not give them, Retry where it's away."""
        try:
            return [_scores(future.result(self._timeout_s)) for future in self._futures]
        except (InferenceServerException, FutureTimeout) as error:
            kind = Refusal if getattr(error, "status", str)() not in (None, "", *AWAY) else Retry
            raise kind(f"Triton at {self._address}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        silent = isinstance(error, FutureTimeout) or getattr(error, "status", str)() == DEADLINE
        return f"no answer within {self._timeout_s:g} s" if silent else str(error)


def _scores(result: grpc.InferResult) -> Scores:
    return Scores(int(result.as_numpy("VERSION")[0]), result.as_numpy("SCORE"))
