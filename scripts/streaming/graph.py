"""The ONNX graph of a trained network, built node by node: raw units in, raw units out, ragged batches, states.

Owns the nodes before and after the recurrent layers. Knows nothing of files, manifests or verification.
"""

import numpy as np
import onnx
from onnx import TensorProto

from scripts.streaming.linear import FAR
from scripts.streaming.network import NEAR, Network
from scripts.training.nodes import Graph, tensor
from scripts.training.recurrent import add_stack, states_of


def build(network: Network, *, chunk: int | None = None) -> onnx.ModelProto:
    """The graph of Network.answers.

    Inputs: input (batch, time, features) float32, lengths (batch,) int32, h0 (layers, batch, hidden) and, if there are LSTMs,
    c0 (LSTMs, batch, hidden). Outputs: output (batch, time, targets or classes), meaningless past a row's length; hn and cn at
    its length. `chunk`: a graph that takes exactly this many steps, see recurrent.add_stack.
    """
    g = Graph()

    def number(name: str, value: float) -> str:
        return g.constant(name, np.array(value, np.float32))

    # -- before the stack ------------------------------------------------------------------------------------------
    centred = g.add("Sub", ["input", g.constant("mean", network.mean.cpu().numpy())], "centred")
    z = g.add("Div", [centred, g.constant("scale", network.scale.cpu().numpy())], "z")
    near = number("near", NEAR)
    squashed = g.add("Tanh", [g.add("Div", [z, near], "z_by_near")], "squashed")
    features = g.add("Mul", [squashed, near], "features")
    time_major = g.add("Transpose", [features], "time_major", perm=[1, 0, 2])
    states = add_stack(g, network.stack, time_major, chunk=chunk)
    h = g.add("Transpose", [states], "h", perm=[1, 0, 2])

    # -- after the stack -------------------------------------------------------------------------------------------
    W_o, b_o = network.head_weights()
    gain = network.gain.cpu().numpy()
    head = g.add("MatMul", [h, g.constant("W_o", (W_o * gain[:, None]).T)], "head")
    learned = g.add("Add", [head, g.constant("b_o", b_o * gain)], "learned")
    offset = g.constant("offset", network.offset.cpu().numpy())
    if network.classifies:
        g.add("Softmax", [g.add("Add", [learned, offset], "logits")], "output", axis=-1)
    else:
        within = g.add("Clip", [z, number("least", -FAR), number("most", FAR)], "within")
        linear = g.add("MatMul", [within, g.constant("skip", network.skip.cpu().numpy().T)], "linear")
        small = g.add("Add", [linear, learned], "small")
        denoises = network.config.task == "denoise"
        correction = g.add("Add", [small, offset], "correction" if denoises else "output")
        if denoises:
            bounds = {"first": 0, "end": network.outputs, "last_axis": -1}
            cut = [g.constant(name, np.array([value], np.int64)) for name, value in bounds.items()]
            g.add("Add", [g.add("Slice", ["input", *cut], "measured"), correction], "output")
    return _model(network, g, time=chunk or "time")


def _model(network: Network, g: Graph, *, time: int | str) -> onnx.ModelProto:
    inputs = [tensor("input", ["batch", time, network.features]), tensor("lengths", ["batch"], TensorProto.INT32)]
    outputs = [tensor("output", ["batch", time, network.outputs])]
    for state in states_of(network.stack.kinds, network.stack.hidden_size):
        layers, hidden = state.shape
        inputs.append(tensor(state.input, [layers, "batch", hidden]))
        outputs.append(tensor(state.output, [layers, "batch", hidden]))
    return g.model(network.config.name, inputs=inputs, outputs=outputs)
