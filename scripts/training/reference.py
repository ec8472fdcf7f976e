"""The recurrent cells in float64 NumPy, line by line: the slow truth that every other implementation is compared with.

Owns the equations; knows nothing of torch, ONNX or batches. Sources: for the paper's GRU, `reset_before`, Han, Meng, Zhang, Yan,
"Hybrid Deep Recurrent Neural Networks for Noise Reduction of MEMS-IMU with Static and Dynamic Conditions", section 2.2, equations
8 to 12; for `reset_after` Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014, as cuDNN and
torch.nn.GRU have it; for `lstm` Hochreiter & Schmidhuber, "Long short-term memory", 1997, with the forget gate of Gers,
Schmidhuber & Cummins, "Learning to forget", 2000, without peepholes, as torch and ONNX have it; `rnn` is Elman's, with tanh.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal["reset_before", "reset_after", "lstm", "rnn"]
State = tuple[Array, ...]  # of one layer: h (hidden,), and of an LSTM c (hidden,)


@dataclass(frozen=True, slots=True)
class GRUWeights:
    """One layer. Each matrix is (hidden, hidden + inputs) and multiplies [h_prev, x]; each bias is (hidden,)."""

    kind: Literal["reset_before", "reset_after"]
    W_r: Array
    b_r: Array
    W_z: Array
    b_z: Array
    W: Array
    b: Array
    b_h: Array  # inside the reset, reset_after only; zeros otherwise


@dataclass(frozen=True, slots=True)
class LSTMWeights:
    """One layer, laid out likewise: the input, forget and output gates, and the candidate g."""

    kind: ClassVar[Literal["lstm"]] = "lstm"
    W_i: Array
    b_i: Array
    W_f: Array
    b_f: Array
    W_g: Array
    b_g: Array
    W_o: Array
    b_o: Array


@dataclass(frozen=True, slots=True)
class RNNWeights:
    """One layer, laid out likewise."""

    kind: ClassVar[Literal["rnn"]] = "rnn"
    W: Array
    b: Array


Weights = GRUWeights | LSTMWeights | RNNWeights


def step_reset_before(w: GRUWeights, h_prev: Array, x: Array) -> Array:
    """The state (hidden,) after the step x (inputs,), as in the paper."""
    hx = np.concatenate([h_prev, x])
    R = sigmoid(w.W_r @ hx + w.b_r)  # (8)
    Z = sigmoid(w.W_z @ hx + w.b_z)  # (9)
    C = np.tanh(w.W @ np.concatenate([R * h_prev, x]) + w.b)  # (10), reset before the product
    h: Array = (1 - Z) * h_prev + Z * C  # (11), Z near 1 takes the new
    return h


def step_reset_after(w: GRUWeights, h_prev: Array, x: Array) -> Array:
    """The state (hidden,) after the step x (inputs,), as in torch.nn.GRU."""
    hx = np.concatenate([h_prev, x])
    R = sigmoid(w.W_r @ hx + w.b_r)
    Z = sigmoid(w.W_z @ hx + w.b_z)
    U, V = w.W[:, : h_prev.size], w.W[:, h_prev.size :]
    C = np.tanh(V @ x + w.b + R * (U @ h_prev + w.b_h))  # reset after the product
    h: Array = (1 - Z) * C + Z * h_prev  # Z near 1 keeps the old
    return h


def step_lstm(w: LSTMWeights, h_prev: Array, c_prev: Array, x: Array) -> tuple[Array, Array]:
    """The states h and c (hidden,) after the step x (inputs,)."""
    hx = np.concatenate([h_prev, x])
    i = sigmoid(w.W_i @ hx + w.b_i)
    f = sigmoid(w.W_f @ hx + w.b_f)
    g = np.tanh(w.W_g @ hx + w.b_g)
    o = sigmoid(w.W_o @ hx + w.b_o)
    c: Array = f * c_prev + i * g
    h: Array = o * np.tanh(c)
    return h, c


def step_rnn(w: RNNWeights, h_prev: Array, x: Array) -> Array:
    """The state (hidden,) after the step x (inputs,)."""
    h: Array = np.tanh(w.W @ np.concatenate([h_prev, x]) + w.b)
    return h


def step(w: Weights, state: State, x: Array) -> State:
    """The layer's state after the step x (inputs,); its first array, h, is the input of the layer above."""
    h_prev, *c_prev = state
    if isinstance(w, LSTMWeights):
        return step_lstm(w, h_prev, c_prev[0], x)
    if isinstance(w, RNNWeights):
        return (step_rnn(w, h_prev, x),)
    return ((step_reset_before if w.kind == "reset_before" else step_reset_after)(w, h_prev, x),)


def run(layers: Sequence[Weights], inputs: Array, state: Sequence[Array]) -> tuple[Array, State]:
    """The last layer's h at every step (time, hidden), and the final states in the layout of `state`.

    inputs: (time, inputs); state: h of the layers (layers, hidden) and, if there are LSTMs, their c (LSTMs, hidden).
    """
    cells = iter(state[1]) if len(state) > 1 else iter(())
    states: list[State] = [(h, next(cells)) if w.kind == "lstm" else (h,) for w, h in zip(layers, state[0], strict=True)]
    above = []
    for x in inputs:
        for index, w in enumerate(layers):
            states[index] = step(w, states[index], x)
            x = states[index][0]
        above.append(x)
    h, c = np.array([each[0] for each in states]), [each[1] for each in states if len(each) > 1]
    return np.array(above), (h, np.array(c)) if c else (h,)


def output(W_o: Array, b_o: Array, h: Array) -> Array:
    """The output at every step, with f the identity, as for regression: h (time, hidden) -> (time, outputs)."""
    return h @ W_o.T + b_o  # (12)


def sigmoid(a: Array) -> Array:
    """The logistic function, written so that it never overflows."""
    return np.asarray(0.5 * (1 + np.tanh(a / 2)))
