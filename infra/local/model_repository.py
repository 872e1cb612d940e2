"""Triton's model repository of a stream: each model's configuration, and the line of Python that names its class."""

from pathlib import Path

from services.runtime.models import BATCH, ONLINE
from services.runtime.stream import Stream

_CONFIG = """\
# The {kind} model of {name}: what it takes and gives is in services/inference/versioned_model.py.
backend: "python"
max_batch_size: 0
input: [
  {{ name: "FEATURES", data_type: TYPE_FP32, dims: [ -1, {columns} ] }},
  {{ name: "VERSION", data_type: TYPE_INT64, dims: [ 1 ] }}
]
output: [
  {{ name: "SCORE", data_type: TYPE_FP64, dims: [ -1 ] }},
  {{ name: "VERSION", data_type: TYPE_INT64, dims: [ 1 ] }}
]
instance_group: [ {{ kind: KIND_CPU, count: 1 }} ]
parameters: [
  {{ key: "data", value: {{ string_value: "{data}" }} }},
  {{ key: "stream", value: {{ string_value: "{name}" }} }},
  {{ key: "columns", value: {{ string_value: "{names}" }} }}
]
"""
_MODEL = "from services.inference.{kind}_model import TritonPythonModel\n\n__all__ = ['TritonPythonModel']\n"


def write_models(models: Path, data: Path, stream: Stream) -> tuple[str, ...]:
    """Write them into the folder `models`, and return their names; they read versions from `data`."""
    kinds = (ONLINE, BATCH) if stream.pipeline.batch else (ONLINE,)
    for kind in kinds:
        _write_model(models, kind, data, stream)
    return tuple(f"{stream.name}_{kind}" for kind in kinds)


def _write_model(models: Path, kind: str, data: Path, stream: Stream) -> None:
    folder = models / f"{stream.name}_{kind}"
    (folder / "1").mkdir(parents=True, exist_ok=True)
    names = "\\n".join(stream.columns).replace('"', '\\"')
    config = _CONFIG.format(kind=kind, name=stream.name, columns=len(stream.columns), data=data, names=names)
    (folder / "config.pbtxt").write_text(config)
    (folder / "1" / "model.py").write_text(_MODEL.format(kind=kind))
