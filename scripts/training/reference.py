"""The paper's GRU in float64 NumPy, line by line: the slow truth that every other implementation is compared with.

Source: Han, Meng, Zhang, Yan, "Hybrid Deep Recurrent Neural Networks for Noise Reduction of MEMS-IMU with Static and
Dynamic Conditions", section 2.2, equations 8 to 12. Owns the equations; knows nothing of torch, ONNX or batches.
The variant `reset_after` is torch.nn.GRU's cell (Cho et al., 2014, as implemented by cuDNN), written the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Variant = Literal["reset_before", "reset_after"]


@dataclass(frozen=True, slots=True)
class Weights:
    """One layer. Each matrix is (hidden, hidden + inputs) and multiplies [h_prev, x]; each bias is (hidden,)."""

    W_r: Array
    b_r: Array
    W_z: Array
    b_z: Array
    W: Array
    b: Array
    b_h: Array  # inside the reset, reset_after only; zeros otherwise


def step_reset_before(w: Weights, h_prev: Array, x: Array) -> Array:
    """The state (hidden,) after the step x (inputs,), as in the paper."""
    hx = np.concatenate([h_prev, x])
    R = sigmoid(w.W_r @ hx + w.b_r)  # (8)
    Z = sigmoid(w.W_z @ hx + w.b_z)  # (9)
    C = np.tanh(w.W @ np.concatenate([R * h_prev, x]) + w.b)  # (10), reset before the product
    h: Array = (1 - Z) * h_prev + Z * C  # (11), Z near 1 takes the new
    return h


def step_reset_after(w: Weights, h_prev: Array, x: Array) -> Array:
    """The state (hidden,) after the step x (inputs,), as in torch.nn.GRU."""
    hx = np.concatenate([h_prev, x])
    R = sigmoid(w.W_r @ hx + w.b_r)
    Z = sigmoid(w.W_z @ hx + w.b_z)
    U, V = w.W[:, : h_prev.size], w.W[:, h_prev.size :]
    C = np.tanh(V @ x + w.b + R * (U @ h_prev + w.b_h))  # reset after the product
    h: Array = (1 - Z) * C + Z * h_prev  # Z near 1 keeps the old
    return h


STEPS = {"reset_before": step_reset_before, "reset_after": step_reset_after}


def run(layers: Sequence[Weights], inputs: Array, state: Array, variant: Variant = "reset_before") -> tuple[Array, Array]:
    """The last layer's h at every step (time, hidden), and the final state of each layer (layers, hidden).

    inputs: (time, inputs); state: (layers, hidden).
    """
    h = list(state)
    above = []
    for x in inputs:
        for index, weights in enumerate(layers):
            x = h[index] = STEPS[variant](weights, h[index], x)
        above.append(x)
    return np.array(above), np.array(h)


def output(W_o: Array, b_o: Array, h: Array) -> Array:
    """The output at every step, with f the identity, as for regression: h (time, hidden) -> (time, outputs)."""
    return h @ W_o.T + b_o  # (12)


def sigmoid(a: Array) -> Array:
    """The logistic function, written so that it never overflows."""
    return np.asarray(0.5 * (1 + np.tanh(a / 2)))
