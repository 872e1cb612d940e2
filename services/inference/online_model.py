"""The model `<stream>_online` inside Triton: scores with the River version that it is asked for."""

from typing import Any

import numpy as np

from services.inference.versioned_model import VersionedModel
from services.runtime import unpickling
from services.runtime.clip import Clip  # noqa: F401 - a step that pipelines may have, found when they are unpickled
from services.runtime.models import ONLINE
from services.runtime.river_score import Classifier, score


class TritonPythonModel(VersionedModel):
    """A version is a pickled River pipeline."""

    name = ONLINE

    def load(self, payload: bytes) -> Classifier:
        model: Classifier = unpickling.load(payload)
        return model

    def score(self, model: Classifier, vectors: Any) -> Any:  # noqa: ANN401 - arrays of another numpy
        columns = self.columns
        rows = (dict(zip(columns, row, strict=True)) for row in vectors.tolist())
        return np.array([score(model, row) for row in rows], np.float64)
