"""An ONNX graph under construction: its nodes and constants, and the model that they become.

Owns how they are added, and for which versions of ONNX a model is written. Knows nothing of what the nodes compute.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10  # what goes with opset 20; older ONNX Runtimes read it too


class Graph:
    """Every method but `model` returns the names of what it added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """A node with one output, which names it."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def split(self, input: str, outputs: list[str], *, axis: int) -> list[str]:
        """Cut the input into equal parts along an axis."""
        self.nodes.append(helper.make_node("Split", [input], outputs, name=f"split_{input}", axis=axis, num_outputs=len(outputs)))
        return outputs

    def model(self, name: str, *, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The finished model, checked: onnx.checker.ValidationError where it is not a sound one."""
        made = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="recurve")
        proto.ir_version = IR_VERSION
        onnx.checker.check_model(proto, full_check=True)
        return proto


def tensor(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """An input or output of a model; an axis of any length has a name."""
    return helper.make_tensor_value_info(name, kind, shape)
