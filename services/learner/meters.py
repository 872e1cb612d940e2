"""What the learner tells of its versions: how many examples are in the newest, and when that came."""

from services.learner.publishing import Publishing
from services.runtime.metrics import Metrics


def tell(metrics: Metrics, stage: Publishing) -> None:
    """Have it told; without a value before the first version."""
    name, said = "thalweg_model_published_timestamp_seconds", "When the newest version of the online model went out."
    metrics.told(name, said, lambda: {} if stage.newest is None else {(): stage.newest[1]})
    name, said = "thalweg_model_learned_examples", "Examples that the newest version has learned from."
    metrics.told(name, said, lambda: {} if stage.newest is None else {(): float(stage.newest[0])})
    name, said = "thalweg_model_renewals", "How often the model was begun anew, as its world had turned."
    metrics.told(name, said, lambda: {(): float(sum(core.renewed for core in list(stage.cores.values())))})
