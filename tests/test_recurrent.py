"""A stack of any cells computes the same as an ONNX graph, in torch and by the equations; and the manifest describes it."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto

from app.manifest import Cell
from app.runtime import CPU, CUDA
from scripts.training import placement, recurrent
from scripts.training.nodes import Graph, tensor
from scripts.training.stack import Stack

FEATURES, HIDDEN = 3, 5
KINDS = ("reset_before", "reset_after", "lstm", "rnn")
STACKS = [*((kind,) for kind in KINDS), *product(KINDS, KINDS), *((kind,) * 3 for kind in KINDS), ("rnn", "lstm", "reset_before")]
LENGTHS = {"one_step": [1], "alone": [9], "one_step_each": [1, 1, 1], "equal": [6, 6], "ragged": [4, 1, 7, 3]}

each_stack = pytest.mark.parametrize("kinds", STACKS, ids="-".join)


def build(kinds: Sequence[str], *, bias: bool = True) -> Stack:
    """A stack with random weights and biases."""
    torch.manual_seed(len(kinds))
    stack = Stack(FEATURES, HIDDEN, kinds, bias=bias)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.uniform_(-1, 1)
    return stack


def model(stack: Stack, **options: Any) -> onnx.ModelProto:
    """The stack alone: input (batch, time, features) -> output (batch, time, hidden), with states if the options keep them."""
    state, lengths, chunk = (options.get(name, default) for name, default in (("state", True), ("lengths", True), ("chunk", None)))
    g = Graph()
    features = g.add("Transpose", ["input"], "time_major", perm=[1, 0, 2])
    g.add("Transpose", [recurrent.add_stack(g, stack, features, **options)], "output", perm=[1, 0, 2])
    time = chunk or "time"
    inputs, outputs = [tensor("input", ["batch", time, FEATURES])], [tensor("output", ["batch", time, HIDDEN])]
    if lengths:
        inputs.append(tensor("lengths", ["batch"], TensorProto.INT32))
    for spec in recurrent.states_of(stack.kinds, HIDDEN) if state else ():
        inputs.append(tensor(spec.input, [spec.shape[0], "batch", HIDDEN]))
        outputs.append(tensor(spec.output, [spec.shape[0], "batch", HIDDEN]))
    return g.model("stack", inputs=inputs, outputs=outputs)


def session(proto: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(proto.SerializeToString(), providers=[CPU])


def draw(stack: Stack, lengths: Sequence[int], seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Input with large numbers as padding, which must not matter, and initial states."""
    rng = np.random.default_rng(seed)
    input = rng.normal(size=(len(lengths), max(lengths), FEATURES)).astype(np.float32)
    for row, length in zip(input, lengths, strict=True):
        row[length:] *= 1e3
    return input, [rng.uniform(-1, 1, (layers, len(lengths), hidden)).astype(np.float32) for layers, hidden in stack.shapes]


def by_torch(stack: Stack, input: np.ndarray, state: Sequence[np.ndarray], lengths: Sequence[int]) -> list[np.ndarray]:
    with torch.no_grad():
        h, final = stack(torch.from_numpy(input), tuple(map(torch.from_numpy, state)), torch.tensor(lengths))
    return [h.numpy(), *(each.numpy() for each in final)]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@each_stack
def test_graph_equals_torch_and_the_equations(kinds: tuple[str, ...], bias: bool) -> None:
    """The third equality, for every kind and every pair: outputs and both states, ragged, from random states."""
    stack = build(kinds, bias=bias)
    run = session(model(stack))
    for seed, lengths in enumerate(LENGTHS.values()):
        input, state = draw(stack, lengths, seed)
        feeds = dict(zip((spec.input for spec in recurrent.states_of(kinds, HIDDEN)), state, strict=True))
        h, *final = run.run(None, {"input": input, "lengths": np.array(lengths, np.int32), **feeds})
        torch_h, *torch_final = by_torch(stack, input, state, lengths)
        for row, length in enumerate(lengths):
            expected, ends = stack.equations(
                input[row, :length].astype(np.float64), [each[:, row].astype(np.float64) for each in state]
            )
            for found in (h, torch_h):
                np.testing.assert_allclose(found[row, :length], expected, rtol=0, atol=5e-6)
            for finals in (final, torch_final):
                for actual, wanted in zip(finals, ends, strict=True):
                    np.testing.assert_allclose(actual[:, row], wanted, rtol=0, atol=5e-6)


@each_stack
def test_without_states_every_sequence_starts_from_zeros(kinds: tuple[str, ...]) -> None:
    """A graph for whole windows has only the input, and lengths if asked for."""
    stack = build(kinds)
    for lengths in (True, False):
        proto = model(stack, state=False, lengths=lengths)
        assert [each.name for each in proto.graph.input] == (["input", "lengths"] if lengths else ["input"])
        assert [each.name for each in proto.graph.output] == ["output"]
        input, state = draw(stack, [6, 6])
        zeros = [np.zeros_like(each) for each in state]
        (h,) = session(proto).run(None, {"input": input} | ({"lengths": np.array([6, 4], np.int32)} if lengths else {}))
        expected, *_ = by_torch(stack, input, zeros, [6, 6])
        np.testing.assert_allclose(h[0], expected[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(h[1, : 4 if lengths else 6], expected[1, : 4 if lengths else 6], rtol=0, atol=1e-6)


@each_stack
def test_without_lengths_the_states_are_those_at_the_end(kinds: tuple[str, ...]) -> None:
    """All sequences then have the full length."""
    stack = build(kinds)
    input, state = draw(stack, [6, 6])
    feeds = dict(zip((spec.input for spec in recurrent.states_of(kinds, HIDDEN)), state, strict=True))
    found = session(model(stack, lengths=False)).run(None, {"input": input, **feeds})
    for actual, expected in zip(found, by_torch(stack, input, state, [6, 6]), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_in_chunks_the_same_comes_out(layers: int) -> None:
    """The CUDA graph of reset_before takes chunks only, and a sequence that has ended must keep its state while others go on."""
    stack = build(("reset_before",) * layers)
    chunk, lengths = 4, [9, 1, 4, 12]
    input, (h0,) = draw(stack, lengths)
    expected, final = by_torch(stack, input, [h0], lengths)
    run, found = session(model(stack, chunk=chunk)), []
    for begin in range(0, 12, chunk):
        left = np.clip(np.array(lengths) - begin, 0, chunk).astype(np.int32)
        h, h0 = run.run(None, {"input": input[:, begin : begin + chunk], "lengths": left, "h0": h0})
        found.append(h)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(np.concatenate(found, axis=1)[row, :length], expected[row, :length], rtol=0, atol=5e-6)
    np.testing.assert_allclose(h0, final, rtol=0, atol=5e-6)


@each_stack
def test_cuda_is_promised_what_it_runs_and_no_more(kinds: tuple[str, ...]) -> None:
    """Every node of a graph listed for CUDA has a kernel there; and every stack that CUDA can run whole is listed."""
    stack = build(kinds)
    runs_whole = placement.misfits(model(stack)) == []
    assert recurrent.graphs_of(kinds) == {CPU: "model.onnx"} | ({CUDA: "model.onnx"} if runs_whole else {})
    chunked = recurrent.graphs_of(kinds, chunked=True)
    if set(kinds) == {"reset_before"}:
        assert chunked == {CPU: "model.onnx", CUDA: "model.cuda.onnx"}
        assert placement.misfits(model(stack, chunk=recurrent.CHUNK)) == []
    else:
        assert chunked == recurrent.graphs_of(kinds)


@pytest.mark.parametrize(
    ("kinds", "variant"),
    [(("lstm",), "lstm"), (("rnn", "rnn"), "rnn"), (("lstm", "reset_before"), ("lstm", "reset_before"))],
    ids=["one", "two", "mixed"],
)
def test_manifest_names_the_cell_of_every_layer(kinds: tuple[str, ...], variant: Any) -> None:
    """One word if all layers are alike, as manifests have always had it."""
    assert recurrent.cell_of(kinds, 7, False) == Cell(variant=variant, hidden_size=7, num_layers=len(kinds), bias=False)
