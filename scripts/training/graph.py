"""The ONNX graph of a trained network, built node by node: raw units in, raw units out, ragged batches, states.

Owns the mapping from the paper's equations to ONNX operators. Knows nothing of files, manifests or verification.
ONNX's GRU has gate order z, r, h and updates h = (1 - z) c + z h_prev: for the paper's cell, whose Z takes the new,
the update gate's weights and bias are negated, since sigmoid(-a) = 1 - sigmoid(a).
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from scripts.training import model, unrolled
from scripts.training.config import Config
from scripts.training.nodes import Graph
from scripts.training.reference import Weights

OPSET = 20
IR_VERSION = 10  # what goes with opset 20; older ONNX Runtimes read it too

Array32 = NDArray[np.float32]


def build(
    config: Config, layers: list[Weights], calibration: Array32, W_o: Array32, b_o: Array32, *, chunk: int | None = None
) -> onnx.ModelProto:
    """The graph of model.Denoiser with these weights.

    Inputs: input (batch, time, 6) float32, lengths (batch,) int32, h0 (num_layers, batch, hidden) float32.
    Outputs: output (batch, time, 3), meaningless past a row's length; hn (num_layers, batch, hidden) at its length.
    `chunk`: the paper's cell of ordinary operators, which takes exactly so many steps; a length may then be 0. ValueError for
    another cell.
    """
    if chunk is not None and config.cell != "reset_before":
        raise ValueError(f"the cell {config.cell} is not built of ordinary operators: there is one for it")
    g = Graph()
    g.constant("calibration", calibration.T)
    axes = {"zero": 0, "three": 3, "six": 6, "last_axis": -1} | ({"axis_1": 1} if chunk is None else {})
    for name, value in axes.items():
        g.constant(name, np.array([value], dtype=np.int64))
    measured = g.add("Slice", ["input", "zero", "three", "last_axis"], "measured")
    force = g.add("Slice", ["input", "three", "six", "last_axis"], "force")
    linear = g.add("MatMul", ["input", "calibration"], "linear")
    rate = g.add("Add", [measured, linear], "rate")
    scaled = []
    for i, scale in enumerate(model.RATE_SCALES):
        divided = g.add("Div", [rate, g.constant(f"scale_{i}", np.array(scale, dtype=np.float32))], f"scaled_{i}")
        scaled.append(g.add("Tanh", [divided], f"feature_{i}"))
    scaled.append(g.add("Div", [force, g.constant("force_scale", np.array(model.FORCE_SCALE, dtype=np.float32))], "scaled_force"))
    features = g.add("Concat", scaled, "features", axis=-1)
    features = g.add("Transpose", [features], "time_major", perm=[1, 0, 2])  # (time, batch, features), as ONNX's GRU wants
    W_o = model.CORRECTION_SCALE * W_o.T
    if chunk is None:
        states = _fused(g, config, layers, features)
    else:
        states = unrolled.add_cell(g, layers, features, steps=chunk)
        W_o = np.pad(W_o, ((config.hidden * (config.layers - 1), 0), (0, 0)))  # its states hold all layers
    states = g.add("Transpose", [states], "batch_major", perm=[1, 0, 2])
    head = g.add("MatMul", [states, g.constant("W_o", W_o)], "head")
    learned = g.add("Add", [head, g.constant("b_o", model.CORRECTION_SCALE * b_o)], "learned")
    correction = g.add("Add", [linear, learned], "correction")  # the small terms first: a large rate keeps its digits
    g.add("Add", [measured, correction], "output")

    time = chunk or "time"
    state: list[int | str] = [config.layers, "batch", config.hidden]
    inputs = [_tensor("input", ["batch", time, 6]), _tensor("lengths", ["batch"], TensorProto.INT32), _tensor("h0", state)]
    outputs = [_tensor("output", ["batch", time, 3]), _tensor("hn", state)]
    graph = helper.make_graph(g.nodes, config.name, inputs, outputs, g.constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="recurve")
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _fused(g: Graph, config: Config, layers: list[Weights], states: str) -> str:
    """A GRU operator for each layer: the name of the last one's states (time, batch, hidden)."""
    starts = g.split("h0", [f"h0_{i}" for i in range(len(layers))], axis=0)
    finals = []
    for i, (weights, start) in enumerate(zip(layers, starts, strict=True)):
        W, R, B = _onnx_weights(config, weights)
        operands = [states, g.constant(f"W_{i}", W), g.constant(f"R_{i}", R), g.constant(f"B_{i}", B), "lengths", start]
        g.nodes.append(
            helper.make_node(
                "GRU",
                operands,
                [f"Y_{i}", f"hn_{i}"],
                name=f"gru_{i}",
                hidden_size=config.hidden,
                linear_before_reset=int(config.cell == "reset_after"),
            )
        )
        states = g.add("Squeeze", [f"Y_{i}", "axis_1"], f"states_{i}")  # drop the axis of directions
        finals.append(f"hn_{i}")
    g.add("Concat", finals, "hn", axis=0)
    return states


def _onnx_weights(config: Config, w: Weights) -> tuple[Array32, Array32, Array32]:
    """W (1, 3 hidden, inputs), R (1, 3 hidden, hidden) and B (1, 6 hidden) in ONNX's gate order z, r, h."""
    sign = -1.0 if config.cell == "reset_before" else 1.0  # torch's Z already keeps the old where it is near 1
    hidden = config.hidden
    rows = np.concatenate([sign * w.W_z, w.W_r, w.W])
    zeros = np.zeros(2 * hidden)
    bias = np.concatenate([sign * w.b_z, w.b_r, w.b, zeros, w.b_h])
    W, R, B = (a[None].astype(np.float32) for a in (rows[:, hidden:], rows[:, :hidden], bias))
    return W, R, B


def _tensor(name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
