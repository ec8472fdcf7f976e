"""Small ONNX graphs as other people would export them: by torch, or as converters from Keras and TensorFlow write them.

Their weights are random, the same in every run. Their tensors have the unreliable names that such files have.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
FEATURES, HIDDEN, WIDTH = 4, 8, 3

Dims = Sequence[int | str]


def answer(path: Path, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    """The outputs of the file in ONNX Runtime itself, by name."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    arrays = session.run(None, feeds)
    return {node.name: array for node, array in zip(session.get_outputs(), arrays, strict=True)}


class Builder:
    """A graph under construction; `add` returns the name of what it added."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.rng = np.random.default_rng(seed)

    def input(self, name: str, dims: Dims, kind: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, dims))
        return name

    def output(self, name: str, dims: Dims | None, source: str, kind: int = FLOAT) -> None:
        self.add("Identity", [source], name)
        self.outputs.append(helper.make_tensor_value_info(name, kind, dims))

    def constant(self, value: Any, kind: Any = np.int64) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(value, dtype=kind), name))
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self.rng.uniform(-0.7, 0.7, shape), np.float32)

    def add(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"node_{len(self.nodes)}", **attributes))
        return name

    def cell(
        self,
        x: str,
        start: str = "",
        *,
        operator: str = "GRU",
        cell: str = "",
        lengths: str = "",
        size: int = FEATURES,
        **more: Any,
    ) -> tuple[str, str, str]:
        """Add a recurrent node over (time, batch, size); returns the outputs (time, batch, hidden) and the final states."""
        gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[operator]
        names = [f"{part}_{len(self.nodes)}" for part in ("y", "yh", "yc")][: 3 if operator == "LSTM" else 2]
        operands = [
            x,
            self.weight(1, gates * HIDDEN, size),
            self.weight(1, gates * HIDDEN, HIDDEN),
            self.weight(1, 2 * gates * HIDDEN),
        ]
        operands += [lengths, start, *([cell] if operator == "LSTM" else [])]
        self.nodes.append(helper.make_node(operator, operands, names, name=f"node_{len(self.nodes)}", hidden_size=HIDDEN, **more))
        return self.add("Squeeze", [names[0], self.constant([1])]), names[1], names[-1]

    def save(self, path: Path, *, opset: int = 17, ir: int = 8, **options: Any) -> Path:
        graph = helper.make_graph(self.nodes, "graph", self.inputs, self.outputs, self.weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="tests")
        proto.ir_version = ir
        onnx.save(proto, path, **options)
        return path


# -- as torch exports them ------------------------------------------------------------------------------------------


class Network(torch.nn.Module):
    """Recurrent layers and a head; the states are inputs and outputs where `stateful`."""

    def __init__(
        self, cell: type[torch.nn.RNNBase], *, layers: int = 2, bidirectional: bool = False, stateful: bool = True
    ) -> None:
        super().__init__()
        self.cell = cell(FEATURES, HIDDEN, layers, batch_first=True, bidirectional=bidirectional)
        self.head = torch.nn.Linear((2 if bidirectional else 1) * HIDDEN, WIDTH)
        self.stateful = stateful

    def forward(self, input: torch.Tensor, *states: torch.Tensor) -> Any:
        start = states if len(states) > 1 else next(iter(states), None)
        output, final = self.cell(input, start)
        if not self.stateful:
            return self.head(output)
        return self.head(output), *(final if isinstance(final, tuple) else (final,))


def network(cell: type[torch.nn.RNNBase], **choices: Any) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(cell, **choices).eval()


def torch_export(
    path: Path,
    module: Network,
    *,
    states: Sequence[str] = (),
    finals: Sequence[str] = (),
    batch: int | None = None,
    fixed: bool = False,
) -> Path:
    """Export as a user would: time is a dynamic axis, and so is the batch unless `batch` is given; `fixed`: no dynamic axes."""
    free = {} if batch else {0: "batch"}
    axes = {"input": {**free, 1: "time"}, "output": {**free, 1: "time"}}
    axes.update({} if batch else {name: {1: "batch"} for name in (*states, *finals)})
    arguments = (torch.zeros(batch or 2, 5, FEATURES), *(torch.zeros(2, batch or 2, HIDDEN) for _ in states))
    with warnings.catch_warnings():
        # this exporter needs no extra package, and warns that it is deprecated
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # it also warns that it traces one path through the shape checks and may build in a batch size: tested here
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message="Exporting a model to ONNX with a batch_size other than 1")
        torch.onnx.export(
            module,
            arguments,
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["input", *states],
            output_names=["output", *finals],
            dynamic_axes={} if fixed else axes,
        )
    return path


def torch_gru(path: Path) -> Path:
    return torch_export(path, network(torch.nn.GRU), states=["h0"], finals=["hn"])


def torch_lstm(path: Path) -> Path:
    return torch_export(path, network(torch.nn.LSTM), states=["h0", "c0"], finals=["hn", "cn"])


def bidirectional(path: Path) -> Path:
    return torch_export(path, network(torch.nn.GRU, bidirectional=True, stateful=False))


def torch_fixed_batch(path: Path) -> Path:
    """Exported with a batch of one, for which the initial state is a constant."""
    return torch_export(path, network(torch.nn.GRU, stateful=False), batch=1)


def torch_fixed(path: Path) -> Path:
    """Exported with one example of 5 steps and no dynamic axes."""
    return torch_export(path, network(torch.nn.GRU), states=["h0"], finals=["hn"], batch=1, fixed=True)


# -- as converters and people write them ----------------------------------------------------------------------------


def keras_gru(path: Path) -> Path:
    """Batch first outside, time first inside; the reset gate applies before the product; its state is (batch, hidden)."""
    g = Builder(1)
    x = g.add("Transpose", [g.input("input_1", ["unk__1", "unk__2", FEATURES])], perm=[1, 0, 2])
    start = g.add("Unsqueeze", [g.input("initial_state", ["unk__3", HIDDEN]), g.constant([0])])
    y, final, _ = g.cell(x, start, linear_before_reset=0)
    y = g.add("Transpose", [y], perm=[1, 0, 2])
    g.output("dense", ["unk__1", "unk__2", WIDTH], g.add("MatMul", [y, g.weight(HIDDEN, WIDTH)]))
    g.output("gru_1", ["unk__3", HIDDEN], g.add("Squeeze", [final, g.constant([0])]))
    return g.save(path)


def rank_4_state(path: Path) -> Path:
    """A batch of 1, fixed in its shapes and in the constants of Reshape nodes; state (layers, directions, batch, hidden)."""
    g = Builder(2)
    x = g.add("Transpose", [g.input("frames", [1, "time", FEATURES])], perm=[1, 0, 2])
    state = g.input("state", [2, 1, 1, HIDDEN])
    finals = []
    size = FEATURES
    for layer in range(2):
        start = g.add(
            "Squeeze", [g.add("Slice", [state, g.constant([layer]), g.constant([layer + 1]), g.constant([0])]), g.constant([0])]
        )
        x, final, _ = g.cell(x, start, size=size, linear_before_reset=1)
        finals.append(g.add("Reshape", [final, g.constant([1, 1, 1, HIDDEN])]))
        size = HIDDEN
    y = g.add("MatMul", [g.add("Transpose", [x], perm=[1, 0, 2]), g.weight(HIDDEN, WIDTH)])
    g.output("mask", [1, "time", WIDTH], g.add("Sigmoid", [g.add("Reshape", [y, g.constant([1, -1, WIDTH])])]))
    g.output("new_state", [2, 1, 1, HIDDEN], g.add("Concat", finals, axis=0))
    return g.save(path)


def chunked(path: Path) -> Path:
    """A voice detector: one chunk of samples a call, the sampling rate as an input, h and c in one state."""
    g = Builder(3)
    x = g.input("input", ["batch", "samples"])
    state = g.input("state", [2, "batch", HIDDEN])
    rate = g.add("Cast", [g.input("sr", [], INT64)], to=FLOAT)
    scaled = g.add("Div", [x, g.add("Div", [rate, g.constant(16000.0, np.float32)])])
    h, c = (g.add("Slice", [state, g.constant([i]), g.constant([i + 1]), g.constant([0])]) for i in range(2))
    seen = g.add("Tanh", [g.add("MatMul", [scaled, g.weight(64, FEATURES)])])
    y, h, c = g.cell(g.add("Unsqueeze", [seen, g.constant([0])]), h, operator="LSTM", cell=c)
    head = g.add("MatMul", [g.add("Squeeze", [y, g.constant([0])]), g.weight(HIDDEN, 1)])
    g.output("output", ["batch", 1], g.add("Sigmoid", [head]))
    g.output("stateN", [None, "batch", None], g.add("Concat", [h, c], axis=0))
    return g.save(path)


def chunked_plain(path: Path) -> Path:
    """A chunked graph without a recurrent node or a fixed chunk size: by its shape, the input could be the state."""
    g = Builder(13)
    x, state = g.input("input", ["batch", "samples"]), g.input("state", ["batch", HIDDEN])
    seen = g.add("Add", [g.add("MatMul", [x, g.weight(64, HIDDEN)]), g.add("MatMul", [state, g.weight(HIDDEN, HIDDEN)])])
    new = g.add("Tanh", [seen])
    g.output("output", ["batch", 1], g.add("Sigmoid", [g.add("MatMul", [new, g.weight(HIDDEN, 1)])]))
    g.output("stateN", ["batch", "hidden"], new)
    return g.save(path)


def crossed_names(path: Path) -> Path:
    """Two layers and two states of one shape; the names of the final states are swapped."""
    g = Builder(4)
    x = g.add("Transpose", [g.input("x", ["batch", "time", FEATURES])], perm=[1, 0, 2])
    a, b = (g.input(name, [1, "batch", HIDDEN]) for name in ("state_a", "state_b"))
    x, of_a, _ = g.cell(x, a, linear_before_reset=1)
    x, of_b, _ = g.cell(x, b, size=HIDDEN, linear_before_reset=1)
    y = g.add("Transpose", [x], perm=[1, 0, 2])
    g.output("state_a_out", [1, "batch", HIDDEN], of_b)  # a wrong name, as real files may have
    g.output("state_b_out", [1, "batch", HIDDEN], of_a)
    g.output("y", ["batch", "time", WIDTH], g.add("MatMul", [y, g.weight(HIDDEN, WIDTH)]))
    return g.save(path)


def time_major(path: Path) -> Path:
    g = Builder(5)
    y, final, _ = g.cell(g.input("x", ["d0", "d1", FEATURES]), g.input("h", [1, "d1", HIDDEN]), operator="RNN")
    g.output("y", ["d0", "d1", WIDTH], g.add("MatMul", [y, g.weight(HIDDEN, WIDTH)]))
    g.output("h_out", [1, "d1", HIDDEN], final)
    return g.save(path)


def with_lengths(path: Path) -> Path:
    g = Builder(6)
    x = g.add("Transpose", [g.input("x", ["batch", "time", FEATURES])], perm=[1, 0, 2])
    lengths = g.add("Cast", [g.input("x_len", ["batch"], INT64)], to=INT32)
    y, final, _ = g.cell(x, g.input("h", [1, "batch", HIDDEN]), lengths=lengths, linear_before_reset=1)
    y = g.add("Transpose", [y], perm=[1, 0, 2])
    g.output("y", ["batch", "time", WIDTH], g.add("MatMul", [y, g.weight(HIDDEN, WIDTH)]))
    g.output("h_out", [1, "batch", HIDDEN], final)
    return g.save(path)


def several_outputs(path: Path) -> Path:
    """One output for every step, one for the sequence, and one that is not a float."""
    g = Builder(7)
    x = g.add("Transpose", [g.input("x", ["batch", "time", FEATURES])], perm=[1, 0, 2])
    y, final, _ = g.cell(x, g.input("h", [1, "batch", HIDDEN]), linear_before_reset=1)
    y = g.add("MatMul", [g.add("Transpose", [y], perm=[1, 0, 2]), g.weight(HIDDEN, WIDTH)])
    last = g.add("Squeeze", [final, g.constant([0])])
    g.output("scores", ["batch", "time", WIDTH], y)
    g.output("summary", ["batch", 2], g.add("Tanh", [g.add("MatMul", [last, g.weight(HIDDEN, 2)])]))
    g.output("label", ["batch", "time"], g.add("ArgMax", [y], axis=2, keepdims=0), INT64)
    g.output("h_out", [1, "batch", HIDDEN], final)
    return g.save(path)


def forecaster(path: Path) -> Path:
    """Exactly 24 steps in, six numbers out; no state."""
    g = Builder(8)
    x = g.add("Transpose", [g.input("context", ["batch", 24, 2])], perm=[1, 0, 2])
    _, final, _ = g.cell(x, size=2, operator="LSTM")
    g.output("forecast", ["batch", 6], g.add("MatMul", [g.add("Squeeze", [final, g.constant([0])]), g.weight(HIDDEN, 6)]))
    return g.save(path)


def loop_of_one(path: Path) -> Path:
    """A loop over time that was traced with an example of one step, as Keras' export with PyTorch does."""
    g = Builder(8)
    x = g.add("Transpose", [g.input("x", ["batch", "time", FEATURES])], perm=[1, 0, 2])
    y, *_ = g.cell(g.add("Slice", [x, g.constant([0]), g.constant([1]), g.constant([0])]), linear_before_reset=0)
    g.output("y", ["batch", 1, HIDDEN], g.add("Transpose", [y], perm=[1, 0, 2]))
    return g.save(path)


def fixed_chunks(path: Path) -> Path:
    """Exactly 16 steps a call, and a state that the next call continues from."""
    g = Builder(14)
    x = g.add("Transpose", [g.input("x", ["batch", 16, FEATURES])], perm=[1, 0, 2])
    h, c = (g.input(name, [1, "batch", HIDDEN]) for name in ("one", "two"))
    y, of_h, of_c = g.cell(x, h, operator="LSTM", cell=c)
    y = g.add("MatMul", [g.add("Transpose", [y], perm=[1, 0, 2]), g.weight(HIDDEN, WIDTH)])
    g.output("y", ["batch", 16, WIDTH], y)
    g.output("first", [1, "batch", HIDDEN], of_c)
    g.output("second", [1, "batch", HIDDEN], of_h)
    return g.save(path)


def horizon_of_context(path: Path) -> Path:
    """As many numbers out as steps in, but each depends on all steps: a forecast, not an answer to each step."""
    g = Builder(15)
    x = g.add("Transpose", [g.input("context", ["batch", 12, 1])], perm=[1, 0, 2])
    _, final, _ = g.cell(x, size=1, linear_before_reset=1)
    flat = g.add("MatMul", [g.add("Squeeze", [final, g.constant([0])]), g.weight(HIDDEN, 12)])
    g.output("forecast", ["batch", 12, 1], g.add("Unsqueeze", [flat, g.constant([2])]))
    return g.save(path)


def dependent_rows(path: Path) -> Path:
    """Normalises over the batch, as a network left in training mode does."""
    g = Builder(9)
    x = g.input("x", ["batch", "time", FEATURES])
    centred = g.add("Sub", [x, g.add("ReduceMean", [x], axes=[0], keepdims=1)])
    mixed = g.add("Transpose", [g.add("Add", [centred, x])], perm=[1, 0, 2])
    y, final, _ = g.cell(mixed, g.input("h", [1, "batch", HIDDEN]), linear_before_reset=1)
    g.output("y", ["batch", "time", HIDDEN], g.add("Transpose", [y], perm=[1, 0, 2]))
    g.output("h_out", [1, "batch", HIDDEN], final)
    return g.save(path)


def loud(path: Path, *, axis: int, louder: bool = False) -> Path:
    """Scales its input down (`louder`: up) by the largest number along batch (0) or time (1), if that is above 50."""
    g = Builder(13)
    x, limit = g.input("x", ["batch", "time", FEATURES]), g.constant(50, np.float32)
    largest = g.add("Max", [g.add("ReduceMax", [g.add("Abs", [x])], axes=[axis], keepdims=1), limit])
    scaled = g.add("Mul", [x, g.add("Div", [largest, limit] if louder else [limit, largest])])
    y, final, _ = g.cell(g.add("Transpose", [scaled], perm=[1, 0, 2]), g.input("h", [1, "batch", HIDDEN]))
    g.output("y", ["batch", "time", HIDDEN], g.add("Transpose", [y], perm=[1, 0, 2]))
    g.output("h_out", [1, "batch", HIDDEN], final)
    return g.save(path)


def stepwise_cells(path: Path) -> Path:
    """One step a call and two states, without a recurrent node: only their names tell the states apart."""
    g = Builder(10)
    x = g.input("x", ["batch", FEATURES])
    a, b = (g.input(name, ["batch", HIDDEN]) for name in ("a", "b"))
    new_a = g.add("Tanh", [g.add("MatMul", [g.add("Concat", [x, a, b], axis=1), g.weight(FEATURES + 2 * HIDDEN, HIDDEN)])])
    new_b = g.add("Tanh", [g.add("MatMul", [g.add("Concat", [new_a, b], axis=1), g.weight(2 * HIDDEN, HIDDEN)])])
    g.output("y", ["batch", WIDTH], g.add("MatMul", [new_b, g.weight(HIDDEN, WIDTH)]))
    g.output("p", ["batch", HIDDEN], new_a)
    g.output("q", ["batch", HIDDEN], new_b)
    return g.save(path)


def only_its_state(path: Path) -> Path:
    """A cell, one step a call, whose only output is its next state."""
    g = Builder(12)
    x = g.add("Unsqueeze", [g.input("x", ["batch", FEATURES]), g.constant([0])])
    start = g.add("Unsqueeze", [g.input("h", ["batch", HIDDEN]), g.constant([0])])
    _, final, _ = g.cell(x, start, linear_before_reset=1)
    g.output("h_next", ["batch", HIDDEN], g.add("Squeeze", [final, g.constant([0])]))
    return g.save(path)


def raw_frames(path: Path, *, direction: str = "forward", dims: Dims = (1, 8, FEATURES)) -> Path:
    """Exactly 8 steps a call of raw readings about 10,000 in size, which it scales down; a state that the next call continues."""
    g = Builder(16)
    directions = 2 if direction == "bidirectional" else 1
    batch = dims[0] if dims[1] == 8 else dims[1]
    x = g.add("Mul", [g.input("x", dims), g.constant(1e-4, np.float32)])
    x = g.add("Transpose", [x], perm=[1, 0, 2]) if dims[1] == 8 else x
    h = g.input("h", [directions, batch, HIDDEN])
    parts = [g.weight(directions, 3 * HIDDEN, size) for size in (FEATURES, HIDDEN)]
    gru = helper.make_node("GRU", [x, *parts, "", "", h], ["all", "final"], hidden_size=HIDDEN, direction=direction)
    g.nodes.append(gru)
    y = g.add("Reshape", [g.add("Transpose", ["all"], perm=[0, 2, 1, 3]), g.constant([8, -1, directions * HIDDEN])])
    y = g.add("Transpose", [y], perm=[1, 0, 2]) if dims[1] == 8 else y
    g.output("y", [*dims[:2], directions * HIDDEN], y)
    g.output("h_out", [directions, batch, HIDDEN], "final")
    return g.save(path)


def saturating(path: Path, *, direction: str = "forward", dims: Dims = (1, 8, FEATURES), stateful: bool = True) -> Path:
    """Does not scale its input, which is batch first: large input saturates all units of its one layer."""
    g = Builder(22)
    directions = 2 if direction == "bidirectional" else 1
    x = g.add("Transpose", [g.input("x", dims)], perm=[1, 0, 2])
    h = g.input("h", [directions, dims[0], HIDDEN]) if stateful else ""
    parts = [g.weight(directions, HIDDEN, size) for size in (FEATURES, HIDDEN)]
    g.nodes.append(helper.make_node("RNN", [x, *parts, "", "", h], ["all", "final"], hidden_size=HIDDEN, direction=direction))
    y = g.add("Reshape", [g.add("Transpose", ["all"], perm=[2, 0, 1, 3]), g.constant([0, 0, directions * HIDDEN])])
    g.output("y", [*dims[:2], directions * HIDDEN], y)
    if stateful:
        g.output("h_out", [directions, dims[0], HIDDEN], "final")
    return g.save(path)


def gain(path: Path) -> Path:
    """Divides each reading by the root of the running mean square: its state is never below zero."""
    g = Builder()
    x, mean = g.input("x", ["batch", FEATURES]), g.input("mean", ["batch", FEATURES])
    old, new = (g.constant(share, np.float32) for share in (0.9, 0.1))
    after = g.add("Add", [g.add("Mul", [mean, old]), g.add("Mul", [g.add("Mul", [x, x]), new])])
    g.output("y", ["batch", FEATURES], g.add("Div", [x, g.add("Sqrt", [g.add("Add", [after, g.constant(1e-3, np.float32)])])]))
    g.output("mean_out", ["batch", FEATURES], after)
    return g.save(path)


def gain_of_chunks(path: Path) -> Path:
    """Exactly 8 steps a call, divided by one gain for all of them: that of the readings before the call."""
    g = Builder()
    x, mean = g.input("x", ["batch", 8, FEATURES]), g.input("mean", ["batch", FEATURES])
    root = g.add("Sqrt", [g.add("Add", [mean, g.constant(1e-3, np.float32)])])
    g.output("y", ["batch", 8, FEATURES], g.add("Div", [x, g.add("Unsqueeze", [root, g.constant([1])])]))
    power = g.add("ReduceMean", [g.add("Mul", [x, x])], axes=[1], keepdims=0)
    g.output("mean_out", ["batch", FEATURES], g.add("Add", [g.add("Mul", [mean, g.constant(0.9, np.float32)]), power]))
    return g.save(path)


def simple(path: Path, dims: Dims = ("batch", "time", FEATURES), kind: int = FLOAT, **options: Any) -> Path:
    """A graph without memory whose input has this shape and type."""
    g = Builder(11)
    x = g.input("x", dims, kind)
    x = x if kind == FLOAT else g.add("Cast", [x], to=FLOAT)
    g.output("y", dims, g.add("Tanh", [x]))
    return g.save(path, **options)


# -- what cannot be adopted as it is --------------------------------------------------------------------------------


def unbatched(path: Path) -> Path:
    """A sequence without a batch axis: (time, features)."""
    g = Builder(17)
    y, _, _ = g.cell(g.add("Unsqueeze", [g.input("x", ["seq", FEATURES]), g.constant([1])]), linear_before_reset=1)
    g.output("y", ["seq", HIDDEN], g.add("Squeeze", [y, g.constant([1])]))
    return g.save(path)


def unbatched_saturating(path: Path) -> Path:
    """A sequence without a batch axis, in a graph that large input saturates."""
    g = Builder(17)
    y, _, _ = g.cell(g.add("Unsqueeze", [g.input("x", ["seq", FEATURES]), g.constant([1])]), operator="RNN")
    g.output("y", ["seq", HIDDEN], g.add("Squeeze", [y, g.constant([1])]))
    return g.save(path)


def positions(path: Path, count: int, dims: Dims = ("batch", "time", FEATURES)) -> Path:
    """Adds a constant to each step, and has constants for `count` steps only."""
    g = Builder(23)
    x = g.input("x", dims)
    time = g.add("Slice", [g.add("Shape", [x]), g.constant([1]), g.constant([2])])
    own = g.add("Slice", [g.weight(count, FEATURES), g.constant([0]), time, g.constant([0])])
    g.output("y", dims, g.add("Add", [x, own]))
    return g.save(path)


def repeated(path: Path) -> Path:
    """Answers each step with 65,536 times as many numbers."""
    g = Builder()
    x = g.input("x", ["batch", "time", FEATURES])
    g.output("y", ["batch", "time", 2**16 * FEATURES], g.add("Tile", [x, g.constant([1, 1, 2**16])]))
    return g.save(path)


def of_no_type(path: Path) -> Path:
    proto = onnx.load(simple(path))
    proto.graph.input[0].type.tensor_type.elem_type = 99
    onnx.save(proto, path)
    return path


def edge(path: Path) -> Path:
    """The square root of what is left up to 1: input above 1 has no answer."""
    g = Builder()
    left = g.add("Sub", [g.constant(1.0, np.float32), g.input("x", ["batch", "time", FEATURES])])
    g.output("y", ["batch", "time", FEATURES], g.add("Sqrt", [left]))
    return g.save(path)


def by_chance(path: Path, scale: float = 1.0) -> Path:
    """Adds noise of its own, as a network that samples does."""
    g = Builder(18)
    y, final, _ = g.cell(g.input("x", ["time", "batch", FEATURES]), g.input("h", [1, "batch", HIDDEN]), linear_before_reset=1)
    g.output("y", ["time", "batch", HIDDEN], g.add("Add", [y, g.add("RandomNormalLike", [y], scale=scale)]))
    g.output("h_out", [1, "batch", HIDDEN], final)
    return g.save(path)


def small_state_of_all_rows(path: Path) -> Path:
    """Outputs about 100,000 in size; a ten-thousandth of its state, which is below 1, is the mean over the batch."""
    g = Builder(19)
    y, final, _ = g.cell(g.input("x", ["time", "batch", FEATURES]), g.input("h", [1, "batch", HIDDEN]), linear_before_reset=1)
    mean = g.add("ReduceMean", [final], axes=[1], keepdims=1)
    g.output("y", ["time", "batch", HIDDEN], g.add("Mul", [y, g.constant(1e6, np.float32)]))
    g.output("h_out", [1, "batch", HIDDEN], g.add("Add", [final, g.add("Mul", [mean, g.constant(1e-4, np.float32)])]))
    return g.save(path)


def dependent_both_ways(path: Path, dims: Dims = ("d0", "d1", FEATURES)) -> Path:
    """Every output depends on the whole of both axes."""
    g = Builder(20)
    x = g.input("x", dims)
    means = [g.add("ReduceMean", [g.add("Mul", [x, x])], axes=[axis], keepdims=1) for axis in (0, 1)]
    g.output("y", dims, g.add("Add", [g.add("Add", [x, means[0]]), means[1]]))
    return g.save(path)


def endless(path: Path) -> Path:
    """A loop that practically never ends."""
    g = Builder()
    x = g.input("x", ["batch", "time", FEATURES])
    dims = ["batch", "time", FEATURES]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Tanh", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, dims),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("w", FLOAT, dims)],
    )
    g.output("y", dims, g.add("Loop", [g.constant(2**62), g.constant(True, np.bool_), x], body=body))
    return g.save(path)


def external_weight(path: Path, **entries: Any) -> Path:
    """Its only weight is in another file, which `entries` describe."""
    proto = onnx.load(simple(path))
    proto.graph.node.append(helper.make_node("Mul", ["y", "weight"], ["scaled"]))
    proto.graph.output.append(helper.make_tensor_value_info("scaled", FLOAT, ["batch", "time", FEATURES]))
    weight = TensorProto(name="weight", data_type=FLOAT, dims=[FEATURES], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        weight.external_data.add(key=key, value=str(value))
    proto.graph.initializer.append(weight)
    (path.parent / "weights").write_bytes(bytes(4 * FEATURES))
    path.write_bytes(proto.SerializeToString())  # onnx.save would look for the external file
    return path


def no_numbers(path: Path) -> Path:
    """Answers NaN to input below zero."""
    g = Builder()
    g.output("y", ["batch", "time", FEATURES], g.add("Log", [g.input("x", ["batch", "time", FEATURES])]))
    return g.save(path)


def two_sequences(path: Path) -> Path:
    g = Builder()
    a, b = (g.input(name, ["batch", "time", FEATURES]) for name in ("left", "right"))
    g.output("y", ["batch", "time", FEATURES], g.add("Add", [a, b]))
    return g.save(path)


def tokens(path: Path, *, operator: str = "GRU", dims: Dims = ("batch", "time")) -> Path:
    """A network over token numbers, as torch exports nn.Embedding before nn.GRU or nn.LSTM, with its states."""
    g = Builder()
    embedded = g.add("Gather", [g.weight(20, FEATURES), g.input("tokens", dims, INT64)])
    states = [g.input(name, [1, dims[0], HIDDEN]) for name in (("h0",) if operator == "GRU" else ("h0", "c0"))]
    more = {"linear_before_reset": 1} if operator == "GRU" else {"cell": states[1]}
    y, *finals = g.cell(g.add("Transpose", [embedded], perm=[1, 0, 2]), states[0], operator=operator, **more)
    g.output("y", [*dims, HIDDEN], g.add("Transpose", [y], perm=[1, 0, 2]))
    for name, final in zip(("hn", "cn")[: len(states)], finals, strict=False):
        g.output(name, [1, dims[0], HIDDEN], final)
    return g.save(path)


def masked(path: Path, kind: int) -> Path:
    """Takes another input for each step of each row, of this type."""
    g = Builder()
    x, other = g.input("x", ["batch", "time", FEATURES]), g.input("other", ["batch", "time", 1], kind)
    g.output("y", ["batch", "time", FEATURES], g.add("Mul", [x, g.add("Cast", [other], to=FLOAT)]))
    return g.save(path)


def lost_state(path: Path) -> Path:
    """Takes a state and returns none."""
    g = Builder()
    y, _, _ = g.cell(g.input("x", ["time", "batch", FEATURES]), g.input("h0", [1, "batch", HIDDEN]), linear_before_reset=1)
    g.output("y", ["time", "batch", HIDDEN], y)
    return g.save(path)


def forgetful(path: Path) -> Path:
    """Returns two states but not its memory of one step: the pieces of a sequence never give the outputs of the whole."""
    g = Builder()
    x = g.input("x", ["time", "batch", FEATURES])
    begin, end = g.constant([0]), g.constant([-1])
    first = g.add("Mul", [g.add("Slice", [x, begin, g.constant([1]), begin]), g.constant(0.0, np.float32)])
    before = g.add("Concat", [first, g.add("Slice", [x, begin, end, begin])], axis=0)
    y = g.add("Add", [x, before])
    finals = []
    for name in ("s", "t"):
        y, final, _ = g.cell(y, g.input(name, [1, "batch", HIDDEN]), size=HIDDEN if finals else FEATURES, linear_before_reset=1)
        finals.append(final)
    g.output("y", ["time", "batch", HIDDEN], y)
    for name, final in zip(("u", "v"), finals, strict=True):
        g.output(name, [1, "batch", HIDDEN], g.add("Tanh", [final]))
    return g.save(path)


def many_states(path: Path, count: int = 5) -> Path:
    """`count` states of one shape, none of them in a recurrent node."""
    g = Builder()
    y = g.add("MatMul", [g.input("x", ["batch", FEATURES]), g.weight(FEATURES, HIDDEN)])
    for index in range(count):
        y = g.add("Tanh", [g.add("Add", [y, g.input(f"in_{index}", ["batch", HIDDEN])])])
        g.output(f"out_{index}", ["batch", HIDDEN], y)
    g.output("y", ["batch", WIDTH], g.add("MatMul", [y, g.weight(HIDDEN, WIDTH)]))
    return g.save(path)


def bound_to_one(path: Path) -> Path:
    """A batch of 1 and a mean over it, which would mix two rows."""
    g = Builder()
    x = g.input("x", [1, "time", FEATURES])
    g.output("y", [1, "time", FEATURES], g.add("Add", [x, g.add("ReduceMean", [x], axes=[0], keepdims=1)]))
    return g.save(path)


def batch_of_four(path: Path) -> Path:
    """A batch of exactly four rows; it remembers along the other axis."""
    g = Builder()
    x = g.add("Transpose", [g.input("x", [4, "time", FEATURES])], perm=[1, 0, 2])
    y, final, _ = g.cell(x, g.input("h", [1, 4, HIDDEN]), linear_before_reset=1)
    g.output("y", [4, "time", HIDDEN], g.add("Transpose", [y], perm=[1, 0, 2]))
    g.output("h_out", [1, 4, HIDDEN], final)
    return g.save(path)


def texts(path: Path) -> Path:
    g = Builder()
    x = g.input("x", ["batch", "time", 1], TensorProto.STRING)
    g.output("y", ["batch", "time", 1], g.add("Identity", [x]), TensorProto.STRING)
    return g.save(path)


def sequence_of_tensors(path: Path) -> Path:
    g = Builder()
    g.inputs.append(helper.make_tensor_sequence_value_info("xs", FLOAT, ["batch", "time", FEATURES]))
    g.output("y", ["batch", "time", FEATURES], g.add("ConcatFromSequence", ["xs"], axis=0))
    return g.save(path)
