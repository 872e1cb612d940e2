"""Builds the River pipeline that `[online] model` names: classes of River, and `thalweg.Clip`, can be named."""

import importlib
import pickle
from typing import Any

import river
from river import base, compose

from services.runtime.clip import Clip
from services.runtime.errors import ConfigError, Stop
from services.runtime.stream import Stream
from services.runtime.unpickling import load

FORMAT = 1  # of the learner's state: one of another is folded again


def fingerprint(stream: Stream) -> str:
    """Return what a learner's state depends on: its format, the features, the model, and River's own version."""
    return f"{FORMAT}/{stream.feature_set}/{stream.online_rule}/river-{river.__version__}"


def build_model(steps: list[str | dict[str, dict[str, Any]]]) -> compose.Pipeline:
    """Make the pipeline; raise ConfigError for a step that River does not have or that refuses its parameters.

    Nor may it be made of what is not loaded where versions are served.
    """
    if not steps:
        raise ConfigError("online.model: found no step, expected at least a classifier")
    made = [_make(step) for step in steps]
    if not hasattr(made[-1], "predict_proba_one"):
        raise ConfigError(f"online.model: found {steps[-1]!r} at the end, expected a probabilistic classifier")
    pipeline = compose.Pipeline(*made)
    try:
        load(pickle.dumps(pipeline))
    except (Stop, TypeError, AttributeError, pickle.PicklingError) as error:
        raise ConfigError(f"online.model: {steps} can't be stored and loaded again, so not served: {error}") from error
    return pipeline


def _make(step: str | dict[str, dict[str, Any]]) -> base.Estimator:
    name, parameters = (step, {}) if isinstance(step, str) else _only_item(step)
    try:
        built = _river_class(name)(**{key: _parameter(value) for key, value in parameters.items()})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ConfigError(f"online.model: {name}: {error}") from error
    return built


def _parameter(value: Any) -> Any:  # noqa: ANN401 - a parameter of River's is of any type
    """Return the value; a table of one dotted name is a River object of its own, such as an optimizer."""
    return _make(value) if isinstance(value, dict) and len(value) == 1 and "." in next(iter(value)) else value


def _only_item(step: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    if len(step) != 1:
        raise ConfigError(f"online.model: found a step with {sorted(step)}, expected one class and its parameters")
    return next(iter(step.items()))


def _river_class(name: str) -> Any:  # noqa: ANN401 - a class of River's
    if name == "thalweg.Clip":
        return Clip
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(f"river.{module}"), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"online.model: River has no {name!r}; expected such as 'linear_model.LogisticRegression'"
        ) from error
    if not (isinstance(found, type) and issubclass(found, base.Base)):
        raise ConfigError(f"online.model: {name!r} is not a model, a transformer or a part of one")
    return found
