"""What the versions said of the event, and whether they say it again; and the mix that was served of it."""

from collections.abc import Mapping
from typing import Any

from services.inference.core import Prediction
from services.replay.compare import TOLERANCE
from services.replay.story.facts import Predicted, Scored
from services.replay.versions import Versions
from services.runtime.errors import Stop
from services.runtime.models import BATCH


def predicted(
    said: Prediction, field: str, vector: Mapping[str, float], beside: list[Any], versions: Versions
) -> Predicted:
    """Score the vector that was written with each version that is named, and mix it again by the recorded weights."""
    asked = {f"{BATCH}@{one['version']}": one for one in beside}
    scores = [_scored(name, score, said, vector, asked.get(name), versions) for name, score in said.scores.items()]
    served = said.prediction.get(field, float("nan"))
    again = {one.version: one.again for one in scores}
    mixed = _mixed(said.weights, again)
    agrees = None if mixed is None else abs(mixed - served) <= TOLERANCE
    return Predicted(served, mixed, agrees, said.degraded, said.features, scores)


def _scored(
    name: str,
    score: float,
    said: Prediction,
    vector: Mapping[str, float],
    asked: Mapping[str, Any] | None,
    versions: Versions,
) -> Scored:
    again, why_not = None, None
    try:
        again = versions.score(name, dict(vector))
    except Stop as error:
        why_not = str(error)
    agrees = None if again is None else abs(again - score) <= TOLERANCE
    state, beside = (None, None) if asked is None else (asked["state"], asked["beside"])
    return Scored(name, score, said.weights.get(name, 0.0), again, agrees, why_not, state, beside)


def _mixed(weights: Mapping[str, float], scores: Mapping[str, float | None]) -> float | None:
    """Return the weighted sum; None if a score that counts could not be made again."""
    total = 0.0
    for version, weight in weights.items():
        score = scores.get(version)
        if score is None:
            return None
        total += weight * score
    return total
