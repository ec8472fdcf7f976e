"""The equations: everything else is compared with them, so they are compared with arithmetic and with torch.nn.GRU."""

from dataclasses import replace
from math import exp, tanh

import numpy as np
import pytest
import torch

from scripts.training import reference
from scripts.training.reference import Array, Variant, Weights

HIDDEN, INPUTS = 3, 2


def draw(rng: np.random.Generator, *, inputs: int = INPUTS) -> Weights:
    matrices = (rng.standard_normal((HIDDEN, HIDDEN + inputs)) for _ in range(3))
    W_r, W_z, W = matrices
    b_r, b_z, b, b_h = rng.standard_normal((4, HIDDEN))
    return Weights(W_r=W_r, b_r=b_r, W_z=W_z, b_z=b_z, W=W, b=b, b_h=b_h)


def by_torch(layers: torch.nn.GRU) -> list[Weights]:
    """torch keeps two biases for each gate; they are one sum, save within the reset."""
    found = []
    for index in range(layers.num_layers):
        U, V, c, b = (
            getattr(layers, f"{name}_l{index}").detach().numpy() for name in ("weight_hh", "weight_ih", "bias_hh", "bias_ih")
        )
        rows = np.concatenate([U, V], axis=1).reshape(3, HIDDEN, -1)
        c, b = c.reshape(3, HIDDEN), b.reshape(3, HIDDEN)
        found.append(Weights(W_r=rows[0], b_r=c[0] + b[0], W_z=rows[1], b_z=c[1] + b[1], W=rows[2], b=b[2], b_h=c[2]))
    return found


def test_one_step_is_what_the_paper_says() -> None:
    """By hand, number by number: two units, one input. The only truth that is not code of ours or torch's."""
    h, g, x = 0.5, -0.25, 0.8
    weights = Weights(
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


@pytest.mark.parametrize(
    ("variant", "b_z", "takes_the_new"),
    [("reset_before", 50.0, True), ("reset_before", -50.0, False), ("reset_after", 50.0, False), ("reset_after", -50.0, True)],
)
def test_update_gate_chooses_between_old_and_new(variant: Variant, b_z: float, takes_the_new: bool) -> None:
    """The paper's Z near 1 takes the new, torch's keeps the old: mixed up, a model forgets what it should remember."""
    rng = np.random.default_rng(0)
    h_prev, candidate = rng.uniform(-0.9, 0.9, (2, HIDDEN))
    drawn = draw(rng)
    weights = replace(drawn, b_z=np.full(HIDDEN, b_z), W=np.zeros_like(drawn.W), b=np.arctanh(candidate), b_h=np.zeros(HIDDEN))
    after = reference.STEPS[variant](weights, h_prev, rng.standard_normal(INPUTS))
    np.testing.assert_allclose(after, candidate if takes_the_new else h_prev, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 3])
def test_reset_after_is_the_cell_of_torch(layers: int) -> None:
    """Who trains with torch.nn.GRU elsewhere finds the same numbers here."""
    torch.manual_seed(layers)
    gru = torch.nn.GRU(INPUTS, HIDDEN, layers, dtype=torch.float64)
    inputs, h0 = torch.randn(9, INPUTS, dtype=torch.float64), torch.randn(layers, HIDDEN, dtype=torch.float64)
    expected, expected_final = (tensor.detach().numpy() for tensor in gru(inputs, h0))
    above, final = reference.run(by_torch(gru), inputs.numpy(), h0.numpy(), "reset_after")
    np.testing.assert_allclose(above, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(final, expected_final, rtol=0, atol=1e-14)


def both_variants(weights: Weights, h_prev: Array, x: Array) -> tuple[Array, Array]:
    """The two cells with the update gate the same way round and no bias within the reset: only the reset differs."""
    turned = replace(weights, W_z=-weights.W_z, b_z=-weights.b_z, b_h=np.zeros(HIDDEN))
    return reference.step_reset_before(weights, h_prev, x), reference.step_reset_after(turned, h_prev, x)


def test_reset_before_and_reset_after_are_different_functions() -> None:
    """No renaming of weights turns one into the other, so a graph must say which one it is."""
    rng = np.random.default_rng(1)
    weights, h_prev, x = draw(rng), rng.uniform(-0.9, 0.9, HIDDEN), rng.standard_normal(INPUTS)
    before, after = both_variants(weights, h_prev, x)
    assert np.abs(before - after).max() > 0.01
    open_reset = replace(weights, b_r=np.full(HIDDEN, 50.0))
    np.testing.assert_allclose(*both_variants(open_reset, h_prev, x), rtol=0, atol=1e-12)  # it is the reset that differs


@pytest.mark.parametrize("variant", ["reset_before", "reset_after"])
def test_a_run_is_its_steps_one_after_the_other(variant: Variant) -> None:
    """Each layer feeds the one above within a step, and a run may go on from where another ended."""
    rng = np.random.default_rng(2)
    lower, upper = draw(rng), draw(rng, inputs=HIDDEN)
    inputs, (h, g) = rng.standard_normal((5, INPUTS)), rng.uniform(-0.9, 0.9, (2, HIDDEN))
    state, step = np.array([h, g]), reference.STEPS[variant]
    expected = []
    for x in inputs:
        h = step(lower, h, x)
        g = step(upper, g, h)
        expected.append(g)
    above, final = reference.run([lower, upper], inputs, state, variant)
    np.testing.assert_array_equal(above, expected)
    np.testing.assert_array_equal(final, [h, g])
    first, between = reference.run([lower, upper], inputs[:2], state, variant)
    second, final = reference.run([lower, upper], inputs[2:], between, variant)
    np.testing.assert_array_equal(np.concatenate([first, second]), expected)
    np.testing.assert_array_equal(final, [h, g])


def test_a_run_leaves_its_initial_state_alone() -> None:
    """The same state starts several runs: a fork of a stream, the pieces of a check."""
    rng = np.random.default_rng(3)
    state = rng.uniform(-0.9, 0.9, (1, HIDDEN))
    kept = state.copy()
    reference.run([draw(rng)], rng.standard_normal((4, INPUTS)), state)
    np.testing.assert_array_equal(state, kept)


def test_output_is_linear_in_the_state_at_every_step() -> None:
    """f is the identity: a rate is not squeezed between 0 and 1."""
    h = np.array([[1.0, 2.0], [3.0, -4.0]])
    actual = reference.output(np.array([[10.0, 1.0]]), np.array([0.5]), h)
    np.testing.assert_array_equal(actual, [[12.5], [26.5]])


def test_sigmoid_neither_overflows_nor_loses_its_middle() -> None:
    """Warnings are errors here: exp(1e4) would raise."""
    a = np.array([-1e4, -2.0, 0.0, 2.0, 1e4])
    np.testing.assert_allclose(reference.sigmoid(a), [0, 1 / (1 + exp(2)), 0.5, 1 / (1 + exp(-2)), 1], rtol=0, atol=1e-15)
