"""The ONNX graph of a trained network, built node by node: raw units in, raw units out, ragged batches, states.

Owns the nodes before and after the recurrent layers; recurrent.py adds the layers. Knows nothing of files, manifests or
verification.
"""

import numpy as np
import onnx
from onnx import TensorProto

from scripts.gyro import model
from scripts.gyro.model import Denoiser
from scripts.training import recurrent
from scripts.training.nodes import Graph, tensor


def build(network: Denoiser, *, chunk: int | None = None) -> onnx.ModelProto:
    """The graph of this network.

    Inputs: input (batch, time, 6) float32, lengths (batch,) int32, the initial states h0 and, where there are LSTMs, c0.
    Outputs: output (batch, time, 3), meaningless past a row's length, and the states hn and cn at its length.
    `chunk`: the steps of each call, with the paper's cell built of operators that CUDA has; see recurrent.add_stack.
    """
    config = network.config
    W_o, b_o = network.head_weights()
    g = Graph()
    g.constant("calibration", network.calibration.cpu().numpy().T)
    for name, value in {"zero": 0, "three": 3, "six": 6, "last_axis": -1}.items():
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
    features = g.add("Transpose", [features], "time_major", perm=[1, 0, 2])  # (time, batch, features), as ONNX's cells need it
    h = recurrent.add_stack(g, network.stack, features, chunk=chunk)
    h = g.add("Transpose", [h], "batch_major", perm=[1, 0, 2])
    W, b = W_o.T.copy(), b_o.copy()
    W[:, :3] *= model.CORRECTION_SCALE
    b[:3] *= model.CORRECTION_SCALE
    b[3:] -= model.MOVING
    said = g.add("Add", [g.add("MatMul", [h, g.constant("W_o", W)], "head"), g.constant("b_o", b)], "said")
    learned, stillness = g.split(said, ["learned", "stillness"], axis=-1) if config.zero_rate else (said, "")
    correction = g.add("Add", [linear, learned], "correction")  # the small terms first: a large rate keeps its digits
    if config.zero_rate:
        corrected = g.add("Add", [measured, correction], "corrected")
        most = np.array(model.MOST_AT_REST, dtype=np.float32)
        small = g.add("Clip", [corrected, g.constant("least_at_rest", -most), g.constant("most_at_rest", most)], "small")
        noise = g.add("Mul", [g.add("Sigmoid", [stillness], "still"), small], "noise")
        correction = g.add("Sub", [correction, noise], "correction_at_rest")
    g.add("Add", [measured, correction], "output")

    time = chunk or "time"
    states = recurrent.states_of(config.kinds, config.hidden)
    inputs = [tensor("input", ["batch", time, 6]), tensor("lengths", ["batch"], TensorProto.INT32)]
    inputs += [tensor(state.input, [state.shape[0], "batch", config.hidden]) for state in states]
    outputs = [tensor("output", ["batch", time, 3])]
    outputs += [tensor(state.output, [state.shape[0], "batch", config.hidden]) for state in states]
    return g.model(config.name, inputs=inputs, outputs=outputs)
