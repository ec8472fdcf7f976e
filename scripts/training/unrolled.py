"""The paper's cell built of ordinary operators, for a fixed number of steps: for execution providers that have no kernel for it.

ONNX Runtime's CUDA provider runs the GRU operator only with the reset after the product. Here every operator has a CUDA
kernel, and none of them is control flow, so that all can be recorded once and replayed. Owns these nodes; knows nothing
of what surrounds the cell.

On a GPU a small kernel takes as long as a larger one, so the layers work side by side: while the first is at step t,
the second is at step t - 1, whose input the first has just made, and so on. One state holds all layers, one product
makes the gates of all, and a sequence of n steps takes n + layers - 1 turns instead of n x layers. A layer whose turn
has not come, or whose sequence has ended, takes nothing of the candidate: its Z is multiplied by 0, and its state stays
the same to the last bit.
"""

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from scripts.training.nodes import Graph
from scripts.training.reference import GRUWeights

NEVER = np.iinfo(np.int32).max  # a step that no sequence has

Array32 = NDArray[np.float32]


def add_cell(g: Graph, layers: list[GRUWeights], features: str, *, steps: int) -> str:
    """Add nodes for `steps` steps and the output hn; returns the name of all layers' states (time, batch, layers x hidden).

    features: (time, batch, inputs), of exactly `steps` steps; reads the graph's inputs lengths (batch,), of 0 to `steps`, and h0
    (layers, batch, hidden). In the states, only the last `hidden` numbers, the last layer's, belong to their time step.
    hn: (layers, batch, hidden), equal to h0 where the length is 0.
    """
    count, hidden = len(layers), len(layers[0].b)
    width = count * hidden
    turns = steps + count - 1
    recurrent, candidate, first, bias = _stacked(layers)
    W, U = g.constant("W", recurrent), g.constant("U", candidate)  # what multiplies h, what multiplies R * h

    # -- all steps at once: what does not depend on the states -----------------------------------------------------
    products = g.add("MatMul", [features, g.constant("V", first)], "input_products")
    products = g.add("Add", [products, g.constant("bias", bias)], "input_sums")
    of_turn = g.split(products, [f"input_{turn}" for turn in range(steps)], axis=0)  # each (1, batch, 3 width)
    of_turn += ["bias"] * (count - 1)  # the first layer has ended, the others have yet to
    lengths = g.add("Reshape", ["lengths", g.constant("one_each", np.array([1, -1, 1]))], "lengths_column")
    step_of = np.arange(turns)[:, None] - np.arange(count)  # (turns, layers)
    when = np.where(step_of < 0, NEVER, step_of).astype(np.int32).repeat(hidden, axis=1)[:, None]  # (turns, 1, width)
    live = g.add("Cast", [g.add("Less", [g.constant("when", when), lengths], "is_live")], "live", to=1)  # float32
    masks = g.split(live, [f"live_{turn}" for turn in range(turns)], axis=0)

    # -- turn by turn ----------------------------------------------------------------------------------------------
    starts = g.add("Transpose", ["h0"], "h0_rows", perm=[1, 0, 2])
    h = g.add("Reshape", [starts, g.constant("one_row_each", np.array([1, -1, width]))], "h_start")
    every = []
    for turn, (inputs, mask) in enumerate(zip(of_turn, masks, strict=True)):
        sums = g.add("Add", [g.add("MatMul", [h, W], f"Wh_{turn}"), inputs], f"sums_{turn}")
        r, z, c = g.split(sums, [f"{name}_{turn}" for name in "rzc"], axis=2)
        R = g.add("Sigmoid", [r], f"R_{turn}")
        Z = g.add("Mul", [g.add("Sigmoid", [z], f"Z_{turn}"), mask], f"Z_live_{turn}")
        reset = g.add("MatMul", [g.add("Mul", [R, h], f"Rh_{turn}"), U], f"URh_{turn}")
        C = g.add("Tanh", [g.add("Add", [reset, c], f"c_sums_{turn}")], f"C_{turn}")
        new = g.add("Mul", [Z, g.add("Sub", [C, h], f"change_{turn}")], f"new_{turn}")
        h = g.add("Add", [h, new], f"h_{turn}")  # (1 - Z) h_prev + Z C
        every.append(h)
    states = g.add("Concat", every[count - 1 :], "states", axis=0)
    ends = g.add("Reshape", [h, g.constant("rows_of_layers", np.array([-1, count, hidden]))], "hn_rows")
    g.add("Transpose", [ends], "hn", perm=[1, 0, 2])
    return states


def _stacked(layers: list[GRUWeights]) -> tuple[Array32, Array32, Array32, Array32]:
    """The weights of all layers as one cell's: each column belongs to a gate and, within it, to a layer.

    Returns what multiplies h (width, 3 width), for the gates r, z and the input's part of c; what multiplies R * h (width, width);
    what multiplies the first layer's input (inputs, 3 width); and the biases (3 width,).
    """
    hidden = len(layers[0].b)
    width = len(layers) * hidden
    inputs = layers[0].W.shape[1] - hidden
    recurrent, candidate = np.zeros((width, 3, width)), np.zeros((width, width))
    first, bias = np.zeros((inputs, 3, width)), np.zeros((3, width))
    for end, weights in zip(accumulate([hidden] * len(layers)), layers, strict=True):
        own = slice(end - hidden, end)
        below = slice(end - 2 * hidden, end - hidden)  # the layer whose state is this layer's input
        matrices, biases = (weights.W_r, weights.W_z, weights.W), (weights.b_r, weights.b_z, weights.b)
        for gate, (matrix, values) in enumerate(zip(matrices, biases, strict=True)):
            of_h, of_x = matrix[:, :hidden].T, matrix[:, hidden:].T
            if gate == 2:
                candidate[own, own] = of_h
            else:
                recurrent[own, gate, own] = of_h
            if end == hidden:
                first[:, gate, own] = of_x
            else:
                recurrent[below, gate, own] = of_x
            bias[gate, own] = values
    flat = recurrent.reshape(width, -1), candidate, first.reshape(inputs, -1), bias.ravel()
    W, U, V, b = (array.astype(np.float32) for array in flat)
    return W, U, V, b
