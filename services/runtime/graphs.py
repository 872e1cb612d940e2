"""Which ONNX graphs are loaded: those of the operators that our networks are made of, with all their numbers in them.

An ONNX file may name other files to be read, bring functions and operators of libraries, and loops; and a few bytes of
it may ask for any amount of memory. None of that is in what `trainer` exports, so none of it is loaded, whoever signed
it. Triton's environment has no `onnx`, so this reads the few fields that matter from Protocol Buffers' wire format.
https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from collections.abc import Iterator
from math import prod
from typing import TypeAlias

from services.runtime.errors import Stop

OPERATORS = frozenset(
    [
        *("Abs", "Add", "Cast", "Clip", "Concat", "Div", "GRU", "Gather", "Gemm", "IsNaN", "LayerNormalization", "Log"),
        *("MatMul", "Mul", "Not", "Relu", "Reshape", "Sigmoid", "Sign", "Squeeze", "Sub", "Transpose", "Where"),
    ]
)
BYTES = {1: 4, 7: 8}  # of a float and of an int64, by their numbers in TensorProto.DataType
Bytes: TypeAlias = memoryview
Value: TypeAlias = int | Bytes

# The numbers of the fields
_GRAPH, _OPSET, _MODEL_FIELDS = 7, 8, {1, 2, 3, 4, 5, 6, 7, 8}  # the rest are training, functions and settings
_NODE, _INITIALIZER, _GRAPH_FIELDS = 1, 5, {1, 2, 5, 10, 11, 12, 13}  # the rest are sparse and quantised tensors
_OPERATOR, _ATTRIBUTE, _DOMAIN, _NODE_FIELDS = 4, 5, 7, {1, 2, 3, 4, 5, 6, 7}
_ATTRIBUTE_FIELDS = {1, 2, 3, 4, 7, 8, 9, 13, 20}  # a name, and numbers or text; the rest are tensors and graphs
_DIMENSION, _TYPE, _RAW, _TENSOR_FIELDS = (
    1,
    2,
    9,
    {1, 2, 8, 9, 12},
)  # the rest are other files, and other values


def check(model: bytes) -> None:
    """Raise Stop for a model that is none of ours: see above."""
    try:
        _model(memoryview(model))
    except (IndexError, ValueError, TypeError) as error:
        raise Stop(f"{len(model)} bytes are no ONNX graph: {error}") from error


def _model(model: Bytes) -> None:
    graphs = 0
    for number, value in _fields(model, _MODEL_FIELDS, "a model"):
        if number == _GRAPH:
            _graph(_bytes(value))
            graphs += 1
        elif number == _OPSET:
            _expect_no_domain(dict(_wire(_bytes(value))).get(1, memoryview(b"")))
    if graphs != 1:
        raise ValueError(f"it has {graphs} graphs")


def _graph(graph: Bytes) -> None:
    for number, value in _fields(graph, _GRAPH_FIELDS, "a graph"):
        if number == _NODE:
            _node(_bytes(value))
        elif number == _INITIALIZER:
            _tensor(_bytes(value))


def _node(node: Bytes) -> None:
    for number, value in _fields(node, _NODE_FIELDS, "a node"):
        if number == _OPERATOR and (name := _text(value)) not in OPERATORS:
            raise _refused(f"the operator {name!r:.100}")
        if number == _DOMAIN:
            _expect_no_domain(value)
        if number == _ATTRIBUTE:
            for _ in _fields(_bytes(value), _ATTRIBUTE_FIELDS, "an attribute"):
                pass


def _tensor(tensor: Bytes) -> None:
    """Expect that its values are in it, all of them and no other."""
    shape, kind, held = list[int](), 0, 0
    for number, value in _fields(tensor, _TENSOR_FIELDS, "a tensor"):
        if number == _DIMENSION:
            shape += [value] if isinstance(value, int) else _packed(value)
        elif number == _TYPE:
            kind = value if isinstance(value, int) else 0
        elif number == _RAW:
            held = len(_bytes(value))
    if prod(shape) * BYTES.get(kind, 0) != held or kind not in BYTES:
        raise _refused(f"a tensor of shape {str(shape)[:100]} and type {kind} in {held} bytes")


def _expect_no_domain(value: Value) -> None:
    if (domain := _text(value)) not in ("", "ai.onnx"):
        raise _refused(f"the domain {domain!r:.100}")


def _refused(what: str) -> Stop:
    return Stop(f"{what} is in no graph that is exported here: it was not loaded")


# The wire format


def _fields(message: Bytes, known: set[int], where: str) -> Iterator[tuple[int, Value]]:
    """Yield the fields of a message; raise Stop for one that is not known."""
    for number, value in _wire(message):
        if number not in known:
            raise _refused(f"field {number} of {where}")
        yield number, value


def _wire(message: Bytes) -> Iterator[tuple[int, Value]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:  # noqa: PLR2004 - as in the specification
            size, at = _varint(message, at)
        if (not size and kind != 2) or size > len(message) - at:  # noqa: PLR2004
            raise ValueError(f"a field of kind {kind} and {size} bytes at {at} of {len(message)}")
        yield number, message[at : at + size]
        at += size


def _varint(message: Bytes, at: int) -> tuple[int, int]:
    found = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the last of a number
            return found, at
    raise ValueError(f"a number longer than ten bytes at {at}")


def _packed(values: Bytes) -> list[int]:
    found, at = list[int](), 0
    while at < len(values):
        value, at = _varint(values, at)
        found.append(value)
    return found


def _bytes(value: Value) -> Bytes:
    if isinstance(value, int):
        raise TypeError("a number where a message was expected")
    return value


def _text(value: Value) -> str:
    return bytes(_bytes(value)).decode()
