"""An ONNX graph under construction: its nodes and constants, and the model that they become.

Owns how they are added, and which opset and IR version a model has. Knows nothing of what the nodes compute.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10  # a version that allows opset 20 and that older ONNX Runtimes read


class Graph:
    """A graph under construction. Every method but `model` returns the name or names of what it added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output, and name it like the output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def split(self, input: str, outputs: list[str], *, axis: int) -> list[str]:
        """Cut the input into equal parts along an axis."""
        self.nodes.append(helper.make_node("Split", [input], outputs, name=f"split_{input}", axis=axis, num_outputs=len(outputs)))
        return outputs

    def model(self, name: str, *, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The finished model; raises onnx.checker.ValidationError if it is not valid."""
        made = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="recurve")
        proto.ir_version = IR_VERSION
        onnx.checker.check_model(proto, full_check=True)
        return proto


def tensor(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """An input or output of a model; an axis of variable length is given by a name."""
    return helper.make_tensor_value_info(name, kind, shape)
