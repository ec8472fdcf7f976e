"""The cell made of ordinary operators equals the equations, chunk after chunk, and CUDA can run every node of it."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from scripts.gyro import graph
from scripts.gyro.config import Config
from scripts.gyro.model import Denoiser
from scripts.training import placement, recurrent, reference, unrolled
from scripts.training.nodes import Graph
from scripts.training.nodes import tensor as value
from scripts.training.reference import GRUWeights

FEATURES = 3
LENGTHS = {"one_step": (1,), "chunk": (8,), "alone": (26,), "one_step_each": (1, 1, 1), "ragged": (1, 7, 8, 9, 2, 16, 17, 26)}


def weights(layers: int, hidden: int, *, bias: bool = True, seed: int = 0) -> list[GRUWeights]:
    """Random weights, large enough for the gates to open and close."""
    rng = np.random.default_rng(seed)
    found = []
    for layer in range(layers):
        width = hidden + (hidden if layer else FEATURES)
        matrices = (rng.uniform(-2, 2, (3, hidden, width)) / np.sqrt(hidden)).astype(np.float32).astype(np.float64)
        biases = rng.uniform(-1, 1, (3, hidden)).astype(np.float32) * np.float64(bias)
        pairs = [part for pair in zip(matrices, biases, strict=True) for part in pair]
        found.append(GRUWeights("reset_before", *pairs, b_h=np.zeros(hidden)))
    return found


class Cell:
    """The cell alone in a graph of `steps` steps a call, run by ONNX Runtime."""

    def __init__(self, layers: list[GRUWeights], steps: int) -> None:
        self.steps, self.hidden = steps, len(layers[0].b)
        g = Graph()
        g.add("Transpose", [unrolled.add_cell(g, layers, "features", steps=steps)], "every", perm=[1, 0, 2])
        state: list[Any] = [len(layers), "batch", self.hidden]
        inputs = [value("features", [steps, "batch", FEATURES]), value("lengths", ["batch"], TensorProto.INT32), value("h0", state)]
        outputs = [value("every", ["batch", steps, "width"]), value("hn", state)]
        self.proto = g.model("cell", inputs=inputs, outputs=outputs)
        self.session = ort.InferenceSession(self.proto.SerializeToString(), providers=["CPUExecutionProvider"])

    def call(self, features: np.ndarray, lengths: Sequence[int], h0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run one chunk; returns the last layer's states (batch, steps, hidden), and hn."""
        feeds = {"features": features, "lengths": np.array(lengths, np.int32), "h0": h0}
        every, hn = self.session.run(["every", "hn"], feeds)
        return every[..., -self.hidden :], hn

    def run(self, features: np.ndarray, lengths: Sequence[int], h0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run chunk after chunk, until the longest sequence has ended."""
        found = []
        for begin in range(0, len(features), self.steps):
            chunk = np.full((self.steps, *features.shape[1:]), 1e3, np.float32)
            part = features[begin : begin + self.steps]
            chunk[: len(part)] = part
            every, h0 = self.call(chunk, np.clip(np.array(lengths) - begin, 0, self.steps), h0)
            found.append(every)
        return np.concatenate(found, axis=1), h0


@cache
def made_of(layers: int, hidden: int, bias: bool, steps: int) -> tuple[list[GRUWeights], Cell]:
    """Weights and cell, made once for all lengths: ONNX Runtime takes longer to make the cell than to run it."""
    made = weights(layers, hidden, bias=bias)
    return made, Cell(made, steps)


def draw(lengths: Sequence[int], layers: int, hidden: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Features (time, batch, features), with large numbers after a sequence's end, and initial states."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(max(lengths), len(lengths), FEATURES)).astype(np.float32)
    for row, length in enumerate(lengths):
        features[length:, row] *= 1e3
    return features, rng.uniform(-0.9, 0.9, (layers, len(lengths), hidden)).astype(np.float32)


# -- the equations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("steps", [1, 8, 32], ids=lambda steps: f"chunks_of_{steps}")
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("hidden", [5, 64])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_cell_equals_the_equations(layers: int, hidden: int, bias: bool, steps: int, lengths: tuple[int, ...]) -> None:
    """The GPU must compute what was trained: every step and the final states, from any state."""
    made, cell = made_of(layers, hidden, bias, steps)
    features, h0 = draw(lengths, layers, hidden)
    every, hn = cell.run(features, lengths, h0)
    for row, length in enumerate(lengths):
        expected, (end,) = reference.run(made, features[:length, row].astype(np.float64), [h0[:, row].astype(np.float64)])
        np.testing.assert_allclose(every[row, :length], expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(hn[:, row], end, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_length_of_nothing_leaves_the_state_as_it_is(layers: int) -> None:
    """A sequence that has ended keeps its state to the last bit while its neighbours continue, whatever the padding holds."""
    cell = Cell(weights(layers, 5), 8)
    features, h0 = draw((8, 8, 8, 8), layers, 5)
    for lengths in ([0, 0, 0, 0], [0, 8, 0, 1]):
        _, hn = cell.call(1e6 * features, lengths, h0)
        for row, length in enumerate(lengths):
            assert (hn[:, row].tobytes() == h0[:, row].tobytes()) == (length == 0)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_state_is_the_one_at_the_length(layers: int) -> None:
    """This holds for every layer: though layers take their steps one after the other, a lower one must not run ahead."""
    made = weights(layers, 5)
    features, h0 = draw((3, 8), layers, 5)
    every, hn = Cell(made, 8).call(features, [3, 8], h0)
    np.testing.assert_array_equal(hn[-1, 0], every[0, 2])
    _, (end,) = reference.run(made, features[:3, 0].astype(np.float64), [h0[:, 0].astype(np.float64)])
    np.testing.assert_allclose(hn[:, 0], end, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", ["reset_after", "lstm", "rnn", "reset_before,reset_after"])
def test_another_cell_is_refused(cell: str) -> None:
    """Other cells have an ONNX operator of their own, and this graph would give wrong answers for them."""
    with pytest.raises(ValueError, match=cell.split(",")[-1]):
        graph.build(network(cell, 2), chunk=8)


@pytest.mark.parametrize("left_out", ["state", "lengths"])
def test_chunks_without_states_or_lengths_are_refused(left_out: str) -> None:
    """Otherwise the second chunk of a sequence would begin from a zero state, or continue past its end."""
    with pytest.raises(ValueError, match="chunks takes lengths and states"):
        recurrent.add_stack(Graph(), network("reset_before", 1).stack, "features", chunk=8, **{left_out: False})


# -- where nodes run --------------------------------------------------------------------------------------------------


def network(cell: str, layers: int) -> Denoiser:
    """A whole model with a hidden size of 5."""
    return Denoiser(Config(cell=cell, layers=layers, hidden=5))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_node_runs_on_cuda_and_can_be_recorded(layers: int) -> None:
    """This holds for chunks of the exported length, and for the operators of the other cells."""
    assert placement.misfits(graph.build(network("reset_before", layers), chunk=recurrent.CHUNK)) == []
    for cell in ("reset_after", "lstm", "rnn"):
        assert placement.misfits(graph.build(network(cell, layers))) == []
    assert placement.misfits(graph.build(network("lstm,rnn,reset_after", 3))) == []


def test_a_longer_chunk_cannot_be_recorded() -> None:
    """Its nodes run on CUDA, but recording them as a CUDA graph fails."""
    (found,) = placement.misfits(graph.build(network("reset_before", 1), chunk=recurrent.CHUNK + 1))
    assert found.runs
    assert str(found) == "Concat states joins 33 tensors: CUDA runs it, and records 32 at most"


def test_nodes_that_cuda_leaves_to_the_cpu_are_named() -> None:
    """Each layer has one such node, named as in the file."""
    found = placement.misfits(graph.build(network("reset_before", 2)))
    assert [each.node for each in found] == ["GRU gru_0", "GRU gru_1"]
    (only,) = placement.misfits(graph.build(network("lstm,reset_before", 2)))
    assert only.node == "GRU gru_1"
    assert not any(each.runs for each in (*found, only))


def of(*nodes: onnx.NodeProto, opset: int = 20, functions: Sequence[onnx.FunctionProto] = ()) -> onnx.ModelProto:
    """A model of these nodes; the checks look only at the nodes."""
    domains = {node.domain for node in nodes if node.domain}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    made = helper.make_graph(nodes, "nodes", [value("x", [1, 1, 1])], [value("y", [1, 1, 1])])
    return helper.make_model(made, opset_imports=imports, functions=list(functions))


def operation(operator: str, *, inputs: Sequence[str] = ("x", "W", "R"), **attributes: Any) -> onnx.ModelProto:
    standard: dict[str, Any] = {"linear_before_reset": 1} if operator == "GRU" else {}
    return of(helper.make_node(operator, inputs, ["y"], name="node", hidden_size=4, **{**standard, **attributes}))


def conditional(operator: str) -> onnx.NodeProto:
    """An If node whose branches are this operator."""
    branch = helper.make_graph([helper.make_node(operator, ["x"], ["z"], name="inner")], "branch", [], [value("z", [1])])
    return helper.make_node("If", ["condition"], ["y"], name="outer", then_branch=branch, else_branch=branch)


def function(operator: str) -> onnx.FunctionProto:
    node = helper.make_node(operator, ["a"], ["b"], name="inner")
    return helper.make_function("own", "Mine", ["a"], ["b"], [node], [helper.make_opsetid("", 20)])


BOTH = ["Sigmoid", "Tanh"] * 2
PEEPHOLES = ("x", "W", "R", "", "", "", "", "P")
MISFITS = {
    "reset before the product": (operation("GRU", linear_before_reset=0), "resets before the product"),
    "reset not said": (of(helper.make_node("GRU", ["x", "W", "R"], ["y"], name="node")), "resets before the product"),
    "GRU of other activations": (operation("GRU", activations=["Sigmoid", "Relu"]), "other activations (sigmoid, relu)"),
    "GRU of others backwards": (
        operation("GRU", direction="bidirectional", activations=[*BOTH[:2], "HardSigmoid", "Tanh"]),
        "other activations (sigmoid, tanh, hardsigmoid, tanh)",
    ),
    "GRU with parameters": (operation("GRU", activation_alpha=[0.1]), "activation_alpha"),
    "GRU that clips": (operation("GRU", clip=1.0), "clips"),
    "GRU with the batch first": (operation("GRU", layout=1), "layout=1"),
    "LSTM of other activations": (operation("LSTM", activations=["Sigmoid", "Tanh", "Relu"]), "other activations"),
    "LSTM that clips": (operation("LSTM", clip=1.0), "clips"),
    "LSTM with the batch first": (operation("LSTM", layout=1), "layout=1"),
    "LSTM with peepholes": (operation("LSTM", inputs=PEEPHOLES), "peepholes"),
    "LSTM of coupled gates": (operation("LSTM", input_forget=1), "input_forget=1"),
    "RNN of other activations": (operation("RNN", activations=["Relu"]), "other activations (relu)"),
    "RNN that clips": (operation("RNN", clip=1.0), "clips"),
    "RNN with the batch first": (operation("RNN", layout=1), "layout=1"),
    "operator without a kernel": (of(helper.make_node("Hardmax", ["x"], ["y"], name="node")), "not known to have a CUDA kernel"),
    "operator of others": (
        of(helper.make_node("DynamicQuantizeLSTM", ["x"], ["y"], name="node", domain="com.microsoft")),
        "of com.microsoft",
    ),
    "operator that ONNX defined anew": (
        of(helper.make_node("Dropout", ["x"], ["y"], name="node"), opset=22),
        "is opset 22's; the newest CUDA kernel known is opset 13's",
    ),
    "function of such a node": (
        of(helper.make_node("Mine", ["x"], ["y"], name="call", domain="own"), functions=[function("Hardmax")]),
        "Hardmax inner is not known",
    ),
}


@pytest.mark.parametrize(("proto", "why"), MISFITS.values(), ids=[name.replace(" ", "_") for name in MISFITS])
def test_a_node_that_does_not_run_on_cuda_is_found(proto: onnx.ModelProto, why: str) -> None:
    """The reason is given, since the model can often be exported in another way."""
    (found,) = placement.misfits(proto)
    assert not found.runs
    assert why in str(found)


FITS = {
    "GRU": operation("GRU"),
    "GRU of the usual activations": operation("GRU", activations=["sigmoid", "tanh"]),
    "GRU in both directions": operation("GRU", direction="bidirectional", activations=BOTH),
    "LSTM": operation("LSTM", activations=["Sigmoid", "Tanh", "Tanh"], input_forget=0),
    "LSTM that leaves peepholes out": operation("LSTM", inputs=(*PEEPHOLES[:-1], "")),
    "RNN": operation("RNN", layout=0),
    "constant": of(helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.zeros(3)))),
    "operator that ONNX has not defined anew": of(helper.make_node("Dropout", ["x"], ["y"]), opset=21),
    "function": of(helper.make_node("Mine", ["x"], ["y"], domain="own"), functions=[function("Tanh")]),
}


@pytest.mark.parametrize("proto", FITS.values(), ids=[name.replace(" ", "_") for name in FITS])
def test_a_node_that_runs_on_cuda_is_none_of_them(proto: onnx.ModelProto) -> None:
    """A model that is kept off the GPU without need is slow without need."""
    assert placement.misfits(proto) == []


def test_control_flow_runs_and_cannot_be_recorded() -> None:
    """Nodes inside control flow are checked too, though a subgraph hides them."""
    (outer,) = placement.misfits(of(conditional("Tanh")))
    assert (outer.node, outer.runs) == ("If outer", True)
    outer, *inner = placement.misfits(of(conditional("Hardmax")))
    assert outer.runs
    assert [(each.node, each.runs) for each in inner] == [("Hardmax inner", False)] * 2
