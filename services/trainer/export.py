"""A network becomes one ONNX graph, FEATURES (rows, columns) to SCORE (rows), and is held against it before it's used.

The graph is written node by node: it is a dozen operators, and PyTorch's exporter would bring a second compiler along.
That both say the same is no matter of trust, since no graph leaves here that was not compared with its network.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from services.runtime.errors import Stop
from services.runtime.onnx_session import InferenceSession, open_session
from services.trainer.networks import FARTHEST, Block, Encoder, Floats, Network, scores

INPUT, OUTPUT = "FEATURES", "SCORE"
OPSET, IR = 17, 8  # ONNX Runtime reads them since 1.12
ROWS = 10_000  # compared
TOLERANCE = 1e-5
GRU = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
SINGLE = 10  # rows that are also asked for one by one


def export(network: Network, rows: Floats) -> bytes:
    """Return the network's graph, compared with it over these rows, repeated up to 10,000 of them.

    Raise Stop where a score is not a finite number, or they differ by more than 1e-5 anywhere.
    """
    graph = build(network)
    check(graph, partial(scores, network), rows[np.arange(ROWS) % len(rows)] if len(rows) < ROWS else rows)
    return graph


def check(graph: bytes, expected: Callable[[Floats], Floats], rows: Floats) -> float:
    """Return the largest difference between the graph's scores and those expected; raise Stop if it is too large."""
    session = open_session(graph)
    ours, theirs = expected(rows), _run(session, rows)
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise Stop("the network's scores are not all finite numbers: it was not exported; train it again")
    singly = np.concatenate([_run(session, row[None]) for row in rows[:SINGLE]])
    apart = max(float(np.abs(ours - theirs).max()), float(np.abs(ours[:SINGLE] - singly).max()))
    if apart > TOLERANCE:
        raise Stop(f"the ONNX graph and its network differ by {apart:.2g}, more than {TOLERANCE}: it was not exported")
    return apart


def _run(session: InferenceSession, rows: Floats) -> Floats:
    (found,) = session.run([OUTPUT], {INPUT: rows})
    if found.shape != (len(rows),):
        raise Stop(f"the ONNX graph gave scores of shape {found.shape} for {len(rows)} rows: it was not exported")
    return np.asarray(found)


def build(network: Network) -> bytes:
    """Return the network's graph, unchecked."""
    graph = _Graph()
    seen = (
        _encode(graph, network.encoder, INPUT) if network.memory is None else _remember(graph, network, network.memory)
    )
    x = graph.linear("stem", network.stem, seen)
    for block in cast("Iterable[Block]", network.blocks):
        inner = graph.linear("widen", block.widen, graph.norm("norm", block.norm, x))
        x = graph.add("Add", x, graph.linear("narrow", block.narrow, graph.add("Relu", inner)))
    raw = graph.linear("head", network.head, graph.add("Relu", graph.norm("norm", network.norm, x)))
    raw = graph.add("Reshape", raw, graph.constant("rows", np.array([-1])))
    logits = graph.add("Sub", raw, graph.constant("shift", network.shift.numpy()))
    logits = graph.add("Div", logits, graph.constant("temperature", network.temperature.numpy()))
    graph.add("Sigmoid", logits, outputs=[OUTPUT])
    return graph.model(network.shape.vectors * network.layout.width)


def _encode(graph: "_Graph", encoder: Encoder, vectors: str) -> str:
    parts = []
    if encoder.layout.numbers:
        numbers = graph.columns(vectors, encoder.layout.numbers)
        z = graph.add("Sub", numbers, graph.constant("centre", encoder.centre.numpy()))
        z = graph.add("Mul", z, graph.constant("inverse", encoder.inverse.numpy()))
        z = graph.clip(z, -FARTHEST, FARTHEST)
        far = graph.add("Add", graph.add("Abs", z), graph.constant("one", np.float32(1)))
        parts.append(graph.add("Mul", graph.add("Sign", z), graph.add("Log", far)))
    for group, embedding in zip(encoder.layout.groups, cast("Iterable[nn.Linear]", encoder.embeddings), strict=True):
        one_hot = graph.clip(graph.columns(vectors, group), 0, 1)
        parts.append(graph.add("MatMul", one_hot, graph.constant("embedding", _numpy(embedding.weight).T)))
    return graph.add("Concat", *parts, axis=-1)


def _remember(graph: "_Graph", network: Network, memory: nn.GRU) -> str:
    """Write `Network._remember`."""
    steps = network.shape.steps
    shape = graph.constant("vectors", np.array([-1, steps, network.layout.width]))
    vectors = graph.add("Reshape", INPUT, shape)
    there = graph.add("Not", graph.add("IsNaN", graph.columns(vectors, (0,))))
    present = graph.add("Where", there, vectors, graph.constant("zero", np.float32(0)))
    codes = _encode(graph, network.encoder, present)
    mark = graph.add("Cast", there, to=TensorProto.FLOAT)
    marked = graph.add("Mul", graph.add("Concat", codes, mark, axis=-1), mark)
    read, kept, *biases = (_gates(getattr(memory, f"{name}_l0")) for name in GRU)
    weights = (graph.constant("gru", value) for value in (read, kept, np.concatenate(biases, axis=1)))
    time_first = graph.add("Transpose", marked, perm=[1, 0, 2])
    last = graph.named("last")
    said = {"hidden_size": network.shape.width, "linear_before_reset": 1}
    graph.add("GRU", time_first, *weights, outputs=["", last], **said)
    newest = graph.add("Gather", codes, graph.constant("newest", np.array(steps - 1)), axis=1)
    return graph.add("Concat", newest, graph.add("Squeeze", last, graph.constant("axis", np.array([0]))), axis=-1)


def _numpy(weight: Tensor) -> Floats:
    found: Floats = weight.detach().numpy()
    return found


def _gates(weight: Tensor) -> Floats:
    """Return a GRU's weights as ONNX has them: the update gate before the reset gate, and an axis for the direction."""
    reset, update, new = np.split(_numpy(weight), 3)
    return np.concatenate([update, reset, new])[None]


class _Graph:
    """A graph in the making: each call adds a node or a constant and returns the name of what comes out."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._numbers: Iterator[int] = count()

    def named(self, what: str) -> str:
        return f"{what}_{next(self._numbers)}"

    def constant(self, what: str, value: NDArray[np.generic] | np.generic) -> str:
        name = self.named(what)
        self._constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def add(self, operator: str, *inputs: str, outputs: Sequence[str] = (), **attributes: object) -> str:
        made = list(outputs) or [self.named(operator.lower())]
        self._nodes.append(helper.make_node(operator, inputs, made, **attributes))
        return made[-1]

    def columns(self, of: str, which: Sequence[int]) -> str:
        return self.add("Gather", of, self.constant("columns", np.array(which)), axis=-1)

    def clip(self, of: str, low: float, high: float) -> str:
        return self.add("Clip", of, *(self.constant("bound", np.float32(bound)) for bound in (low, high)))

    def linear(self, what: str, layer: nn.Linear, of: str) -> str:
        weight, bias = self.constant(what, _numpy(layer.weight)), self.constant(f"{what}_bias", _numpy(layer.bias))
        return self.add("Gemm", of, weight, bias, transB=1)

    def norm(self, what: str, layer: nn.LayerNorm, of: str) -> str:
        weight, bias = self.constant(what, _numpy(layer.weight)), self.constant(f"{what}_bias", _numpy(layer.bias))
        return self.add("LayerNormalization", of, weight, bias, epsilon=layer.eps, axis=-1)

    def model(self, columns: int) -> bytes:
        takes = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", columns])
        gives = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows"])
        graph = helper.make_graph(self._nodes, "batch", [takes], [gives], self._constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="thalweg")
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())
