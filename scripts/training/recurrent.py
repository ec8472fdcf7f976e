"""A stack of recurrent layers in an ONNX graph, and what the manifest says of it.

Owns the mapping from the cells' equations to ONNX operators, and which graphs a stack needs. Knows nothing of what stands before
and behind the stack, of files or of verification. ONNX's GRU has gate order z, r, h and updates h = (1 - z) c + z h_prev: for the
paper's cell, whose Z takes the new, the update gate's weights and bias are negated, since sigmoid(-a) = 1 - sigmoid(a). ONNX's
LSTM has gate order i, o, f, c. ONNX adds two biases for each gate; here the second is 0 except inside the reset of `reset_after`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from app.manifest import Cell, StateSpec
from app.runtime import CPU, CUDA
from scripts.training import unrolled
from scripts.training.nodes import Graph
from scripts.training.reference import Array, GRUWeights, LSTMWeights, Weights
from scripts.training.stack import Stack

GRAPH_NAME, CUDA_GRAPH_NAME = "model.onnx", "model.cuda.onnx"
CHUNK = 32  # steps per call of the graph for CUDA, which joins as many tensors: see placement.MOST_JOINED

Array32 = NDArray[np.float32]


def add_stack(g: Graph, stack: Stack, features: str, *, state: bool = True, lengths: bool = True, chunk: int | None = None) -> str:
    """Add the layers, the tensor hn and, if there are LSTMs, cn; returns the name of the last layer's h (time, batch, hidden).

    features: the name of a tensor (time, batch, input_size). Reads the graph's inputs lengths (batch,) int32, h0 (layers, batch,
    hidden) and, if there are LSTMs, c0 (LSTMs, batch, hidden). hn and cn have the layout of h0 and c0.
    `lengths`: without them, every sequence fills its row; `state`: without it, all start from zeros, and there is no hn or cn.
    `chunk`: build the paper's cell of operators that CUDA has kernels for (ValueError for another cell). Each call then takes
    exactly `chunk` steps, at most CHUNK to be recorded, and a length may be 0, which leaves the state as it is.
    """
    layers = stack.weights()
    if chunk is not None:
        if not (state and lengths):
            raise ValueError("a graph that takes a sequence in chunks takes lengths and states, or it would not know where it is")
        return _in_chunks(g, layers, features, chunk)
    operands = [_operands(weights) for weights in layers]
    lstms = [index for index, weights in enumerate(layers) if isinstance(weights, LSTMWeights)]
    starts = [[""] for _ in layers]
    if state:
        starts = [[name] for name in g.split("h0", [f"h0_{index}" for index in range(len(layers))], axis=0)]
        if lstms:
            for index, name in zip(lstms, g.split("c0", [f"c0_{index}" for index in lstms], axis=0), strict=True):
                starts[index].append(name)
    directions = g.constant("axis_of_directions", np.array([1]))
    states = features
    for index, ((operator, W, R, B, attributes), start) in enumerate(zip(operands, starts, strict=True)):
        weights = [g.constant(f"{name}_{index}", array) for name, array in (("W", W), ("R", R), ("B", B))]
        ends = [f"{name}n_{index}" for name in ("hc" if index in lstms else "h")] if state else []
        inputs = [states, *weights, "lengths" if lengths else "", *start]
        name = f"{operator.lower()}_{index}"
        g.nodes.append(
            helper.make_node(operator, inputs, [f"Y_{index}", *ends], name=name, hidden_size=stack.hidden_size, **attributes)
        )
        states = g.add("Squeeze", [f"Y_{index}", directions], f"states_{index}")
    if state:
        g.add("Concat", [f"hn_{index}" for index in range(len(layers))], "hn", axis=0)
        if lstms:
            g.add("Concat", [f"cn_{index}" for index in lstms], "cn", axis=0)
    return states


def _in_chunks(g: Graph, layers: list[Weights], features: str, chunk: int) -> str:
    if others := sorted({weights.kind for weights in layers} - {"reset_before"}):
        raise ValueError(f"the cell {', '.join(others)} is not built of ordinary operators: there is one for it")
    cells = [weights for weights in layers if isinstance(weights, GRUWeights)]
    states = unrolled.add_cell(g, cells, features, steps=chunk)
    hidden = len(cells[0].b)
    ends = [hidden * (len(cells) - 1), hidden * len(cells)]  # of the last layer among all layers
    bounds = [g.constant(name, np.array([value])) for name, value in zip(("last_begin", "last_end"), ends, strict=True)]
    return g.add("Slice", [states, *bounds, g.constant("axis_of_layers", np.array([2]))], "last_states")


def _operands(w: Weights) -> tuple[str, Array32, Array32, Array32, dict[str, Any]]:
    """The operator, its W (1, gates x hidden, inputs), R (1, gates x hidden, hidden), B (1, 2 gates x hidden) and attributes."""
    attributes: dict[str, Any] = {}
    match w:
        case GRUWeights():
            sign = -1.0 if w.kind == "reset_before" else 1.0  # torch's Z already keeps the old where it is near 1
            operator, gates = "GRU", [(sign * w.W_z, sign * w.b_z), (w.W_r, w.b_r), (w.W, w.b)]
            inside: Array = np.concatenate([np.zeros(2 * len(w.b)), w.b_h])
            attributes["linear_before_reset"] = int(w.kind == "reset_after")
        case LSTMWeights():
            operator, gates = "LSTM", [(w.W_i, w.b_i), (w.W_o, w.b_o), (w.W_f, w.b_f), (w.W_g, w.b_g)]
            inside = np.zeros(4 * len(w.b_i))
        case _:
            operator, gates, inside = "RNN", [(w.W, w.b)], np.zeros(len(w.b))
    rows = np.concatenate([matrix for matrix, _ in gates])
    hidden = len(gates[0][1])
    bias = np.concatenate([*(bias for _, bias in gates), inside])
    W, R, B = (array[None].astype(np.float32) for array in (rows[:, hidden:], rows[:, :hidden], bias))
    return operator, W, R, B, attributes


def states_of(kinds: Sequence[str], hidden: int) -> tuple[StateSpec, ...]:
    """The states of a stack as the manifest lists them, in the order of Stack.shapes."""
    found = [StateSpec(input="h0", output="hn", shape=(len(kinds), hidden), batch_axis=1)]
    if lstms := list(kinds).count("lstm"):
        found.append(StateSpec(input="c0", output="cn", shape=(lstms, hidden), batch_axis=1))
    return tuple(found)


def cell_of(kinds: Sequence[str], hidden: int, bias: bool) -> Cell:
    """The cell as the manifest names it: one name for all layers, or one for each."""
    variant = kinds[0] if len(set(kinds)) == 1 else tuple(kinds)
    return Cell.model_validate({"variant": variant, "hidden_size": hidden, "num_layers": len(kinds), "bias": bias})


def graphs_of(kinds: Sequence[str], *, chunked: bool = False) -> dict[str, str]:
    """The file name of each execution provider's graph; CUDA has one only if all its nodes run there.

    CUDA has no kernel for the paper's cell, a GRU operator that resets before the product. A stack of this cell alone can have a
    second graph for CUDA: `chunked` lists it, and the caller then writes both, the second with add_stack(chunk=CHUNK).
    """
    if "reset_before" not in kinds:
        return {CPU: GRAPH_NAME, CUDA: GRAPH_NAME}
    if chunked and set(kinds) == {"reset_before"}:
        return {CPU: GRAPH_NAME, CUDA: CUDA_GRAPH_NAME}
    return {CPU: GRAPH_NAME}
