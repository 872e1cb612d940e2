"""Which graphs are loaded: every one that is exported, and none that reaches beyond itself."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.runtime import graphs
from services.runtime.errors import Stop
from services.trainer.export import build
from services.trainer.networks import Layout
from tests.unit.test_trainer_export import KINDS, LAYOUT, network

Change = Callable[[onnx.ModelProto], None]
LAYOUTS = [LAYOUT, Layout((0, 1), ()), Layout((), ((0, 1, 2), (3, 4)))]


def models() -> list[onnx.ModelProto]:
    return [onnx.load_from_string(build(network(kind, layout))) for kind in ("mlp", "gru") for layout in LAYOUTS]


@KINDS
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_exported_is_loaded(kind: str, layout: Layout) -> None:
    """A graph of every kind of network and of layout passes."""
    graphs.check(build(network(kind, layout)))


def test_no_operator_is_allowed_that_is_not_exported() -> None:
    """The list is what the exporter writes, and no more."""
    assert {node.op_type for model in models() for node in model.graph.node} == graphs.OPERATORS


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_beside(model: onnx.ModelProto) -> None:
    """Name a file as well as the values."""
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")


def huge(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40]


def negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-1]


def asked_for(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("ConstantOfShape", ["rows"], ["much"]))


def in_a_node(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(3))))


def looped(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], [])))


def of_a_library(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def of_a_library_s_version(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def with_a_function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("d", "f", [], [], [], []))


def with_settings(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="ort_config", value="{}")


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def text(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].string_data.append(b"text")


@pytest.mark.parametrize(
    "change",
    [
        *(external, external_beside, huge, negative, asked_for, in_a_node, looped, of_a_library),
        *(of_a_library_s_version, with_a_function, with_settings, sparse, text),
    ],
    ids=lambda change: change.__name__,
)
def test_what_reaches_beyond_its_numbers_is_refused(change: Change) -> None:
    """Other files, libraries, loops, functions, and memory that was only asked for."""
    [model, *_] = models()
    graphs.check(model.SerializeToString())
    change(model)
    with pytest.raises(Stop, match="is in no graph that is exported here"):
        graphs.check(model.SerializeToString())


def test_what_is_no_graph_is_refused() -> None:
    """Cut anywhere, or of other bytes: Stop, and no other error."""
    good = build(network("mlp"))
    cut = [good[:length] for length in [*range(300), *range(300, len(good), 97)]]
    for bad in [*cut, b"no graph", bytes(100), b"\xff" * 100, good + good]:
        with pytest.raises(Stop):
            graphs.check(bad)
