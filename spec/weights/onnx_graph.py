"""The weights in an ONNX graph: of the operators that hold some, under the names of the modules that they came from.

Initializers alone do not tell what they are: exporters name some of them by numbers, transpose kernels and pack gates.
So each is named after its node: "NAME.W" of a recurrence, "NAME.kernel" of a product, "NAME.weight" of a norm. Needs
onnx, an extra.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from spec.errors import UsageError, shorten
from spec.weights import sizes
from spec.weights.held import Held

RECURRENT = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
}
"""Operators, each with the functions that it computes unless it says others."""

SPECIAL = re.compile(r"(.*\.)?(in_proj_bias|bias_(ih|hh)(_l\d+(_reverse)?)?)")
"""Names of biases that tell more than that they are of some product."""

NONLINEARITIES = {"Tanh": "tanh", "Relu": "relu"}
"""Of an RNN, as a model's field has them."""


def read(path: Path) -> Held:
    """Arrays by the names of their modules. Raises UsageError for a graph whose weights mean something else."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        tensors = list(model.graph.initializer)
        _check_sizes(path, tensors)
        load_external_data_for_model(model, str(path.parent.absolute()))
        graph = _Graph(path, model.graph)
        found = dict(graph.modules())
    # What may be wrong with a file the library raises as many things.
    except (DecodeError, OSError, ValueError, TypeError, KeyError, RuntimeError, onnx.checker.ValidationError) as error:
        raise UsageError(f"{path}: expected an ONNX file, got one that cannot be read: {shorten(str(error))}") from None
    if not found:
        raise UsageError(f"{path}: expected an ONNX graph with weights, got none in its {len(model.graph.node)} nodes")
    return Held(found, (), graph.requires)


def _bytes(tensor: TensorProto) -> int:
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return dtype.itemsize * int(np.prod([int(size) for size in tensor.dims], dtype=object))


def _check_sizes(path: Path, tensors: list[TensorProto]) -> None:
    """Raise UsageError for more than there can be, and where what is kept in files beside it is not there."""
    outside = [tensor for tensor in tensors if uses_external_data(tensor)]
    sizes.check(path, sum(_bytes(tensor) for tensor in tensors if not uses_external_data(tensor)))
    for tensor in outside:
        place = next((one.value for one in tensor.external_data if one.key == "location"), "")
        if Path(place).name != place:
            raise UsageError(f"{path}: {tensor.name}: expected its data in a file beside it, got {shorten(place)!r}")
        if not (path.parent / place).is_file():
            raise UsageError(f"{path}: expected {shorten(place)} beside it, which has its weights, got no such file")
        sizes.check(path.parent / place, _bytes(tensor), tensor.name)


class _Graph:
    """A graph, and what is constant in it."""

    def __init__(self, path: Path, graph: Any):
        self.path = path
        self.graph = graph
        self.requires: dict[str, Any] = {}
        self.arrays = {one.name: _array(one) for one in graph.initializer}
        self.names: dict[str, str] = {name: name for name in self.arrays}
        self.taken: set[str] = set()
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            self._fold(node)
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def _fold(self, node: NodeProto) -> None:
        """A constant, or one that is only put otherwise."""
        values = _attributes(node)
        if node.op_type == "Constant" and isinstance(values.get("value"), TensorProto):
            self.arrays[node.output[0]] = _array(values["value"])
            self.names[node.output[0]] = node.output[0]
        elif node.op_type in ("Identity", "Transpose") and node.input[0] in self.arrays:
            array = self.arrays[node.input[0]]
            if node.op_type == "Transpose":
                array = array.transpose(values.get("perm"))
            self.arrays[node.output[0]] = array
            self.names[node.output[0]] = self.names[node.input[0]]

    def modules(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and array, one after the other, in the order of computation."""
        for number, node in enumerate(self.graph.node):
            given = [self.arrays.get(name) if name else None for name in node.input]
            operator = node.op_type
            if operator in RECURRENT:
                yield from self._recurrent(number, node, given)
            elif operator == "Gather" and given[0] is not None and given[0].ndim == 2:
                yield f"{self._module(number, node, 0)}.embedding", given[0]
            elif operator == "MatMul" and len(given) == 2 and given[1] is not None and given[0] is None:
                yield from self._product(number, node, given[1])
            elif operator == "Gemm" and given[1] is not None and given[0] is None:
                values = _attributes(node)
                if values.get("alpha", 1.0) != 1.0 or values.get("beta", 1.0) != 1.0 or values.get("transA", 0):
                    raise self._other(node, "alpha = beta = 1 and transA = 0", "others")
                name = self._module(number, node, 2, 1)
                # As a product takes it, (in, out), or transposed, as modules that keep (out, in) are exported.
                yield f"{name}.{'weight' if values.get('transB', 0) else 'kernel'}", given[1]
                if len(given) > 2 and given[2] is not None:
                    yield f"{name}.bias", given[2]
            elif operator == "LayerNormalization" and given[1] is not None:
                name = self._module(number, node, 2, 1)
                self._require(node, "layer_norm_epsilon", float(_attributes(node).get("epsilon", 1e-5)))
                yield f"{name}.weight", given[1]
                if len(given) > 2 and given[2] is not None:
                    yield f"{name}.bias", given[2]

    def _recurrent(
        self, number: int, node: NodeProto, given: list[np.ndarray | None]
    ) -> Iterator[tuple[str, np.ndarray]]:
        values, operator = _attributes(node), node.op_type
        directions = 2 if values.get("direction", b"forward") == b"bidirectional" else 1
        if values.get("direction") == b"reverse":
            raise self._other(node, "direction forward or bidirectional", "reverse")
        functions = tuple(one.decode() for one in values.get("activations", ())) or RECURRENT[operator] * directions
        if operator == "RNN" and len(set(functions)) == 1 and functions[0] in NONLINEARITIES:
            self._require(node, "nonlinearity", NONLINEARITIES[functions[0]])
        elif functions != RECURRENT[operator] * directions:
            raise self._other(node, f"activations {', '.join(RECURRENT[operator])}", ", ".join(functions))
        if operator == "GRU" and not values.get("linear_before_reset", 0):
            raise self._other(
                node, "linear_before_reset = 1, the reset gate after the product", "0, another recurrence"
            )
        for key in ("clip", "input_forget"):
            if values.get(key):
                raise self._other(node, f"no {key}", str(values[key]))
        if operator == "LSTM" and len(node.input) > 7 and node.input[7]:
            raise self._other(node, "no peepholes", "some")
        # Without a name of its own: numbered as they follow each other.
        name = f"node.{number:06d}_{operator}"
        for leaf, array in zip(("W", "R", "B"), given[1:4], strict=False):
            if array is not None:
                yield f"{name}.{leaf}", array
            elif leaf != "B" or (len(node.input) > 3 and node.input[3]):
                raise self._other(node, f"a constant {leaf}", "one that is computed")

    def _product(self, number: int, node: NodeProto, kernel: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """A product, and the constant that is added to it: a bias."""
        bias = None
        readers = self.readers.get(node.output[0], [])
        if len(readers) == 1 and readers[0].op_type == "Add":
            other = next((one for one in readers[0].input if one != node.output[0]), "")
            bias, called = self.arrays.get(other), self.names.get(other, "")
            if bias is not None and SPECIAL.fullmatch(called):
                # Steps that were unrolled, or a packed projection: its bias alone has kept its name.
                yield "weight".join(called.rsplit("bias", 1)), kernel.T
                yield called, bias
                self._unrolled(called)
                return
            if bias is not None:
                node = helper.make_node("Gemm", [*node.input, other], node.output, name=node.name)
        name = self._module(number, node, 2, 1)
        yield f"{name}.kernel", kernel
        if bias is not None and bias.ndim == 1:
            yield f"{name}.bias", bias

    def _unrolled(self, name: str) -> None:
        """Of recurrent steps one by one: what they compute with, where the graph has only one such function."""
        found = {node.op_type for node in self.graph.node} & NONLINEARITIES.keys()
        gated = any(node.op_type == "Sigmoid" for node in self.graph.node)
        if "_hh" in name and len(found) == 1 and not gated:
            self.requires["nonlinearity"] = NONLINEARITIES[found.pop()]

    def _module(self, number: int, node: NodeProto, *positions: int) -> str:
        """An initializer's name without what it is of the module; the node's where an exporter named it by number.

        Equal initializers are stored once, under one name: a module whose name another has is called after its node.
        """
        for name in [self.names.get(node.input[place], "") for place in positions if place < len(node.input)]:
            found = re.sub(r"[._](weight|kernel|embedding|scale|bias)$", "", name)
            if "::" not in name and "." in name and found not in self.taken:
                break
        else:
            own = [part for part in re.split(r"[/.:]+", node.name) if part]
            found = ".".join(own[:-1] if len(own) > 1 else [f"node_{number:06d}"])
        self.taken.add(found)
        return found

    def _require(self, node: NodeProto, field: str, value: Any) -> None:
        if self.requires.setdefault(field, value) != value:
            raise self._other(node, f"{field} {self.requires[field]}, as the one before", str(value))

    def _other(self, node: NodeProto, expected: str, got: str) -> UsageError:
        return UsageError(f"{self.path}: {node.op_type} {node.name}: expected {expected}, got {got}")


def _attributes(node: NodeProto) -> Mapping[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _array(tensor: TensorProto) -> np.ndarray:
    """In a type of NumPy's own: what it lacks has a way to float32 of its own."""
    array = numpy_helper.to_array(tensor)
    return array.astype(np.float32) if array.dtype.kind == "V" else array
