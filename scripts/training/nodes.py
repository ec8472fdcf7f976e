"""An ONNX graph under construction: its nodes and constants.

Owns how they are added. Knows nothing of what they compute.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class Graph:
    """Every method returns the names of what it added."""

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
        """The input in equal parts."""
        self.nodes.append(helper.make_node("Split", [input], outputs, name=f"split_{input}", axis=axis, num_outputs=len(outputs)))
        return outputs
