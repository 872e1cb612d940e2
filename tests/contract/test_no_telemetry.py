"""No library of ours reports home: ONNX Runtime's telemetry is off wherever we load it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.contract.test_layers import ROOT, files, here, tops

SWITCH = "ORT_DISABLE_TELEMETRY"
SESSION = """from services.runtime.onnx_session import open_session
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "made", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
open_session(model.SerializeToString()).run(None, {"x": [1]})
"""


def test_the_library_has_the_switch() -> None:
    """The installed ONNX Runtime reads the variable that we set: of another name it would be of no use."""
    folder = Path(next(path for path in sys.path if (Path(path) / "onnxruntime").is_dir())) / "onnxruntime" / "capi"
    (library,) = folder.glob("onnxruntime_pybind11_state*.so")
    assert f"{SWITCH}\0".encode() in library.read_bytes()


def test_a_session_leaves_no_trace(tmp_path: Path) -> None:
    """In a process of its own, no identifier of the device and no queue of events is made.

    Both are the first thing that it does where its telemetry is on, before it looks for its server.
    """
    kept = {name: value for name, value in os.environ.items() if name not in (SWITCH, "XDG_CACHE_HOME")}
    environment = {**kept, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", SESSION], env=environment, cwd=ROOT, check=True, timeout=120)
    assert [str(path) for path in tmp_path.rglob("*") if "onnxruntime" in str(path).lower()] == []


def test_nobody_loads_it_another_way() -> None:
    """What is true of its one home is true of all: services, the models in Triton, commands, tests and load tests."""
    loading = [path for path in files("services", "infra", "loadtests", "tests") if "onnxruntime" in tops(path)]
    assert [here(path) for path in loading] == ["runtime/onnx_session.py"]
