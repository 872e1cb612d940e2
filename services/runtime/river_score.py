"""How a River classifier is asked: the one definition that the learner and Triton's model share, so scores agree.

It imports nothing, not even River: the model brings its own class.
"""

from typing import Protocol


class Classifier(Protocol):
    def predict_proba_one(self, x: dict[str, float]) -> dict[bool, float]: ...


def score(model: Classifier, vector: dict[str, float]) -> float:
    """Return the probability of true: 0.5 from a model that has seen no label yet, 0 if it never saw a true one."""
    probabilities = model.predict_proba_one(vector)
    return float(probabilities.get(True, 0.0)) if probabilities else 0.5
