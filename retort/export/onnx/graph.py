"""A graph for ONNX Runtime, node by node: what it takes, what it holds, what it gives.

Products with weights are float32, or int8 with the scale of each output column (no calibration: the input is quantised
as it comes). Contributed operators of ONNX Runtime (domain com.microsoft) are used where they are faster than the plain
ones; ``SkipLayerNormalization`` is not, and so it is left alone.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from retort.export.precision import Precision

OPERATORS, CONTRIBUTED = 20, "com.microsoft"
"""Version of the operators' set, and the domain of ONNX Runtime's own."""
FORMAT = 10
"""Version of the file format, the first one with these operators."""

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


class Form(NamedTuple):
    """What can be chosen about a graph."""

    precision: Precision
    has_shortlist: bool = False
    """Whether it scores only tokens that it is given as an input."""


class Graph:
    """Nodes and constants; values are named by strings."""

    def __init__(self, form: Form) -> None:
        self.precision, self.has_shortlist = form
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def input(self, name: str, kind: int, *shape: str | int) -> str:
        """An input of this type and shape; sizes that differ between calls have names."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, value: str, kind: int, *shape: str | int) -> None:
        """Give ``value`` as an output."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def constant(self, array: Any) -> str:
        """A constant; equal ones are kept once."""
        array = np.asarray(array, order="C")
        key = (str(array.dtype), array.shape, hashlib.sha256(array).digest())
        if key not in self._names:
            self._names[key] = f"constant_{len(self._constants)}"
            self._constants.append(numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def integers(self, *values: int) -> str:
        """A vector of int64, such as shapes and axes."""
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The output of a node that has one."""
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        """The outputs of a node."""
        name = f"{kind}_{len(self._nodes)}"
        names = [f"{name}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return names

    def product(self, x: str, weight_ok: np.ndarray, bias_o: np.ndarray | None = None) -> str:
        """x weight' + bias."""
        weight_ko = np.ascontiguousarray(weight_ok.T)
        bias = [] if bias_o is None else [self.constant(bias_o)]
        if self.precision == "int8":
            quantised_ko, scale_o = quantised(weight_ko)
            zero = np.zeros(scale_o.shape, np.int8)
            constants = [self.constant(quantised_ko), self.constant(scale_o), self.constant(zero)]
            return self.op("DynamicQuantizeMatMul", x, *constants, *bias, domain=CONTRIBUTED)
        y = self.op("MatMul", x, self.constant(weight_ko))
        return self.op("Add", y, *bias) if bias else y

    def product_of_rows(self, x: str, weight_ok: np.ndarray, rows: str) -> str:
        """The columns of x weight' that belong to some rows of the weight, whose numbers are a value of the graph."""
        if self.precision == "int8":
            quantised_ko, scale_o = quantised(np.ascontiguousarray(weight_ok.T))
            weight = self.op("Gather", self.constant(np.ascontiguousarray(quantised_ko.T)), rows, axis=0)
            scale = self.op("Gather", self.constant(scale_o), rows, axis=0)
            transposed = self.op("Transpose", weight, perm=[1, 0])
            return self.op("DynamicQuantizeMatMul", x, transposed, scale, domain=CONTRIBUTED)
        weight = self.op("Gather", self.constant(weight_ok), rows, axis=0)
        return self.op("MatMul", x, self.op("Transpose", weight, perm=[1, 0]))

    def rows(self, table: str, count: str, axis: int = 0) -> str:
        """The first ``count`` [1] entries of ``table`` along an axis."""
        return self.op("Slice", table, self.integers(0), count, self.integers(axis))

    def slice(self, x: str, first: int, stop: int | None, axis: int) -> str:
        """x[..., first:stop, ...] along an axis."""
        end = np.iinfo(np.int64).max if stop is None else stop
        return self.op("Slice", x, self.integers(first), self.integers(end), self.integers(axis))

    def split(self, x: str, *widths: int) -> list[str]:
        """Parts of these widths of the last axis."""
        return self.ops("Split", len(widths), x, self.integers(*widths), axis=-1)

    def reshape(self, x: str, *shape: int) -> str:
        """0 keeps a size, -1 is what is left."""
        return self.op("Reshape", x, self.integers(*shape))

    def width(self, x: str) -> str:
        """Size [1] of the second axis."""
        return self.op("Shape", x, start=1, end=2)

    def model(self) -> onnx.ModelProto:
        """The finished graph."""
        graph = helper.make_graph(self._nodes, "retort", self._inputs, self._outputs, self._constants)
        sets = [helper.make_opsetid("", OPERATORS), helper.make_opsetid(CONTRIBUTED, 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=FORMAT, producer_name="retort")


def quantised(weight_ko: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 [k, o] and the scale of each column [o]."""
    scale_o = np.maximum(np.abs(weight_ko).max(0), 1e-12) / 127
    return np.clip(np.rint(weight_ko / scale_o), -127, 127).astype(np.int8), scale_o.astype(np.float32)


def array(tensor: Tensor) -> np.ndarray:
    """The values of a weight, float32."""
    values: np.ndarray = tensor.detach().float().cpu().numpy()
    return values
