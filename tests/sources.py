"""The `source.py` of a stream folder, as a module."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load_source(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{folder.name}_source", folder / "source.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
