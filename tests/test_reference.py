"""The equations are what everything else is compared with, so they are compared with arithmetic and with torch's own cells."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import exp, tanh
from typing import Any

import numpy as np
import pytest
import torch

from scripts.training import reference
from scripts.training.reference import Array, GRUWeights, LSTMWeights, RNNWeights, State, Weights

HIDDEN, INPUTS = 3, 2
KINDS = ["reset_before", "reset_after", "lstm", "rnn"]


def draw(rng: np.random.Generator, kind: Any = "reset_before", *, inputs: int = INPUTS) -> Any:
    """Random weights, with a bias inside the reset only for reset_after."""
    matrices = [rng.standard_normal((HIDDEN, HIDDEN + inputs)) for _ in range({"lstm": 4, "rnn": 1}.get(kind, 3))]
    biases = rng.standard_normal((4, HIDDEN))
    pairs = [part for pair in zip(matrices, biases, strict=False) for part in pair]
    if kind == "lstm":
        return LSTMWeights(*pairs)
    if kind == "rnn":
        return RNNWeights(*pairs)
    return GRUWeights(kind, *pairs, b_h=biases[3] * (kind == "reset_after"))


def start(rng: np.random.Generator, kinds: Sequence[str]) -> State:
    """Random states for layers of these kinds, in the form that a run takes."""
    lstms = kinds.count("lstm")
    h, c = rng.uniform(-0.9, 0.9, (len(kinds), HIDDEN)), rng.uniform(-2, 2, (lstms, HIDDEN))
    return (h, c) if lstms else (h,)


def by_torch(layers: torch.nn.RNNBase) -> list[Weights]:
    """torch keeps two biases for each gate; they are added, except inside the reset."""
    found: list[Weights] = []
    for index in range(layers.num_layers):
        U, V, c, b = (
            getattr(layers, f"{name}_l{index}").detach().numpy() for name in ("weight_hh", "weight_ih", "bias_hh", "bias_ih")
        )
        rows = np.concatenate([U, V], axis=1).reshape(-1, HIDDEN, U.shape[1] + V.shape[1])
        c, b = c.reshape(-1, HIDDEN), b.reshape(-1, HIDDEN)
        pairs = [part for pair in zip(rows, c + b, strict=True) for part in pair]
        if isinstance(layers, torch.nn.LSTM):
            found.append(LSTMWeights(*pairs))
        elif isinstance(layers, torch.nn.GRU):
            found.append(GRUWeights("reset_after", *pairs[:5], b=b[2], b_h=c[2]))
        else:
            found.append(RNNWeights(*pairs))
    return found


def test_one_step_is_what_the_paper_says() -> None:
    """By hand, number by number: two units, one input. The only truth that comes neither from our code nor from torch."""
    h, g, x = 0.5, -0.25, 0.8
    weights = GRUWeights(
        "reset_before",
        W_r=np.array([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]]),
        b_r=np.array([0.01, -0.02]),
        W_z=np.array([[-0.7, 0.8, 0.9], [1.0, -1.1, 1.2]]),
        b_z=np.array([0.03, 0.04]),
        W=np.array([[1.3, -1.4, 0.5], [-0.6, 0.7, 1.8]]),
        b=np.array([-0.05, 0.06]),
        b_h=np.zeros(2),
    )
    r_1 = 1 / (1 + exp(-(0.1 * h - 0.2 * g + 0.3 * x + 0.01)))
    r_2 = 1 / (1 + exp(-(0.4 * h + 0.5 * g - 0.6 * x - 0.02)))
    z_1 = 1 / (1 + exp(-(-0.7 * h + 0.8 * g + 0.9 * x + 0.03)))
    z_2 = 1 / (1 + exp(-(1.0 * h - 1.1 * g + 1.2 * x + 0.04)))
    c_1 = tanh(1.3 * (r_1 * h) - 1.4 * (r_2 * g) + 0.5 * x - 0.05)
    c_2 = tanh(-0.6 * (r_1 * h) + 0.7 * (r_2 * g) + 1.8 * x + 0.06)
    expected = [(1 - z_1) * h + z_1 * c_1, (1 - z_2) * g + z_2 * c_2]
    actual = reference.step_reset_before(weights, np.array([h, g]), np.array([x]))
    np.testing.assert_allclose(actual, expected, rtol=1e-14)


def test_one_step_of_an_lstm_is_what_its_authors_say() -> None:
    """By hand too: one unit, one input, and a cell value that h could never reach."""
    h, c, x = -0.3, 1.7, 0.6
    weights = LSTMWeights(
        W_i=np.array([[0.2, -0.3]]),
        b_i=np.array([0.1]),
        W_f=np.array([[0.4, 0.5]]),
        b_f=np.array([1.0]),
        W_g=np.array([[-0.6, 0.7]]),
        b_g=np.array([-0.2]),
        W_o=np.array([[0.8, -0.9]]),
        b_o=np.array([0.3]),
    )
    i = 1 / (1 + exp(-(0.2 * h - 0.3 * x + 0.1)))
    f = 1 / (1 + exp(-(0.4 * h + 0.5 * x + 1.0)))
    g = tanh(-0.6 * h + 0.7 * x - 0.2)
    o = 1 / (1 + exp(-(0.8 * h - 0.9 * x + 0.3)))
    after = f * c + i * g
    actual = reference.step_lstm(weights, np.array([h]), np.array([c]), np.array([x]))
    np.testing.assert_allclose(actual, [[o * tanh(after)], [after]], rtol=1e-14)


def test_one_step_of_a_plain_rnn_is_a_tanh_of_a_sum() -> None:
    """By hand too."""
    weights = RNNWeights(W=np.array([[0.5, -0.25, 2.0], [1.5, 0.75, -1.0]]), b=np.array([0.1, -0.2]))
    expected = [tanh(0.5 * 0.3 - 0.25 * 0.4 + 2.0 * 0.2 + 0.1), tanh(1.5 * 0.3 + 0.75 * 0.4 - 0.2 - 0.2)]
    np.testing.assert_allclose(reference.step_rnn(weights, np.array([0.3, 0.4]), np.array([0.2])), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("variant", "b_z", "takes_the_new"),
    [("reset_before", 50.0, True), ("reset_before", -50.0, False), ("reset_after", 50.0, False), ("reset_after", -50.0, True)],
)
def test_update_gate_chooses_between_old_and_new(variant: str, b_z: float, takes_the_new: bool) -> None:
    """The paper's Z near 1 takes the new value, torch's keeps the old: if mixed up, a model forgets what it should remember."""
    rng = np.random.default_rng(0)
    h_prev, candidate = rng.uniform(-0.9, 0.9, (2, HIDDEN))
    drawn = draw(rng, variant)
    weights = replace(drawn, b_z=np.full(HIDDEN, b_z), W=np.zeros_like(drawn.W), b=np.arctanh(candidate), b_h=np.zeros(HIDDEN))
    (after,) = reference.step(weights, (h_prev,), rng.standard_normal(INPUTS))
    np.testing.assert_allclose(after, candidate if takes_the_new else h_prev, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("module", [torch.nn.GRU, torch.nn.LSTM, torch.nn.RNN], ids=lambda module: module.__name__)
def test_other_cells_are_those_of_torch(module: type[torch.nn.RNNBase], layers: int) -> None:
    """A user who trains with torch.nn elsewhere gets the same numbers here."""
    torch.manual_seed(layers)
    made = module(INPUTS, HIDDEN, layers, dtype=torch.float64)
    inputs, count = torch.randn(9, INPUTS, dtype=torch.float64), 2 if module is torch.nn.LSTM else 1
    state = tuple(torch.randn(layers, HIDDEN, dtype=torch.float64) for _ in range(count))
    with torch.no_grad():
        expected, end = made(inputs, state if count == 2 else state[0])
    above, final = reference.run(by_torch(made), inputs.numpy(), [each.numpy() for each in state])
    np.testing.assert_allclose(above, expected, rtol=0, atol=1e-14)
    assert len(final) == count
    for actual, wanted in zip(final, end if count == 2 else (end,), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-14)


def both_variants(weights: GRUWeights, h_prev: Array, x: Array) -> tuple[Array, Array]:
    """Both cells with the same convention for the update gate and no bias inside the reset: only the reset differs."""
    turned = replace(weights, W_z=-weights.W_z, b_z=-weights.b_z, b_h=np.zeros(HIDDEN))
    return reference.step_reset_before(weights, h_prev, x), reference.step_reset_after(turned, h_prev, x)


def test_reset_before_and_reset_after_are_different_functions() -> None:
    """No conversion of weights turns one into the other, so a graph must say which one it is."""
    rng = np.random.default_rng(1)
    weights, h_prev, x = draw(rng), rng.uniform(-0.9, 0.9, HIDDEN), rng.standard_normal(INPUTS)
    before, after = both_variants(weights, h_prev, x)
    assert np.abs(before - after).max() > 0.01
    open_reset = replace(weights, b_r=np.full(HIDDEN, 50.0))
    np.testing.assert_allclose(*both_variants(open_reset, h_prev, x), rtol=0, atol=1e-12)  # with open resets they agree


@pytest.mark.parametrize(("lower", "upper"), list(product(KINDS, KINDS)), ids="-".join)
def test_a_run_is_its_steps_one_after_the_other(lower: str, upper: str) -> None:
    """In each step, a layer feeds the one above, whatever their cells; a run may also start where another ended."""
    rng = np.random.default_rng(2)
    kinds = [lower, upper]
    layers = [draw(rng, lower), draw(rng, upper, inputs=HIDDEN)]
    inputs, state = rng.standard_normal((5, INPUTS)), start(rng, kinds)
    cells = list(state[1]) if len(state) > 1 else []
    below: State = (state[0][0], cells.pop(0)) if lower == "lstm" else (state[0][0],)
    above: State = (state[0][1], cells.pop(0)) if upper == "lstm" else (state[0][1],)
    expected = []
    for x in inputs:
        below = reference.step(layers[0], below, x)
        above = reference.step(layers[1], above, below[0])
        expected.append(above[0])
    wanted = [np.array([below[0], above[0]]), *([np.array([*below[1:], *above[1:]])] if "lstm" in kinds else [])]
    h, final = reference.run(layers, inputs, state)
    np.testing.assert_array_equal(h, expected)
    first, between = reference.run(layers, inputs[:2], state)
    second, end = reference.run(layers, inputs[2:], between)
    np.testing.assert_array_equal(np.concatenate([first, second]), expected)
    for found in (final, end):
        assert len(found) == len(wanted)
        for actual, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(actual, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_its_initial_state_alone(kind: str) -> None:
    """One state may start several runs: forks of a stream, or the pieces of a check."""
    rng = np.random.default_rng(3)
    state = start(rng, [kind])
    kept = [each.copy() for each in state]
    reference.run([draw(rng, kind)], rng.standard_normal((4, INPUTS)), state)
    for actual, before in zip(state, kept, strict=True):
        np.testing.assert_array_equal(actual, before)


def test_output_is_linear_in_the_state_at_every_step() -> None:
    """The output has no activation: a rate must not be squeezed between 0 and 1."""
    h = np.array([[1.0, 2.0], [3.0, -4.0]])
    actual = reference.output(np.array([[10.0, 1.0]]), np.array([0.5]), h)
    np.testing.assert_array_equal(actual, [[12.5], [26.5]])


def test_sigmoid_neither_overflows_nor_loses_its_middle() -> None:
    """Warnings are errors here: exp(1e4) would raise."""
    a = np.array([-1e4, -2.0, 0.0, 2.0, 1e4])
    np.testing.assert_allclose(reference.sigmoid(a), [0, 1 / (1 + exp(2)), 0.5, 1 / (1 + exp(-2)), 1], rtol=0, atol=1e-15)
